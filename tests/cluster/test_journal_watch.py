"""That journals are not written is told by every bed, whoever serves it, until they are; against a real server."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import needs
import pytest
from bus_lines import RATE_HZ, Told, keeping, messages
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.bus import Bus, BusError, Kept, open_bus
from ecgedge.cluster.journal_watch import JournalWatch, Written
from ecgedge.cluster.stream_reader import Mark
from ecgedge.errors import RecordError
from ecgedge.journal import read_journal, verify_journal
from ecgedge.sim import Simulator

needs.nats()
CHILD = Path(__file__).parents[1] / "support" / "keeper_child.py"
PATIENCE_S = 2.0


# --- what follows from what a node sees ---


def said(after, *, made="a", why=None, revision=1):
    return Kept(Written(Mark(made, after), why).to_bytes(), revision)


def watched(looks, *, patience_s=60.0):
    """A watch that has looked: at seconds, to where the stream had come, and what its writer said."""
    watch = JournalWatch(patience_s)
    for now_s, last, kept in looks:
        watch.heard(now_s, Mark("a", last), kept)
    return watch


def test_who_keeps_up_is_no_trouble():
    # Each 2 s a look, each 5 s all is brought to the disk, ten entries a second; for ten minutes.
    looks = [(t, 10 * t, said(10 * (t // 5 * 5), revision=t // 5)) for t in range(0, 600, 2)]
    for n in range(1, len(looks)):
        watch = watched(looks[:n])
        assert (watch.is_known, watch.why) == (True, None)


def test_patience_is_that_of_the_oldest_entry_and_no_longer():
    looks = [
        (t, 10 * t, said(100, revision=1)) for t in range(0, 74, 2)
    ]  # what came behind 10 s is not written
    assert watched(looks[:-1]).why is None  # at 70 s what was seen at 12 s has waited for 58 s
    assert "any more; start ecgedge cluster journal again" in watched([*looks, (74, 740, said(100))]).why


def test_what_is_told_is_taken_back_where_half_of_the_patience_is_left():
    def look(t, lag_s):
        return (t, 10 * t, said(10 * max(0, t - lag_s), revision=t))

    behind = [look(t, 90) for t in range(0, 200, 2)]
    assert watched(behind).why == (
        "entries have waited longer than 60 s; look at the disk and the load of ecgedge cluster journal"
    )
    edge = [*behind, *[look(t, 40) for t in range(200, 300, 2)]]
    assert watched(edge).why is not None
    assert watched([*edge, *[look(t, 20) for t in range(300, 310, 2)]]).why is None


STEPS = st.lists(st.tuples(st.integers(1, 29), st.integers(0, 5), st.integers(0, 12)), max_size=60)


@given(steps=STEPS)
def test_it_forgets_nothing_that_decides(steps):
    """Beside a watch, all that it ever saw: for how long has the oldest entry that is not written been seen?"""
    watch, seen, now_s, last, after, failing = JournalWatch(60.0), [], 0, 0, 0, None
    for took_s, came, written in steps:
        now_s, last = now_s + took_s, last + came
        moved = min(last, after + written)
        watch.heard(now_s, Mark("a", last), said(moved, revision=now_s))
        waited_s = max((now_s - at_s for at_s, to in seen if to > moved), default=0)
        if waited_s > 60:
            failing = True
        elif waited_s < 30 and (moved >= last or any(after < to <= moved for _, to in seen)):
            failing = False
        seen.append((now_s, last))
        after = moved
        assert (watch.is_known, watch.why is not None) == (failing is not None, bool(failing))
    assert len(watch._seen) <= 62  # one a second of the patience, and one beyond


def test_time_in_which_the_node_looked_at_nothing_counts_for_nobody():
    before = [(t, 100, said(50)) for t in range(0, 60, 2)]
    stood_still = [*before, (1000, 200, said(50)), (1050, 200, said(50))]  # a minute, with what came before
    assert watched(before).why is watched(stood_still).why is None
    assert watched([*before, (60, 100, said(50)), (62, 100, said(50))]).why is not None


def test_what_was_told_is_not_taken_back_by_time_in_which_nothing_was_seen():
    failed = [(t, 100, said(50)) for t in range(0, 80, 2)]
    assert watched([*failed, (1000, 200, said(50)), (1002, 200, said(50))]).why is not None
    assert watched([*failed, (1000, 200, said(200, revision=2))]).why is None


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (lambda _: None, "nobody writes journals; start ecgedge cluster journal, or serve with"),
        (lambda _: said(0), "nobody writes the journals any more; start ecgedge cluster journal again"),
        (lambda t: Kept(b"[" * 5000, t), "how the journals fare cannot be read"),
        (lambda t: said(9, made="b", revision=t), "reads a stream that is gone; start ecgedge cluster"),
        (lambda t: said(0, why="disk full", revision=t), "have waited longer than 60 s; disk full"),
    ],
)
def test_the_reason_says_what_to_do(kept, why):
    assert why in watched([(t, 5, kept(t)) for t in range(0, 64, 2)]).why


def test_another_stream_begins_anew():
    watch = watched([(t, 100, said(50)) for t in range(0, 60, 2)])
    watch.heard(61.0, Mark("b", 3), said(3, made="b", revision=2))
    assert (watch.is_known, watch.why) == (True, None)


@given(garbage=st.binary(max_size=100))
def test_garbage_is_no_state(garbage):
    assert Written.from_bytes(garbage) is None


def test_nobody_is_meant_to_write():
    watch = JournalWatch(0.0)
    asyncio.run(watch.look(None))  # it asks no bus
    assert (watch.is_known, watch.why) == (True, None)


# --- beds, a bus, and who writes ---


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("ecgedge.cluster.ward_node.RENEW_S", 0.1)
    monkeypatch.setattr("ecgedge.cluster.journal_keeper.SYNC_S", 0.1)
    monkeypatch.setattr("ecgedge.cluster.journal_keeper.AGAIN_S", 0.1)


@asynccontextmanager
async def child(uri, folder):
    command = [sys.executable, str(CHILD), uri, str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def play(bus, bed, begin_s=0.0, end_s=20.0):
    samples_mv = Simulator("stable", seed=3, rate_hz=RATE_HZ).read(round(end_s * RATE_HZ))
    for k, message in enumerate(messages(samples_mv)):
        if k * 0.4 >= begin_s:
            await bus.publish(bed, message, number=k)


def failures(told, bed):
    return [line for line in told.of(bed) if line.get("condition") == "JOURNAL_FAILED"]


def is_now(bed, presence):
    """Whether the last that a bed has told of its journal is this."""
    return lambda told: [line["presence"] for line in failures(told, bed)][-1:] == [presence]


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.02)


def test_that_nobody_has_ever_written_is_told_until_someone_does(with_node, server, quick, tmp_path):
    async def test(bus, new_node, said):
        told, heard = await Told.follow(bus), []
        await (await new_node(["never"], journal_patience_s=PATIENCE_S)).take(["never"])
        await play(bus, "never")
        await told.until(is_now("never", "on"))
        text = failures(told, "never")[0]["text"]
        assert "nobody writes journals; start ecgedge cluster journal" in text
        assert "monitoring goes on" in text
        async with keeping(server.uri, tmp_path, heard):
            await told.until(is_now("never", "off"))
            path = tmp_path / "never.jsonl"
            await until(lambda: len(alarms_in(path)) >= 2)
        assert verify_journal(path).ok
        assert [entry["presence"] for entry in alarms_in(path)] == ["on", "off"]
        assert heard == said == []

    with_node(test)


def alarms_in(path):
    return [e.event for e in read_journal(path) if e.event.get("condition") == "JOURNAL_FAILED"]


def test_a_writer_that_is_killed_is_missed_over_the_move_of_a_bed(with_node, server, quick, tmp_path):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        first = await new_node(["moved"], journal_patience_s=PATIENCE_S)
        await first.take(["moved"])
        async with child(server.uri, tmp_path):
            await play(bus, "moved")
            # It may have come on before there was anyone who writes.
            await until(lambda: first._shared.journals.is_known and first._shared.journals.why is None)
            await until((tmp_path / "moved.jsonl").exists)
        before = len(failures(told, "moved"))
        await told.until(lambda told: is_now("moved", "on")(told) and len(failures(told, "moved")) > before)
        assert "any more; start ecgedge cluster journal again" in failures(told, "moved")[-1]["text"]
        await first.release(["moved"])
        second = await new_node(["moved"], journal_patience_s=PATIENCE_S)
        await second.take(["moved"])
        await until(lambda: second._shared.journals.is_known)
        assert "JOURNAL_FAILED" in second.status()["moved"]["alarms"]
        async with child(server.uri, tmp_path):
            await told.until(is_now("moved", "off"))
        assert said == []

    with_node(test)


class MutedOfJournals(Bus):
    """A bus that keeps every checkpoint, and takes no JOURNAL_FAILED: as of a node that dies between."""

    async def tell(self, bed, line, **how):
        if b"JOURNAL_FAILED" in line:
            raise BusError("it is muted")
        await super().tell(bed, line, **how)


def test_what_a_node_knew_and_did_not_tell_its_follower_tells(
    with_node, server, quick, tmp_path, monkeypatch
):
    monkeypatch.setattr("ecgedge.cluster.ward_node.LEAVE_S", 0.2)  # the first one has nothing to wait for

    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        own = await open_bus(server.uri)
        own.__class__ = MutedOfJournals
        await (await new_node(["dies"], own=own, journal_patience_s=PATIENCE_S)).take(["dies"])
        await play(bus, "dies")
        await until_kept(bus, "dies", b'\\"condition\\":\\"JOURNAL_FAILED\\"')
        assert failures(told, "dies") == []
        # This one cannot know it yet by itself.
        second = await new_node(["dies"], journal_patience_s=3600.0)
        await second.take(["dies"])
        await told.until(is_now("dies", "on"))
        await play(bus, "dies", begin_s=20.0, end_s=40.0)
        await told.until(
            lambda told: any(x["type"] == "estimate" and x["t_s"] > 38.0 for x in told.of("dies"))
        )
        assert "JOURNAL_FAILED" in second.status()["dies"]["alarms"]

    with_node(test)


async def until_kept(bus, bed, text):
    while True:
        kept = await bus.checkpoint(bed)
        if kept is not None and text in kept.data:
            return
        await asyncio.sleep(0.02)


def test_a_bed_whose_own_journal_fails_says_so_still_where_all_others_are_written(
    with_node, server, quick, tmp_path
):
    async def test(bus, new_node, said):
        told, heard = await Told.follow(bus), []
        (tmp_path / "bad.jsonl").mkdir()
        first = await new_node(["bad"], journal_patience_s=PATIENCE_S)
        await first.take(["bad"])
        async with keeping(server.uri, tmp_path, heard):
            await play(bus, "bad")
            await told.until(lambda told: any("bad.jsonl" in line["text"] for line in failures(told, "bad")))
            await first.release(["bad"])
            second = await new_node(["bad"], journal_patience_s=PATIENCE_S)
            await second.take(["bad"])
            # Whoever writes is there, and only this one is behind: the node finds nothing wrong with the others.
            await until(lambda: second._shared.journals.is_known and second._shared.journals.why is None)
            await until(lambda: second._beds["bad"]._said.entries.behind is None)
            assert "JOURNAL_FAILED" in second.status()["bad"]["alarms"]
            (tmp_path / "bad.jsonl").rmdir()
            await told.until(is_now("bad", "off"))
        assert verify_journal(tmp_path / "bad.jsonl").ok

    with_node(test)


def test_what_is_written_and_does_not_come_to_the_disk_is_a_trouble_of_all(
    with_node, server, quick, tmp_path, monkeypatch
):
    async def test(bus, new_node, said):
        told, heard = await Told.follow(bus), []
        await (await new_node(["sync"], journal_patience_s=PATIENCE_S)).take(["sync"])

        def full(_):
            raise RecordError("cannot sync: no space left")

        with monkeypatch.context() as disk:
            disk.setattr("ecgedge.cluster.journal_files.JournalFile.sync", full)
            async with keeping(server.uri, tmp_path, heard):
                await play(bus, "sync")
                text = "entries have waited longer than 2 s; cannot sync: no space left"
                await told.until(lambda told: any(text in line["text"] for line in failures(told, "sync")))
                disk.undo()
                await told.until(is_now("sync", "off"))

    with_node(test)
