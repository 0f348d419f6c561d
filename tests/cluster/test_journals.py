"""Journals of a cluster: whatever node dies, each event is in the file once, in its order; against a real server."""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import needs
import numpy as np
import pytest
from bus_lines import RATE_HZ, TOLD_AGAIN, Told, facts, keeping, messages, obeyed_alone, put, stream_of

from ecgedge.cluster.bus import open_bus
from ecgedge.cluster.tell import tell_bed
from ecgedge.journal import read_journal, verify_journal
from ecgedge.sim import Simulator

needs.nats()
CHILD = Path(__file__).parents[1] / "support" / "node_child.py"
SECONDS = 60
NURSE = "Nurse Seven"
NOT_SAID = ("journal", "reopened", "recovered", "part", "input")


@pytest.fixture(scope="module")
def ecg():
    """A patient whose V3 falls off after 20 s."""
    samples_mv = Simulator("stable", seed=3, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    samples_mv[8, round(20.0 * RATE_HZ) :] = float("nan")
    return samples_mv


async def put_all(bus, bed, sent, first=0, *, pause_s=0.0):
    for k, message in enumerate(sent, first):
        last = await put(bus, bed, message, k)
        await asyncio.sleep(pause_s)
    return last


def to(bed, t_s):
    return lambda told: any(x["type"] == "estimate" and x["t_s"] >= t_s for x in told.of(bed))


def said_in(path):
    """Every event of a journal in its order, without what an opening tells again, and without the wall clock's."""
    found, is_telling_again = [], False
    for entry in read_journal(path):
        event = dict(entry.event)
        if event["type"] == "reopened":
            is_telling_again = True
        elif event.get("call") == "model_late":  # the last thing that an owner does before samples come
            is_telling_again = False
        elif event["type"] not in NOT_SAID and not is_telling_again:
            found.append(event)
    return found


def plain(lines, until_s):
    """Lines in their order, without the bed, the wall clock's, and what comes behind the samples."""
    return [
        {k: v for k, v in line.items() if k not in ("bed", "latency_ms")}
        for line in json.loads(json.dumps(lines))
        if line["t_s"] <= until_s
        and line.get("condition") != "MODEL_LATE"
        and TOLD_AGAIN not in line.get("text", "")
    ]


async def until_written(path, t_s):
    while not path.exists() or not any(e.event.get("t_s", 0.0) >= t_s for e in read_journal(path)):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_node_is_killed_and_events_acknowledgement_and_journal_are_those_of_a_bed_alone(
    server, formula_bundle, variants, ecg, tmp_path, seed
):
    bed, path = f"icu.{seed}", tmp_path / f"icu.{seed}.jsonl"
    rng, sent, said = np.random.default_rng(seed), messages(ecg), []

    @contextmanager
    def child():
        command = [sys.executable, str(CHILD), server.uri, str(formula_bundle.source), bed]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.communicate()

    async def main():
        bus = await open_bus(server.uri)
        told = await Told.follow(bus)
        async with keeping(server.uri, tmp_path, said):
            with child():
                publishing = asyncio.create_task(put_all(bus, bed, sent, pause_s=0.03))
                await told.until(to(bed, 29.0))
                asked = {"condition": "LEAD_OFF", "user": NURSE}
                asking = asyncio.create_task(tell_bed(bus, bed, "acknowledge", asked))
                await asyncio.sleep(rng.uniform(0.0, 0.03))
            with child():
                answer, last = await asking, await publishing
                await told.until(to(bed, SECONDS - 1.0))
                await until_written(path, SECONDS - 1.0)
            deliveries = await stream_of(bus, bed, last)
        await bus.close()
        return told, answer, deliveries

    told, answer, deliveries = asyncio.run(asyncio.wait_for(main(), 120.0))
    expected = obeyed_alone(formula_bundle, variants, bed, deliveries)
    assert (answer["ok"], answer["user"]) == (True, NURSE)
    assert facts(told.of(bed), until_s=SECONDS - 1) == facts(expected, until_s=SECONDS - 1)
    assert plain(said_in(path), SECONDS - 1) == plain(expected, SECONDS - 1)
    assert verify_journal(path).ok
    entries = [entry.event for entry in read_journal(path)]
    asked = [entry for entry in entries if entry.get("call") == "acknowledge"]
    assert [(entry["condition"], entry["user"]) for entry in asked] == [("LEAD_OFF", NURSE)]
    assert [entry["type"] for entry in entries if "facts" in entry] == ["journal", "reopened"]
    assert said == []


def test_who_writes_the_journals_may_end_and_come_back(with_node, server, ecg, tmp_path):
    async def test(bus, new_node, said):
        told, sent, path = await Told.follow(bus), messages(ecg), tmp_path / "back.jsonl"
        await (await new_node(["back"])).take(["back"])
        async with keeping(server.uri, tmp_path, said):
            await put_all(bus, "back", sent[:50])
            await until_written(path, 15.0)
        await put_all(bus, "back", sent[50:100], 50)  # nobody is there to take it
        await told.until(to("back", 39.0))
        async with keeping(server.uri, tmp_path, said):
            await put_all(bus, "back", sent[100:], 100)
            await until_written(path, SECONDS - 1.0)
        estimates = [e.event["t_s"] for e in read_journal(path) if e.event["type"] == "estimate"]
        wanted = sorted({x["t_s"] for x in told.of("back") if x["type"] == "estimate"})
        assert estimates == wanted[: len(estimates)]
        assert estimates[-1] >= SECONDS - 1.0
        assert verify_journal(path).ok
        assert said == []

    with_node(test)


def test_a_journal_that_cannot_be_written_is_an_alarm_of_its_bed_until_it_can(
    with_node, server, ecg, tmp_path, monkeypatch
):
    monkeypatch.setattr("ecgedge.cluster.journal_keeper.AGAIN_S", 0.2)

    async def test(bus, new_node, said):
        told, sent, heard = await Told.follow(bus), messages(ecg), []
        (tmp_path / "bad.jsonl").mkdir()
        await (await new_node(["bad", "good"])).take(["bad", "good"])
        async with keeping(server.uri, tmp_path, heard):

            def failed(bed, presence):
                wanted = {"condition": "JOURNAL_FAILED", "presence": presence}
                return lambda told: any(wanted.items() <= line.items() for line in told.of(bed))

            for bed in ("bad", "good"):
                await put_all(bus, bed, sent)
            await told.until(failed("bad", "on"))
            await until_written(tmp_path / "good.jsonl", SECONDS - 1.0)
            assert not failed("good", "on")(told)
            (tmp_path / "bad.jsonl").rmdir()
            await told.until(failed("bad", "off"))
            await until_written(tmp_path / "bad.jsonl", SECONDS - 1.0)
        assert verify_journal(tmp_path / "bad.jsonl").ok
        same = [plain(said_in(tmp_path / f"{bed}.jsonl"), 30.0) for bed in ("bad", "good")]
        assert same[0] == same[1] != []
        assert "its entries wait on the bus" in heard[0]

    with_node(test)
