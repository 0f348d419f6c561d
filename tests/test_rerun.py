"""A journal's stream run again: the same events bit for bit, whatever reached the bed beside its samples."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from memory_feed import MemoryFeed as Feed
from own_time import run_in_own_time

from ecgedge.alarms import Reading
from ecgedge.control import Acknowledge, PauseAudio, ResumeAudio, Uncalibrate
from ecgedge.errors import BundleError, FeedError, RecordError, UsageError
from ecgedge.feeds import Chunk
from ecgedge.inputs import Call
from ecgedge.journal import Backlog, Journal, read_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.rerun import _NOT_EVENTS, compare_run, facts_of_bed, find_runs
from ecgedge.service import run_stream
from ecgedge.sim import Simulator
from ecgedge.station import Station
from ecgedge.stream import Bed

RATE_HZ = 250.0


@pytest.fixture
def new_bed(bundle, variants):
    def make(**policy):
        return Bed(
            bundle,
            leads=STANDARD_LEADS,
            rate_hz=RATE_HZ,
            variants=variants,
            policy=AlarmPolicy(**policy),
            mode="demo",
        )

    return make


class Typed:
    """Commands, each after a time."""

    def __init__(self, *steps):
        self.steps, self.dropped = steps, {}

    async def __aiter__(self):
        for after_s, command in self.steps:
            await asyncio.sleep(after_s)
            yield command


def chunks(seconds, *, chunk_s=0.5, t0_s=0.0, scenario="stable", seed=1):
    samples_mv = Simulator(scenario, seed=seed, rate_hz=RATE_HZ).read(round(seconds * RATE_HZ))
    n = round(chunk_s * RATE_HZ)
    return [
        Chunk(t0_s + k / RATE_HZ, samples_mv[:, k : k + n], i)
        for i, k in enumerate(range(0, samples_mv.shape[1], n))
    ]


def run(path, bed, feed, *, runtimes=None, **options):
    options = {"speed": math.inf, "sinks": [], **options}
    facts = facts_of_bed(bed, "memory:", runtimes or {})
    with Journal(path, facts=facts) as journal:
        running = run_stream(bed, feed, journal=journal, read_clock=lambda: None, **options)
        run_in_own_time(running, "ecgedge.service", "ecgedge.station")


def replay(path, bundle, variants, feed, number=0):
    found = find_runs(path)[number]
    return asyncio.run(compare_run(path, found, bundle=bundle, feed=feed, variants=variants))


def inputs(path):
    return [e.event for e in read_journal(path) if e.event["type"] == "input"]


def n_events(path):
    return sum(e.event["type"] not in ("journal", "reopened", "input") for e in read_journal(path))


@pytest.mark.parametrize("chunk_s", [0.004, 0.7, 70.0])
def test_a_stream_at_full_speed_in_any_chunks(tmp_path, new_bed, bundle, variants, chunk_s) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(70.0, scenario="lead-off")), duration_s=66.6)
    found = replay(path, bundle, variants, Feed(*chunks(80.0, chunk_s=chunk_s, scenario="lead-off")))
    assert (found.difference, found.equal, found.later) == (None, n_events(path), 0)
    assert found.equal > 25
    assert [i["call"] for i in inputs(path)] == ["end"]
    assert inputs(path)[-1]["samples"] == 16650


def test_the_policy_is_the_journals(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(lead_off_s=3.0, self_check_s=2.5), Feed(*chunks(70.0, scenario="lead-off")))
    assert replay(path, bundle, variants, Feed(*chunks(70.0, scenario="lead-off"))).difference is None


SILENT = [*chunks(12.0), 0.8, *chunks(12.0, t0_s=24.0, seed=2)]
"""Silence long enough, at 20 times real time, to be noticed, checked in, and paused in."""


def test_silence_by_the_wall_clock_and_users_within_it(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    typed = Typed(
        (0.3, Acknowledge("FEED_LOST", "nurse 7")),
        (0.1, PauseAudio(20.0, "nurse 7")),
        (0.1, PauseAudio(30.1, "Ünal")),
        (0.2, ResumeAudio("nurse 7")),
    )
    run(path, new_bed(), Feed(*SILENT), speed=20.0, control=typed)
    calls = [i["call"] for i in inputs(path)]
    assert {"advance", "acknowledge", "pause_audio", "resume_audio", "end"} <= set(calls)
    assert {"FEED_LOST"} == {e.event["condition"] for e in read_journal(path) if e.event["type"] == "alarm"}
    found = replay(path, bundle, variants, Feed(*[s for s in SILENT if isinstance(s, Chunk)]))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_without_the_inputs_it_would_not_be_the_same(tmp_path, new_bed, bundle, variants) -> None:
    """What the test before this one would not show, were silence and commands not in the journal."""
    path = tmp_path / "j"
    typed = Typed((0.3, Acknowledge("FEED_LOST", "nurse 7")))
    run(path, new_bed(), Feed(*SILENT), speed=20.0, control=typed)
    (found,) = find_runs(path)
    found.inputs = [i for i in found.inputs if i.call != "acknowledge"]
    feed = Feed(*[s for s in SILENT if isinstance(s, Chunk)])
    made = asyncio.run(compare_run(path, found, bundle=bundle, feed=feed, variants=variants))
    assert made.difference is not None
    assert '"user": "nurse 7"' in made.difference.journal


def test_a_tick_that_said_nothing_is_noted_where_it_moved_what_came_after(
    tmp_path, new_bed, bundle, variants
):
    """A lead falls off in samples that come late: the alarm's second is counted from the tick before them."""
    before, after = chunks(4.0, chunk_s=1.0)[:3], chunks(4.0, chunk_s=1.0)[3]
    late = [after, *chunks(6.0, t0_s=4.0, seed=3)]
    for chunk in late:
        chunk.samples_mv[3, 10 if chunk is after else 0 :] = np.nan
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*before, 0.6, *late), speed=1.0)
    (moved, end) = inputs(path)
    assert (moved["call"], moved["samples"], end["call"]) == ("advance", 750, "end")
    assert 3.2 < moved["t_s"] < 3.9
    (alarm, *_) = [e.event for e in read_journal(path) if e.event["type"] == "alarm"]
    assert alarm["t_s"] == moved["t_s"] + 1.0  # not 3.04 + 1.0, where the lead went off
    found = replay(path, bundle, variants, Feed(*before, *late))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_a_command_in_samples_that_come_after_a_tick(tmp_path, new_bed, bundle, variants) -> None:
    """A stall, a tick in it, then the first of what was held up, and a user: the bed's time is the tick's."""
    path, (first, held_up, *rest) = tmp_path / "j", chunks(24.0, chunk_s=12.0)
    samples_mv = np.concatenate([held_up.samples_mv, *(c.samples_mv for c in rest)], axis=1)
    parts = [Chunk(12.0, samples_mv[:, :5], 1), Chunk(12.02, samples_mv[:, 5:], 2)]

    async def stalled(journal):
        station = Station(bed := new_bed(), [], Backlog(journal))
        await station.push(first, end_s=12.0)
        await station.call("advance", t_s=12.25)
        await station.push(parts[0], end_s=12.02)
        await station.call("advance", t_s=12.021)
        await station.obey(PauseAudio(20.0, "nurse 7"), 12.021)
        await station.push(parts[1], end_s=24.0)
        await station.call("end")
        await station.emit([bed.summary(latency_ms={}, journal=None)])

    with Journal(path, facts=facts_of_bed(new_bed(), "memory:", {})) as journal:
        asyncio.run(stalled(journal))
    (audio,) = [e.event for e in read_journal(path) if e.event["type"] == "audio"]
    assert audio["t_s"] == 12.25
    assert [(i["call"], i["samples"]) for i in inputs(path)[:2]] == [("advance", 3000), ("pause_audio", 3005)]
    found = replay(path, bundle, variants, Feed(first, *parts))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_a_calibration_is_given_again(tmp_path, new_bed, bundle, variants) -> None:
    path, parts = tmp_path / "j", chunks(200.0, chunk_s=20.0)

    async def calibrated(journal):
        station = Station(bed := new_bed(), [], Backlog(journal))
        for k, part in enumerate(parts):
            if k == 7:
                await station.obey(Reading(11.0, "Dr Eight", 1.5), 140.0)
            if k == 9:
                await station.obey(Uncalibrate("Dr Eight"), 180.0)
            await station.push(part, end_s=part.t_s + 20.0)
        await station.call("end")
        await station.emit([bed.summary(latency_ms={}, journal=None)])

    with Journal(path, facts=facts_of_bed(new_bed(), "memory:", {})) as journal:
        asyncio.run(calibrated(journal))
    kept = [e.event for e in read_journal(path)]
    assert [e["state"] for e in kept if e["type"] == "calibration"] == ["on", "off"]
    assert sum("calibration" in e for e in kept if e["type"] == "estimate") == 8
    found = replay(path, bundle, variants, Feed(*parts))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_a_wait_for_the_first_sample(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    typed = Typed((0.5, PauseAudio(100.0, "nurse 7")))
    run(path, new_bed(), Feed(0.9, *chunks(12.0, t0_s=5000.0)), speed=10.0, control=typed)
    assert inputs(path)[0]["samples"] == 0
    found = replay(path, bundle, variants, Feed(*chunks(12.0, t0_s=5000.0)))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_a_feed_that_broke_off(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(11.0), FeedError("the cable is out")))
    assert [i["call"] for i in inputs(path)] == ["feed_lost", "end"]
    found = replay(path, bundle, variants, Feed(*chunks(30.0)))
    assert (found.difference, found.equal) == (None, n_events(path))


def test_several_runs_and_a_torn_line(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(15.0)))
    run(path, new_bed(feed_lost_s=5.0), Feed(*chunks(20.0, seed=2)))
    path.write_bytes(path.read_bytes()[:-30])
    first, second = find_runs(path)
    assert (first.ended, second.ended, second.first_seq) == (True, False, first.end_seq)
    assert replay(path, bundle, variants, Feed(*chunks(15.0)), 0).difference is None
    found = replay(path, bundle, variants, Feed(*chunks(20.0, seed=2)), 1)
    assert (found.difference, found.later) == (None, 1)  # the summary, whose line is torn


def test_a_run_that_was_cut_off_is_a_beginning(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(40.0)))
    lines = path.read_bytes().splitlines(keepends=True)
    cut = 1 + next(i for i, line in enumerate(lines) if b'"t_s":25.0' in line)
    path.write_bytes(b"".join(lines[:cut]))
    found = replay(path, bundle, variants, Feed(*chunks(200.0)))
    assert find_runs(path)[0].last_s == 25.0
    assert found.difference is None
    assert found.equal == n_events(path)
    # The other event of 25 s, then an estimate and a self-check each 5 s of the next 60.
    assert found.later == 1 + 2 * 12


def test_a_run_that_ended_may_not_have_more(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(20.0)))
    (found,) = find_runs(path)
    found.inputs = []
    feed = Feed(*chunks(40.0))
    made = asyncio.run(compare_run(path, found, bundle=bundle, feed=feed, variants=variants))
    assert '"type": "summary"' in made.difference.journal
    assert made.difference.replay is not None


def test_a_feed_that_ends_before_the_journal(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(20.0)))
    found = replay(path, bundle, variants, Feed(*chunks(12.0)))
    assert found.difference.replay is None
    assert '"t_s": 15.0' in found.difference.journal


def altered(path, new_bed, **changes):
    """A journal of the same run in which one estimate was other, with a chain that fits."""
    entries = [dict(e.event) for e in read_journal(path)]
    place = next(i for i, e in enumerate(entries) if e["type"] == "estimate")
    entries[place] = {**entries[place], **{k: change(entries[place][k]) for k, change in changes.items()}}
    target = path.with_name("altered")
    with Journal(target, facts=entries[0]["facts"]) as journal:
        for entry in entries[1:]:
            journal.append(entry)
    return target, place


def test_the_last_bit_of_an_estimate_counts_and_the_latency_does_not(
    tmp_path, new_bed, bundle, variants
) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(20.0)))
    same, _ = altered(path, new_bed, latency_ms=lambda ms: ms + 7.0)
    assert replay(same, bundle, variants, Feed(*chunks(20.0))).difference is None
    same.unlink()
    other, place = altered(path, new_bed, mpcwp_mmhg=lambda p: math.nextafter(p, 99.0))
    found = replay(other, bundle, variants, Feed(*chunks(20.0)))
    assert (found.equal, found.difference.seq) == (place - 1, place)
    assert (
        json.loads(found.difference.journal)["mpcwp_mmhg"] > json.loads(found.difference.replay)["mpcwp_mmhg"]
    )


# --- what cannot be run again ---


def test_another_bundle_leads_or_rate(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(2.0)))
    (found,) = find_runs(path)
    other = Feed(rate_hz=500.0)
    with pytest.raises(UsageError, match=r"had leads I,II.* at 250 Hz, but memory: has I,II.* at 500 Hz"):
        asyncio.run(compare_run(path, found, bundle=bundle, feed=other, variants=variants))
    found.facts = {**found.facts, "bundle": "ab" * 32}
    with pytest.raises(BundleError, match=rf"had bundle {'ab' * 32}, but .* is {bundle.id}; give --bundle"):
        asyncio.run(compare_run(path, found, bundle=bundle, feed=Feed(), variants=variants))


def test_facts_that_do_not_tell(tmp_path, bundle, variants) -> None:
    """As they were before a journal could be run again: a hash in place of the policy."""
    path = tmp_path / "j"
    Journal(
        path, facts={"bundle": bundle.id, "policy_sha256": "ab", "feed": "sim:stable", "mode": "demo"}
    ).close()
    with pytest.raises(RecordError, match=r"begins at entry 0 cannot be run again \(missing key 'policy'\)"):
        replay(path, bundle, variants, Feed())


def test_an_input_of_another_version(tmp_path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append({"type": "input", "call": "reboot", "samples": 0, "t_s": 0.0})
    with pytest.raises(RecordError, match="has an input that cannot be given again: call: 'reboot'"):
        find_runs(tmp_path / "j")


def test_entries_that_the_disk_did_not_take(tmp_path, new_bed, bundle, variants) -> None:
    path = tmp_path / "j"
    with Journal(path, facts=facts_of_bed(new_bed(), "memory:", {})) as journal:
        journal.append({"type": "dropped", "events": 3})
    with pytest.raises(RecordError, match="past entry 1: 3 entries are missing"):
        replay(path, bundle, variants, Feed(*chunks(12.0)))


def test_damage_is_no_end(tmp_path, new_bed) -> None:
    path = tmp_path / "j"
    run(path, new_bed(), Feed(*chunks(12.0)))
    path.write_bytes(path.read_bytes().replace(b'"valid"', b'"Valid"', 1))
    with pytest.raises(RecordError, match="is damaged at line"):
        find_runs(path)


def test_the_document_names_every_entry_and_every_call() -> None:
    text = (Path(__file__).parents[1] / "docs" / "journal.md").read_text("utf-8")
    assert {*_NOT_EVENTS, "dropped", *get_args(Call)} <= set(re.findall(r"`(\w+)`", text))
