"""The loop around a bed, with feeds from memory: order, silence, endings."""

import asyncio
import dataclasses
import json
import math
import os

import numpy as np
import pytest
from memory_feed import At
from memory_feed import MemoryFeed as Feed

from ecgedge.control import Control, PauseAudio
from ecgedge.errors import FeedError, RecordError
from ecgedge.events import Alarm, AudioEvent, Estimate, FeedEvent, SelfCheck, Summary, event_to_dict
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.journal import Backlog, Journal, read_journal, verify_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.rerun import compare_run, facts_of_bed, find_runs
from ecgedge.service import TICK_S, run_stream
from ecgedge.sim import Simulator
from ecgedge.station import Station
from ecgedge.stream import Bed

RATE_HZ = 250.0


@pytest.fixture
def bed(bundle, variants):
    return Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.events = []

    async def send(self, event):
        self.events.append(event)

    async def close(self):
        pass

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def sink():
    return Kept()


def _chunks(seconds, *, chunk_s, t0_s=0.0, scenario="stable"):
    samples_mv = Simulator(scenario, seed=1, rate_hz=RATE_HZ).read(round(seconds * RATE_HZ))
    n = round(chunk_s * RATE_HZ)
    starts = range(0, samples_mv.shape[1], n)
    return [Chunk(t0_s + k / RATE_HZ, samples_mv[:, k : k + n], i) for i, k in enumerate(starts)]


def _run(bed, feed, *sinks, **options):
    options = {"speed": math.inf, "read_clock": lambda: None, **options}
    return asyncio.run(run_stream(bed, feed, sinks=sinks, **options))


def test_events_are_the_beds_and_the_summary_comes_last(bundle, variants, bed, sink):
    chunks = _chunks(32.0, chunk_s=0.7)
    feed = Feed(*chunks)
    result = _run(bed, feed, sink)
    twin = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    expected = [event for chunk in chunks for event in twin.push(chunk.samples_mv, t_s=chunk.t_s)]
    timeless = [
        dataclasses.replace(e, latency_ms=None) if isinstance(e, Estimate) else e for e in sink.events
    ]
    assert timeless == [*expected, result.summary]
    assert result.lost is None
    assert feed.closed >= 1


def test_latencies_are_in_the_estimates_and_in_the_summary(bed, sink):
    result = _run(bed, Feed(*_chunks(60.0, chunk_s=1.0)), sink)
    latencies = [e.latency_ms for e in sink.of(Estimate)]
    assert all(0.0 < ms < 60_000.0 for ms in latencies)
    assert result.summary.latency_ms["p50"] == pytest.approx(np.percentile(latencies, 50), abs=0.002)
    assert result.summary.latency_ms["p99"] == pytest.approx(np.percentile(latencies, 99), abs=0.002)


def test_every_sink_gets_every_event(bed):
    sinks = [Kept(), Kept()]
    _run(bed, Feed(*_chunks(12.0, chunk_s=1.0)), *sinks)
    assert sinks[0].events == sinks[1].events != []


def test_an_event_is_in_the_journal_before_any_sink_hears_of_it(bed, tmp_path):
    path = tmp_path / "bed.jsonl"

    class Checks(Kept):
        async def send(self, event):
            (*_, last) = (e for e in read_journal(path) if e.event["type"] != "input")
            assert last.event == json.loads(json.dumps(event_to_dict(event)))
            await super().send(event)

    checks = Checks()
    with Journal(path) as journal:
        _run(bed, Feed(*_chunks(64.0, chunk_s=1.0, scenario="lead-off")), checks, journal=journal)
    assert {event.type for event in checks.events} == {"estimate", "alarm", "feed", "self_check", "summary"}
    report = verify_journal(path)
    assert report.ok
    assert report.entries == 1 + len(checks.events) + 1  # the header, and the input "end"
    assert checks.events[-1].journal == str(path)


def test_a_sink_that_fails_does_not_take_the_event_out_of_the_journal(bed, tmp_path):
    class Broken(Kept):
        async def send(self, event):
            raise OSError(f"the disk of the sink is full: no {event.type}")

    path, feed = tmp_path / "bed.jsonl", Feed(*_chunks(2.0, chunk_s=1.0))
    with Journal(path) as journal, pytest.raises(OSError, match="disk of the sink"):
        _run(bed, feed, Broken(), journal=journal)
    assert [entry.event["type"] for entry in read_journal(path)] == ["journal", "feed"]
    assert feed.closed >= 1


# --- silence -------------------------------------------------------------------------------------------


def test_silence_is_noticed_by_the_wall_clock_and_the_return_as_well(bed, sink):
    first, later = _chunks(12.0, chunk_s=12.0), _chunks(3.0, chunk_s=1.0, t0_s=14.5)
    heard = []

    class Stamps(Kept):
        async def send(self, event):
            heard.append((asyncio.get_running_loop().time(), event))
            await super().send(event)

    stamps = Stamps()
    _run(bed, Feed(*first, 2.5, *later), stamps, speed=1.0)
    assert [(e.state, e.t_s) for e in stamps.of(FeedEvent)] == [
        ("connected", 0.0),
        ("lost", 14.0),
        ("gap", 14.5),
        ("connected", 14.5),
    ]
    lost, back = [alarm for alarm in stamps.of(Alarm) if alarm.condition == "FEED_LOST"]
    assert (lost.condition, lost.presence, lost.t_s) == ("FEED_LOST", "on", 14.0)
    assert (back.condition, back.presence, back.t_s) == ("FEED_LOST", "off", 14.5)
    # It was said while the feed was silent: 2 s after its last chunk, not at its return after 2.5 s.
    at = {id(event): when for when, event in heard}
    assert at[id(back)] - at[id(lost)] > 0.1


def test_a_bed_whose_feed_is_silent_goes_on_saying_that_it_is_alive(bed, sink):
    """R11: 20 s of stream time, each quarter second of the wall clock is 5 s."""
    _run(bed, Feed(*_chunks(1.0, chunk_s=1.0), 1.1), sink, speed=20.0)
    assert [(c.t_s, c.count) for c in sink.of(SelfCheck)[:4]] == [(5.0, 1), (10.0, 2), (15.0, 3), (20.0, 4)]


def test_silence_counts_in_stream_time(bed, sink):
    _run(bed, Feed(*_chunks(1.0, chunk_s=1.0), 0.7), sink, speed=10.0)
    assert [a.condition for a in sink.of(Alarm)] == ["FEED_LOST"]


def test_a_feed_whose_clock_was_just_set_back_cannot_hide_its_silence(bed, sink):
    old, new = _chunks(12.0, chunk_s=12.0, t0_s=86_400.0), _chunks(0.5, chunk_s=0.25)
    _run(bed, Feed(*old, *new, 0.7), sink, speed=10.0)
    told = [(alarm.condition, alarm.t_s) for alarm in sink.of(Alarm)]
    assert told == [("FEED_LOST", 86_414.0), ("FEED_STALE", 86_417.0)]


@pytest.mark.parametrize("speed", [1.0, math.inf])
def test_a_short_silence_and_one_at_full_speed_are_no_alarm(bed, sink, speed):
    _run(bed, Feed(*_chunks(1.0, chunk_s=1.0), 0.7), sink, speed=speed)
    assert sink.of(Alarm) == []


def test_waiting_for_a_slow_feed_loses_no_sample(bed, sink):
    steps = [x for chunk in _chunks(1.5, chunk_s=0.5) for x in (0.3, chunk)]  # slower than the tick of 0.25 s
    result = _run(bed, Feed(*steps), sink, speed=1.0)
    assert bed.seen_samples == 375
    assert result.summary.dropped_samples == 0


# --- users' commands ------------------------------------------------------------------------------------


@pytest.fixture
def typed(bed):
    """What a user typed, and left the input open or not; the second value is what the user was told."""
    opened, told = [], []

    def make(text, *, end=False):
        reads, writes = os.pipe()
        opened.extend([reads, writes])
        os.write(writes, text.encode())
        if end:
            os.close(opened.pop())
        return Control(reads, policy=bed.policy, say=told.append), told

    yield make
    for fd in reversed(opened):  # first the writing ends, so that no reader is left waiting
        os.close(fd)


@pytest.mark.parametrize("end", [False, True])
def test_a_user_acknowledges_and_pauses_while_the_feed_is_silent(bed, sink, typed, tmp_path, end):
    control, told = typed("ack FEED_LOST nurse 7\npause 60 nurse 7\n", end=end)

    class Slow(Kept):
        """Lets the user in once the feed is lost."""

        async def send(self, event):
            await super().send(event)
            if getattr(event, "condition", None) == "FEED_LOST" and event.presence == "on":
                lost.set()

    lost, slow = asyncio.Event(), Slow()

    class Later:
        def __init__(self):
            self.dropped = {}

        async def __aiter__(self):
            await lost.wait()
            async for command in control:
                yield command

    path = tmp_path / "bed.jsonl"
    with Journal(path) as journal:
        feed = Feed(*_chunks(1.0, chunk_s=1.0), 1.5)
        _run(bed, feed, slow, speed=10.0, control=Later(), journal=journal)
    (seen,) = [a for a in slow.of(Alarm) if a.signal == "acknowledged"]
    assert (seen.condition, seen.user) == ("FEED_LOST", "nurse 7")
    assert seen.t_s >= 3.0
    (pause,) = slow.of(AudioEvent)
    assert (pause.state, pause.user, pause.ends_s) == ("paused", "nurse 7", pause.t_s + 60.0)
    assert slow.of(SelfCheck)[-1].audio_pause_left_s is not None
    assert told == []
    kept = [e.event for e in read_journal(path) if e.event.get("user") == "nurse 7"]
    assert [e["type"] for e in kept] == ["input", "alarm", "input", "audio"]
    assert [e["call"] for e in kept if e["type"] == "input"] == ["acknowledge", "pause_audio"]


def test_what_the_bed_cannot_do_now_is_counted_and_ends_nothing(bed, sink, typed):
    control, told = typed("calibrate 14 Dr Eight\nuncalibrate Dr Eight\n", end=True)
    result = _run(bed, Feed(*_chunks(2.0, chunk_s=0.5), 0.3), sink, control=control)
    assert result.summary.dropped_commands == {"refused": 1}
    (line,) = told
    assert line.startswith("control line dropped (refused): there are 0 valid estimates in the last 120 s")


def test_garbage_is_dropped_told_of_and_counted_in_the_summary(bed, sink, typed):
    control, told = typed("boo\nack MPCWP a\npause 3600 a\n", end=True)
    result = _run(bed, Feed(*_chunks(2.0, chunk_s=0.5), 0.3), sink, control=control)
    assert result.summary.dropped_commands == {
        "unknown_command": 1,
        "unknown_condition": 1,
        "bad_duration": 1,
    }
    assert len(told) == 3
    assert sink.events[-1] == result.summary


def test_the_end_of_the_commands_ends_nothing(bed, sink, typed):
    control, _ = typed("", end=True)
    _run(bed, Feed(*_chunks(16.0, chunk_s=0.5)), sink, control=control)
    assert len(sink.of(Estimate)) == 2


def test_a_stream_does_not_wait_for_a_user_who_says_nothing(bed, sink, typed):
    control, _ = typed("")
    _run(bed, Feed(*_chunks(2.0, chunk_s=0.5)), sink, control=control)
    assert bed.seen_samples == 500


def test_a_user_who_says_nothing_holds_up_no_chunk(bed, sink, typed):
    """A hundred chunks in less time than so many ticks."""
    control, _ = typed("")
    heard_s = []

    class Stamps(Kept):
        async def send(self, event):
            heard_s.append(asyncio.get_running_loop().time())
            await super().send(event)

    _run(bed, Feed(*_chunks(20.0, chunk_s=0.2)), Stamps(), control=control)
    assert heard_s[-1] - heard_s[0] < 0.5 * 100 * TICK_S


def test_a_flood_of_commands_does_not_hide_the_silence_of_the_feed(bed, sink):
    class Flood:
        def __init__(self):
            self.dropped = {}

        async def __aiter__(self):
            while True:
                await asyncio.sleep(0.05)  # far more often than a tick
                yield PauseAudio(10.0, "a")

    _run(bed, Feed(*_chunks(1.0, chunk_s=1.0), 0.7), sink, speed=10.0, control=Flood())
    assert "FEED_LOST" in {a.condition for a in sink.of(Alarm)}


# --- endings -------------------------------------------------------------------------------------------


def test_a_lost_feed_is_an_alarm_at_once_and_a_summary(bed, sink):
    feed = Feed(*_chunks(3.0, chunk_s=1.0), FeedError("the cable is out"))
    result = _run(bed, feed, sink)
    assert str(result.lost) == "the cable is out"
    (alarm,) = sink.of(Alarm)
    assert (alarm.condition, alarm.presence, alarm.t_s) == ("FEED_LOST", "on", 3.0)
    assert sink.events[-1] == result.summary
    assert result.summary.alarms == {"FEED_LOST": 1}
    assert feed.closed >= 1


def test_a_feed_that_breaks_off_has_not_been_silent(bed, sink):
    _run(bed, Feed(*_chunks(3.0, chunk_s=1.0), FeedError("the cable is out")), sink)
    (lost,) = [event for event in sink.of(FeedEvent) if event.state == "lost"]
    assert lost.age_s in (None, 0.0)


def test_a_feed_that_breaks_before_its_first_sample(bed, sink):
    result = _run(bed, Feed(FeedError("nobody there")), sink)
    assert str(result.lost) == "nobody there"
    assert isinstance(sink.events[-1], Summary)


def test_an_empty_feed_is_lost(bed, sink):
    result = _run(bed, Feed(), sink)
    assert "memory:: the feed ended without a single sample" in str(result.lost)
    assert sink.events == [result.summary]
    assert result.summary.windows == 0
    assert result.summary.latency_ms == {"p50": None, "p99": None}


def test_a_mistake_in_a_feed_is_not_taken_for_a_lost_feed(bed, sink):
    feed = Feed(*_chunks(1.0, chunk_s=1.0), ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        _run(bed, feed, sink)
    assert feed.closed >= 1


@pytest.mark.parametrize("chunk_s", [0.004, 0.7, 40.0])
@pytest.mark.parametrize("t0_s", [0.0, 5000.0])
def test_the_duration_cuts_at_the_very_sample(bed, sink, chunk_s, t0_s):
    result = _run(bed, Feed(*_chunks(16.0, chunk_s=chunk_s, t0_s=t0_s)), sink, duration_s=14.996)
    assert bed.seen_samples == 3749
    assert result.summary.windows == 1
    assert result.lost is None


def test_the_duration_ends_a_feed_that_never_ends(bed, sink):
    class Endless(Feed):
        async def __aiter__(self):
            for k in range(10**9):
                yield Chunk(float(k), np.zeros((12, 250), np.float32), k)

    feed = Endless()
    _run(bed, feed, sink, duration_s=2.0)
    assert bed.seen_samples == 500
    assert feed.closed >= 1


def test_the_duration_ends_a_feed_that_has_gone_silent(bed, sink):
    async def stream():
        feed = Feed(*_chunks(1.0, chunk_s=1.0), 60.0)
        return await asyncio.wait_for(run_stream(bed, feed, sinks=[sink], duration_s=1.5, speed=1.0), 10.0)

    assert asyncio.run(stream()).lost is None


def test_a_feed_that_never_sends_is_lost(bed, sink):
    # Connected, and then nothing: the bed that shows no number must say why.
    _run(bed, Feed(2.6), sink, speed=1.0)
    assert [alarm.condition for alarm in sink.of(Alarm)] == ["FEED_LOST"]


# --- a feed whose rate is not the declared one ------------------------------------------------------------


LIVE = FeedInfo("memory:", STANDARD_LEADS, RATE_HZ, "demo", 1.0, live=True)


@pytest.fixture
def hasty(monkeypatch):
    """The watch on the feed's rate knows within seconds."""
    monkeypatch.setattr("ecgedge.pace.STEP_S", 0.4)


def test_samples_that_come_too_fast_make_no_valid_estimate_and_can_be_run_again(
    bundle, variants, bed, sink, hasty, tmp_path
):
    path = tmp_path / "bed.jsonl"
    chunks = _chunks(45.0, chunk_s=1.0)
    honest = _chunks(5.0, chunk_s=0.2, t0_s=45.0)
    steps = [step for k, chunk in enumerate(chunks) for step in (chunk, At(0.1 * k))]
    steps += [step for k, chunk in enumerate(honest) for step in (chunk, At(4.5 + 0.2 * k))]
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        _run(bed, Feed(*steps, info=LIVE), sink, journal=journal)
    alarms = [a for a in sink.of(Alarm) if a.condition == "FEED_RATE"]
    assert [(a.priority, a.presence, a.signal) for a in alarms] == [
        ("low", "on", "on"),
        ("low", "off", "off"),
    ]
    assert "per second, and the feed declares 250: its rate is wrong" in alarms[0].text
    wrong = [e for e in sink.of(Estimate) if alarms[0].t_s < e.t_s <= alarms[1].t_s]
    assert wrong
    assert {(e.validity, e.reason) for e in wrong} == {
        ("questionable", "samples do not come at the declared rate")
    }
    assert "valid" in {e.validity for e in sink.of(Estimate) if e.t_s <= alarms[0].t_s}
    (run,) = find_runs(path)
    assert [given.call for given in run.inputs if given.call == "feed_rate"] == ["feed_rate", "feed_rate"]
    feed = Feed(*chunks, *honest)
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=feed, variants=variants))
    assert found.difference is None
    assert found.equal == len(sink.events)


def test_a_feed_that_is_played_may_be_played_at_any_pace(bed, sink, hasty):
    steps = [step for chunk in _chunks(30.0, chunk_s=1.0) for step in (chunk, 0.1)]
    _run(bed, Feed(*steps), sink, speed=10.0)
    assert sink.of(Alarm) == []


# --- a wall clock that no time server holds -------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch):
    """The clock's state is read with each chunk."""
    monkeypatch.setattr("ecgedge.wallclock.LOOK_S", 0.0)


def test_a_clock_that_no_server_holds_is_told_in_time_and_can_be_run_again(
    bundle, variants, bed, sink, looks, tmp_path
):
    path = tmp_path / "bed.jsonl"
    chunks = _chunks(130.0, chunk_s=1.0)
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        options = {"speed": 20.0, "read_clock": lambda: not 10.0 <= bed.due_s < 100.0}
        _run(bed, Feed(*chunks), sink, journal=journal, **options)
    alarms = [a for a in sink.of(Alarm) if a.condition == "CLOCK_UNSYNC"]
    assert [(a.t_s, a.priority, a.presence, a.signal) for a in alarms] == [
        (70.0, "low", "on", "on"),
        (100.0, "low", "off", "off"),
    ]
    assert alarms[0].text == "no time server holds the wall clock"
    (run,) = find_runs(path)
    assert [given.call for given in run.inputs] == ["clock_unsync", "clock_unsync", "end"]
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=Feed(*chunks), variants=variants))
    assert found.difference is None
    assert found.equal == len(sink.events)


@pytest.mark.parametrize(("speed", "state"), [(math.inf, False), (20.0, None), (20.0, True)])
def test_where_the_clock_is_held_not_known_or_without_meaning_nothing_is_claimed(
    bed, sink, looks, speed, state
):
    _run(bed, Feed(*_chunks(130.0, chunk_s=1.0)), sink, speed=speed, read_clock=lambda: state)
    assert sink.of(Alarm) == []


def test_a_clock_that_was_not_held_before_the_first_sample_is_told_of_anew(bundle, variants, looks):
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    events = bed.clock_unsync(1.0, why="free") + bed.advance(70.0)
    chunk = _chunks(130.0, chunk_s=130.0)[0]
    events += bed.push(chunk.samples_mv, t_s=0.0)
    told = [(e.t_s, e.presence) for e in events if isinstance(e, Alarm) and e.condition == "CLOCK_UNSYNC"]
    assert told == [(61.0, "on"), (70.0, "off"), (60.0, "on")]


# --- a receiver that does not confirm -------------------------------------------------------------------


def test_delivery_that_fails_and_a_receiver_that_is_dismissed_can_be_run_again(
    bundle, variants, bed, sink, tmp_path
):
    path = tmp_path / "bed.jsonl"
    chunks = _chunks(40.0, chunk_s=1.0)
    troubles = {
        5: ("late", None),
        12: ("gone", None),
        20: (None, None),
        25: ("gone", None),
        30: (None, "Seven"),
    }

    async def serve(journal):
        station = Station(bed, [sink], journal)
        for k, chunk in enumerate(chunks):
            if k in troubles:
                why, user = troubles[k]
                await station.tell_of_delivery(why, user=user)
            await station.push(chunk, end_s=chunk.t_s + 1.0)
        await station.call("end")
        await station.emit([bed.summary(latency_ms={}, journal=None)])

    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        asyncio.run(serve(journal))
    assert [(a.t_s, a.condition, a.presence, a.text) for a in sink.of(Alarm)] == [
        (5.0, "DELIVERY_FAILED", "on", "late"),
        (20.0, "DELIVERY_FAILED", "off", "alarms are confirmed by their receiver again"),
        (25.0, "DELIVERY_FAILED", "on", "gone"),
        (30.0, "DELIVERY_FAILED", "off", "the receiver was dismissed by Seven"),
    ]
    (run,) = find_runs(path)
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=Feed(*chunks), variants=variants))
    assert found.difference is None
    assert found.equal == len(sink.events)


# --- a journal that cannot be written -------------------------------------------------------------------


class Sick(Journal):
    """A journal whose disk takes so many entries after the header, and no more until it is well."""

    well = False

    def __init__(self, path, *, takes):
        self.takes = takes
        super().__init__(path)

    def append(self, event, *, wall_s=None):
        if not self.well and self.takes <= 0:
            raise RecordError(f"the journal {self.path} cannot be written: No space left on device")
        self.takes -= 1
        return super().append(event, wall_s=wall_s)


class Heals(Kept):
    """A sink that makes the disk well at a time."""

    def __init__(self, journal, at_s):
        super().__init__()
        self.journal, self.at_s = journal, at_s

    async def send(self, event):
        await super().send(event)
        self.journal.well |= getattr(event, "t_s", 0.0) >= self.at_s


def test_a_full_disk_is_told_on_every_sink_and_ends_nothing(bed, tmp_path):
    path = tmp_path / "bed.jsonl"
    with Sick(path, takes=4) as journal:
        sinks = [Heals(journal, 30.0), Kept()]
        _run(bed, Feed(*_chunks(60.0, chunk_s=1.0)), *sinks, journal=journal)
    assert sinks[0].events == sinks[1].events
    failed, works = sinks[0].of(Alarm)
    assert (failed.condition, failed.kind, failed.priority) == ("JOURNAL_FAILED", "technical", "low")
    assert (failed.presence, failed.signal, failed.t_s) == ("on", "on", 15.0)
    assert failed.text == f"the journal {path} cannot be written: No space left on device; monitoring goes on"
    assert (works.presence, works.signal, works.t_s) == ("off", "off", 30.0)
    assert len(sinks[0].of(Estimate)) == 11  # the watch went on
    entries = [e.event for e in read_journal(path)]
    assert [e for e in entries[1:] if e["type"] != "input"] == [
        json.loads(json.dumps(event_to_dict(e))) for e in sinks[0].events
    ]
    assert [(e["call"], "why" in e) for e in entries if e["type"] == "input"] == [
        ("journal", True),
        ("journal", False),
        ("end", False),
    ]


def test_a_disk_that_fails_in_a_silence_is_told_at_that_time(bed, sink, tmp_path):
    with Sick(tmp_path / "bed.jsonl", takes=5) as journal, pytest.raises(RecordError):
        _run(bed, Feed(*_chunks(12.0, chunk_s=1.0), 0.8), sink, speed=20.0, journal=journal)
    lost, failed = sink.of(Alarm)
    assert (lost.condition, failed.condition) == ("FEED_LOST", "JOURNAL_FAILED")
    assert failed.t_s >= lost.t_s == 14.0


def test_such_a_journal_can_be_run_again(bundle, variants, bed, tmp_path):
    path = tmp_path / "bed.jsonl"
    facts = facts_of_bed(bed, "memory:", {})
    with Journal(path, facts=facts) as first:
        first.append({"type": "summary"})
    with Sick(path, takes=4) as journal:
        _run(bed, Feed(*_chunks(60.0, chunk_s=1.0)), Heals(journal, 30.0), journal=journal)
    run = find_runs(path)[1]
    run.facts = facts
    feed = Feed(*_chunks(60.0, chunk_s=1.0))
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=feed, variants=variants))
    assert found.difference is None
    assert found.equal > 20


def test_a_disk_that_stays_full_is_an_error_after_the_summary(bed, sink, tmp_path):
    says = r"No space left on device; it lacks the last \d+ entries"
    with Sick(tmp_path / "bed.jsonl", takes=4) as journal, pytest.raises(RecordError, match=says):
        _run(bed, Feed(*_chunks(30.0, chunk_s=1.0)), sink, journal=journal)
    assert isinstance(sink.events[-1], Summary)
    assert verify_journal(tmp_path / "bed.jsonl").entries == 5


def test_the_summary_is_the_last_event_also_where_the_journal_does_not_take_it(bed, sink, tmp_path):
    with (
        Sick(tmp_path / "bed.jsonl", takes=2) as journal,
        pytest.raises(RecordError, match="the last 1 entries"),
    ):
        _run(bed, Feed(*_chunks(2.0, chunk_s=1.0)), sink, journal=journal)
    assert [type(e) for e in sink.events] == [FeedEvent, Summary]


def test_what_waits_has_a_bound_and_what_was_given_up_is_counted(tmp_path):
    with Sick(tmp_path / "j", takes=0) as journal:
        backlog = Backlog(journal, most_waiting=3)
        for i in range(8):
            backlog.append({"type": "note", "i": i})
        assert (backlog.waiting, "No space" in backlog.why) == (8, True)
        journal.well = True
        backlog.append({"type": "note", "i": 8})
        assert (backlog.waiting, backlog.why) == (0, None)
    assert [e.event for e in read_journal(tmp_path / "j")][1:] == [
        {"type": "dropped", "events": 5},
        *({"type": "note", "i": i} for i in (5, 6, 7, 8)),
    ]


def test_a_feed_of_nothing_but_old_samples_is_stale_and_lost(bed, sink):
    """They come all the time, so nothing is silent; but no sample is of now."""
    samples_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(750)
    old = Chunk(1.0, samples_mv[:, :50], 0)
    steps = [Chunk(0.0, samples_mv, 0), *[step for _ in range(16) for step in (0.05, old)]]
    _run(bed, Feed(*steps), sink, speed=20.0)
    on = {alarm.condition: alarm.t_s for alarm in sink.of(Alarm) if alarm.presence == "on"}
    assert (on["FEED_LOST"], on["FEED_STALE"]) == (5.0, 8.0)


def test_what_a_call_brings_does_not_say_how_late_estimates_are(bed):
    """A bed that is told that it is late may answer for samples that waited: their age is not known, nor small."""
    estimate = bed.push(Simulator("stable", seed=1, rate_hz=RATE_HZ).read(2500), t_s=0.0)[-1]
    assert isinstance(estimate, Estimate)
    calls, sink = [], Kept()

    class Waiting:
        def model_late(self, t_s, *, why):
            calls.append((t_s, why))
            return [estimate]

    async def late():
        station = Station(Waiting(), [sink], None, late_ms=5000.0)
        await station.emit([estimate], 9000.0)
        await station.emit([estimate], 8000.0)
        await station.emit([estimate], 20.0)

    asyncio.run(late())
    assert calls == [(0.0, "estimates come 9.0 s after their windows"), (0.0, None)]
    assert [event.latency_ms for event in sink.events] == [9000.0, None, 8000.0, 20.0, None]


def test_samples_that_waited_on_their_way_make_no_valid_estimate_until_they_come_in_time(
    bundle, variants, bed, sink, monkeypatch, tmp_path
):
    monkeypatch.setattr("ecgedge.pace.LATE_S", 1.5)
    monkeypatch.setattr("ecgedge.pace.SOON_S", 0.8)
    monkeypatch.setattr("ecgedge.pace.SURE_S", 0.5)
    path = tmp_path / "bed.jsonl"
    first, rest = _chunks(15.0, chunk_s=1.0), _chunks(15.0, chunk_s=0.2, t0_s=15.0)
    steps = [step for k, chunk in enumerate(first) for step in (chunk, At(0.02 * k))]
    for k, chunk in enumerate(rest):
        late_s = 3.0 if 10 <= k < 50 else 0.0
        steps += [At(0.5 + 0.2 * k + late_s), chunk]
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        _run(bed, Feed(*steps, info=LIVE), sink, journal=journal)
    alarms = [a for a in sink.of(Alarm) if a.condition == "FEED_DELAYED"]
    assert [(a.presence, a.signal) for a in alarms] == [("on", "on"), ("off", "off")]
    assert "later than they could" in alarms[0].text
    assert 17.0 < alarms[0].t_s < 25.0
    assert 25.0 <= alarms[1].t_s < 29.5
    late = [e for e in sink.of(Estimate) if alarms[0].t_s < e.t_s <= alarms[1].t_s]
    assert late
    assert {(e.validity, e.reason) for e in late} == {("questionable", "samples come late")}
    assert sink.of(Estimate)[-1].validity == "valid"
    (run,) = find_runs(path)
    assert [given.call for given in run.inputs if given.call == "feed_delay"] == ["feed_delay", "feed_delay"]
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=Feed(*first, *rest), variants=variants))
    assert found.difference is None
