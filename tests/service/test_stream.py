"""The loop around a bed, with feeds from memory: order, silence, users, endings."""

import asyncio
import dataclasses
import json
import math
import os

import numpy as np
import pytest
from memory_feed import MemoryFeed as Feed
from service_run import RATE_HZ, Kept, chunks_of, run_bed

from ecgedge.alarms import Reading
from ecgedge.control import Control, Inbox, PauseAudio
from ecgedge.errors import FeedError, UsageError
from ecgedge.events import Alarm, AudioEvent, Estimate, FeedEvent, SelfCheck, Summary, event_to_dict
from ecgedge.feeds import Chunk
from ecgedge.journal import Journal, read_journal, verify_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.service import TICK_S, run_stream
from ecgedge.stream import Bed


def test_events_are_the_beds_and_the_summary_comes_last(bundle, variants, bed, sink):
    chunks = chunks_of(32.0, chunk_s=0.7)
    feed = Feed(*chunks)
    result = run_bed(bed, feed, sink)
    twin = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    expected = [event for chunk in chunks for event in twin.push(chunk.samples_mv, t_s=chunk.t_s)]
    timeless = [
        dataclasses.replace(e, latency_ms=None) if isinstance(e, Estimate) else e for e in sink.events
    ]
    assert timeless == [*expected, result.summary]
    assert result.lost is None
    assert feed.closed >= 1


def test_latencies_are_in_the_estimates_and_in_the_summary(bed, sink):
    result = run_bed(bed, Feed(*chunks_of(60.0, chunk_s=1.0)), sink)
    latencies = [e.latency_ms for e in sink.of(Estimate)]
    assert all(0.0 < ms < 60_000.0 for ms in latencies)
    assert result.summary.latency_ms["p50"] == pytest.approx(np.percentile(latencies, 50), abs=0.002)
    assert result.summary.latency_ms["p99"] == pytest.approx(np.percentile(latencies, 99), abs=0.002)


def test_every_sink_gets_every_event(bed):
    sinks = [Kept(), Kept()]
    run_bed(bed, Feed(*chunks_of(12.0, chunk_s=1.0)), *sinks)
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
        run_bed(bed, Feed(*chunks_of(64.0, chunk_s=1.0, scenario="lead-off")), checks, journal=journal)
    assert {event.type for event in checks.events} == {"estimate", "alarm", "feed", "self_check", "summary"}
    report = verify_journal(path)
    assert report.ok
    assert report.entries == 1 + len(checks.events) + 1  # the header, and the input "end"
    assert checks.events[-1].journal == str(path)


def test_a_sink_that_fails_does_not_take_the_event_out_of_the_journal(bed, tmp_path):
    class Broken(Kept):
        async def send(self, event):
            raise OSError(f"the disk of the sink is full: no {event.type}")

    path, feed = tmp_path / "bed.jsonl", Feed(*chunks_of(2.0, chunk_s=1.0))
    with Journal(path) as journal, pytest.raises(OSError, match="disk of the sink"):
        run_bed(bed, feed, Broken(), journal=journal)
    assert [entry.event["type"] for entry in read_journal(path)] == ["journal", "feed"]
    assert feed.closed >= 1


# --- silence -------------------------------------------------------------------------------------------


def test_silence_is_noticed_by_the_wall_clock_and_the_return_as_well(bed, sink):
    first, later = chunks_of(12.0, chunk_s=12.0), chunks_of(3.0, chunk_s=1.0, t0_s=14.5)
    heard = []

    class Stamps(Kept):
        async def send(self, event):
            heard.append((asyncio.get_running_loop().time(), event))
            await super().send(event)

    stamps = Stamps()
    run_bed(bed, Feed(*first, 2.5, *later), stamps, speed=1.0)
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
    run_bed(bed, Feed(*chunks_of(1.0, chunk_s=1.0), 1.1), sink, speed=20.0)
    assert [(c.t_s, c.count) for c in sink.of(SelfCheck)[:4]] == [(5.0, 1), (10.0, 2), (15.0, 3), (20.0, 4)]


def test_silence_counts_in_stream_time(bed, sink):
    run_bed(bed, Feed(*chunks_of(1.0, chunk_s=1.0), 0.7), sink, speed=10.0)
    assert [a.condition for a in sink.of(Alarm)] == ["FEED_LOST"]


def test_a_feed_whose_clock_was_just_set_back_cannot_hide_its_silence(bed, sink):
    old, new = chunks_of(12.0, chunk_s=12.0, t0_s=86_400.0), chunks_of(0.5, chunk_s=0.25)
    run_bed(bed, Feed(*old, *new, 0.7), sink, speed=10.0)
    told = [(alarm.condition, alarm.t_s) for alarm in sink.of(Alarm)]
    assert told == [("FEED_LOST", 86_414.0), ("FEED_STALE", 86_417.0)]


@pytest.mark.parametrize("speed", [1.0, math.inf])
def test_a_short_silence_and_one_at_full_speed_are_no_alarm(bed, sink, speed):
    run_bed(bed, Feed(*chunks_of(1.0, chunk_s=1.0), 0.7), sink, speed=speed)
    assert sink.of(Alarm) == []


def test_waiting_for_a_slow_feed_loses_no_sample(bed, sink):
    steps = [
        x for chunk in chunks_of(1.5, chunk_s=0.5) for x in (0.3, chunk)
    ]  # slower than the tick of 0.25 s
    result = run_bed(bed, Feed(*steps), sink, speed=1.0)
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
        feed = Feed(*chunks_of(1.0, chunk_s=1.0), 1.5)
        run_bed(bed, feed, slow, speed=10.0, control=Later(), journal=journal)
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
    result = run_bed(bed, Feed(*chunks_of(2.0, chunk_s=0.5), 0.3), sink, control=control)
    assert result.summary.dropped_commands == {"refused": 1}
    (line,) = told
    assert line.startswith("control line dropped (refused): there are 0 valid estimates in the last 120 s")


def test_garbage_is_dropped_told_of_and_counted_in_the_summary(bed, sink, typed):
    control, told = typed("boo\nack MPCWP a\npause 3600 a\n", end=True)
    result = run_bed(bed, Feed(*chunks_of(2.0, chunk_s=0.5), 0.3), sink, control=control)
    assert result.summary.dropped_commands == {
        "unknown_command": 1,
        "unknown_condition": 1,
        "bad_duration": 1,
    }
    assert len(told) == 3
    assert sink.events[-1] == result.summary


def test_the_end_of_the_commands_ends_nothing(bed, sink, typed):
    control, _ = typed("", end=True)
    run_bed(bed, Feed(*chunks_of(16.0, chunk_s=0.5)), sink, control=control)
    assert len(sink.of(Estimate)) == 2


def test_a_stream_does_not_wait_for_a_user_who_says_nothing(bed, sink, typed):
    control, _ = typed("")
    run_bed(bed, Feed(*chunks_of(2.0, chunk_s=0.5)), sink, control=control)
    assert bed.seen_samples == 500


def test_a_user_who_says_nothing_holds_up_no_chunk(bed, sink, typed):
    """A hundred chunks in less time than so many ticks."""
    control, _ = typed("")
    heard_s = []

    class Stamps(Kept):
        async def send(self, event):
            heard_s.append(asyncio.get_running_loop().time())
            await super().send(event)

    run_bed(bed, Feed(*chunks_of(20.0, chunk_s=0.2)), Stamps(), control=control)
    assert heard_s[-1] - heard_s[0] < 0.5 * 100 * TICK_S


def test_a_flood_of_commands_does_not_hide_the_silence_of_the_feed(bed, sink):
    class Flood:
        def __init__(self):
            self.dropped = {}

        async def __aiter__(self):
            while True:
                await asyncio.sleep(0.05)  # far more often than a tick
                yield PauseAudio(10.0, "a")

    run_bed(bed, Feed(*chunks_of(1.0, chunk_s=1.0), 0.7), sink, speed=10.0, control=Flood())
    assert "FEED_LOST" in {a.condition for a in sink.of(Alarm)}


def test_who_asks_and_does_not_wait_ends_nothing(bed, sink):
    feed = Feed(*chunks_of(20.0, chunk_s=0.5), 0.1, *chunks_of(1.0, chunk_s=0.5, t0_s=20.0))
    inbox = Inbox()

    async def main():
        asked = [
            asyncio.create_task(inbox.acknowledge("bed1", "LEAD_OFF", "Seven")),
            asyncio.create_task(inbox.ask(Reading(14.5, "Seven"))),  # refused: nothing to calibrate yet
        ]
        await asyncio.sleep(0)
        for task in asked:
            task.cancel()
        return await run_stream(bed, feed, sinks=[sink], inbox=inbox, read_clock=lambda: None)

    result = asyncio.run(main())
    assert result.lost is None
    assert result.summary.windows > 0


def test_a_user_who_asks_over_a_network_hears_what_became_of_it(bed, sink):
    """An alarm is acknowledged; what the bed cannot do is refused, and ends nothing."""
    inbox, said = Inbox(), []
    chunks = chunks_of(70.0, chunk_s=1.0, scenario="lead-off")

    async def main():
        async def ask():
            while not any(e.condition == "LEAD_OFF" for e in sink.of(Alarm)):
                await asyncio.sleep(0.001)
            await inbox.acknowledge("bed1", "LEAD_OFF", "SDC consumer")
            try:
                await inbox.ask(Reading(14.5, "Seven"))
            except UsageError as error:
                said.append(str(error))
            asked.set()

        asked = asyncio.Event()
        asking = asyncio.create_task(ask())
        feed = Feed(*chunks[:65], asked, *chunks[65:])
        await run_stream(bed, feed, sinks=[sink], speed=20.0, inbox=inbox, read_clock=lambda: None)
        await asking

    asyncio.run(asyncio.wait_for(main(), 60.0))
    (acknowledged,) = [e for e in sink.of(Alarm) if e.user is not None]
    assert (acknowledged.condition, acknowledged.signal) == ("LEAD_OFF", "acknowledged")
    assert len(said) == 1, "there is no estimate to calibrate"
    assert sink.of(Summary)[0].dropped_commands == {}


# --- endings -------------------------------------------------------------------------------------------


def test_a_lost_feed_is_an_alarm_at_once_and_a_summary(bed, sink):
    feed = Feed(*chunks_of(3.0, chunk_s=1.0), FeedError("the cable is out"))
    result = run_bed(bed, feed, sink)
    assert str(result.lost) == "the cable is out"
    (alarm,) = sink.of(Alarm)
    assert (alarm.condition, alarm.presence, alarm.t_s) == ("FEED_LOST", "on", 3.0)
    assert sink.events[-1] == result.summary
    assert result.summary.alarms == {"FEED_LOST": 1}
    assert feed.closed >= 1


def test_a_feed_that_breaks_off_has_not_been_silent(bed, sink):
    run_bed(bed, Feed(*chunks_of(3.0, chunk_s=1.0), FeedError("the cable is out")), sink)
    (lost,) = [event for event in sink.of(FeedEvent) if event.state == "lost"]
    assert lost.age_s in (None, 0.0)


def test_a_feed_that_breaks_before_its_first_sample(bed, sink):
    result = run_bed(bed, Feed(FeedError("nobody there")), sink)
    assert str(result.lost) == "nobody there"
    assert isinstance(sink.events[-1], Summary)


def test_an_empty_feed_is_lost(bed, sink):
    result = run_bed(bed, Feed(), sink)
    assert "memory:: the feed ended without a single sample" in str(result.lost)
    assert sink.events == [result.summary]
    assert result.summary.windows == 0
    assert result.summary.latency_ms == {"p50": None, "p99": None}


def test_a_mistake_in_a_feed_is_not_taken_for_a_lost_feed(bed, sink):
    feed = Feed(*chunks_of(1.0, chunk_s=1.0), ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        run_bed(bed, feed, sink)
    assert feed.closed >= 1


@pytest.mark.parametrize("chunk_s", [0.004, 0.7, 40.0])
@pytest.mark.parametrize("t0_s", [0.0, 5000.0])
def test_the_duration_cuts_at_the_very_sample(bed, sink, chunk_s, t0_s):
    result = run_bed(bed, Feed(*chunks_of(16.0, chunk_s=chunk_s, t0_s=t0_s)), sink, duration_s=14.996)
    assert bed.seen_samples == 3749
    assert result.summary.windows == 1
    assert result.lost is None


def test_the_duration_ends_a_feed_that_never_ends(bed, sink):
    class Endless(Feed):
        async def __aiter__(self):
            for k in range(10**9):
                yield Chunk(float(k), np.zeros((12, 250), np.float32), k)

    feed = Endless()
    run_bed(bed, feed, sink, duration_s=2.0)
    assert bed.seen_samples == 500
    assert feed.closed >= 1


def test_the_duration_ends_a_feed_that_has_gone_silent(bed, sink):
    async def stream():
        feed = Feed(*chunks_of(1.0, chunk_s=1.0), 60.0)
        return await asyncio.wait_for(run_stream(bed, feed, sinks=[sink], duration_s=1.5, speed=1.0), 60.0)

    assert asyncio.run(stream()).lost is None


def test_a_feed_that_never_sends_is_lost(bed, sink):
    # Connected, and then nothing: the bed that shows no number must say why.
    run_bed(bed, Feed(2.6), sink, speed=1.0)
    assert [alarm.condition for alarm in sink.of(Alarm)] == ["FEED_LOST"]
