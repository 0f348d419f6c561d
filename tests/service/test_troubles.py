"""The loop around a bed where something else ails: the rate, the clock, a receiver, the journal's disk."""

import asyncio
import json
import math

import pytest
from memory_feed import At
from memory_feed import MemoryFeed as Feed
from service_run import RATE_HZ, Kept, chunks_of, run_bed

from ecgedge.errors import RecordError
from ecgedge.events import Alarm, Estimate, FeedEvent, Summary, event_to_dict
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.journal import Backlog, Journal, read_journal, verify_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.rerun import compare_run, facts_of_bed, find_runs
from ecgedge.sim import Simulator
from ecgedge.station import Station
from ecgedge.stream import Bed

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
    chunks = chunks_of(45.0, chunk_s=1.0)
    honest = chunks_of(5.0, chunk_s=0.2, t0_s=45.0)
    steps = [step for k, chunk in enumerate(chunks) for step in (chunk, At(0.1 * k))]
    steps += [step for k, chunk in enumerate(honest) for step in (chunk, At(4.5 + 0.2 * k))]
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        run_bed(bed, Feed(*steps, info=LIVE), sink, journal=journal)
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
    steps = [step for chunk in chunks_of(30.0, chunk_s=1.0) for step in (chunk, 0.1)]
    run_bed(bed, Feed(*steps), sink, speed=10.0)
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
    chunks = chunks_of(130.0, chunk_s=1.0)
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        options = {"speed": 20.0, "read_clock": lambda: not 10.0 <= bed.due_s < 100.0}
        run_bed(bed, Feed(*chunks), sink, journal=journal, **options)
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
    run_bed(bed, Feed(*chunks_of(130.0, chunk_s=1.0)), sink, speed=speed, read_clock=lambda: state)
    assert sink.of(Alarm) == []


def test_a_clock_that_was_not_held_before_the_first_sample_is_told_of_anew(bundle, variants, looks):
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    events = bed.clock_unsync(1.0, why="free") + bed.advance(70.0)
    chunk = chunks_of(130.0, chunk_s=130.0)[0]
    events += bed.push(chunk.samples_mv, t_s=0.0)
    told = [(e.t_s, e.presence) for e in events if isinstance(e, Alarm) and e.condition == "CLOCK_UNSYNC"]
    assert told == [(61.0, "on"), (70.0, "off"), (60.0, "on")]


# --- a receiver that does not confirm -------------------------------------------------------------------


def test_delivery_that_fails_and_a_receiver_that_is_dismissed_can_be_run_again(
    bundle, variants, bed, sink, tmp_path
):
    path = tmp_path / "bed.jsonl"
    chunks = chunks_of(40.0, chunk_s=1.0)
    troubles = {
        5: ("late", None),
        12: ("gone", None),
        20: (None, None),
        25: ("gone", None),
        30: (None, "Seven"),
    }

    async def serve(journal):
        station = Station(bed, [sink], Backlog(journal))
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


class Deaf:
    """An output that is in trouble while a test says so."""

    name = "mqtt://nowhere"

    def __init__(self):
        self.trouble = None


def test_an_output_that_does_not_deliver_is_an_alarm_and_can_be_run_again(
    bundle, variants, bed, sink, tmp_path
):
    output, path = Deaf(), tmp_path / "bed.jsonl"
    chunks = chunks_of(40.0, chunk_s=1.0)

    class Steps(Feed):
        async def __aiter__(self):
            for k, chunk in enumerate(chunks):
                output.trouble = "mqtt://nowhere: cannot connect" if 10 <= k < 20 else None
                yield chunk

    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        run_bed(bed, Steps(), sink, journal=journal, outputs=[output])
    told = [e for e in sink.of(Alarm) if e.condition == "DELIVERY_FAILED"]
    assert [(e.t_s, e.presence) for e in told] == [(10.0, "on"), (20.0, "off")]
    assert "mqtt://nowhere: cannot connect" in told[0].text
    (run,) = find_runs(path)
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=Feed(*chunks), variants=variants))
    assert found.difference is None


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
        run_bed(bed, Feed(*chunks_of(60.0, chunk_s=1.0)), *sinks, journal=journal)
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
        run_bed(bed, Feed(*chunks_of(12.0, chunk_s=1.0), 0.8), sink, speed=20.0, journal=journal)
    lost, failed = sink.of(Alarm)
    assert (lost.condition, failed.condition) == ("FEED_LOST", "JOURNAL_FAILED")
    assert failed.t_s >= lost.t_s == 14.0


def test_such_a_journal_can_be_run_again(bundle, variants, bed, tmp_path):
    path = tmp_path / "bed.jsonl"
    facts = facts_of_bed(bed, "memory:", {})
    with Journal(path, facts=facts) as first:
        first.append({"type": "summary"})
    with Sick(path, takes=4) as journal:
        run_bed(bed, Feed(*chunks_of(60.0, chunk_s=1.0)), Heals(journal, 30.0), journal=journal)
    run = find_runs(path)[1]
    run.facts = facts
    feed = Feed(*chunks_of(60.0, chunk_s=1.0))
    found = asyncio.run(compare_run(path, run, bundle=bundle, feed=feed, variants=variants))
    assert found.difference is None
    assert found.equal > 20


def test_a_disk_that_stays_full_is_an_error_after_the_summary(bed, sink, tmp_path):
    says = r"No space left on device; it lacks the last \d+ entries"
    with Sick(tmp_path / "bed.jsonl", takes=4) as journal, pytest.raises(RecordError, match=says):
        run_bed(bed, Feed(*chunks_of(30.0, chunk_s=1.0)), sink, journal=journal)
    assert isinstance(sink.events[-1], Summary)
    assert verify_journal(tmp_path / "bed.jsonl").entries == 5


def test_the_summary_is_the_last_event_also_where_the_journal_does_not_take_it(bed, sink, tmp_path):
    with (
        Sick(tmp_path / "bed.jsonl", takes=2) as journal,
        pytest.raises(RecordError, match="the last 1 entries"),
    ):
        run_bed(bed, Feed(*chunks_of(2.0, chunk_s=1.0)), sink, journal=journal)
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
    run_bed(bed, Feed(*steps), sink, speed=20.0)
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
    first, rest = chunks_of(15.0, chunk_s=1.0), chunks_of(15.0, chunk_s=0.2, t0_s=15.0)
    steps = [step for k, chunk in enumerate(first) for step in (chunk, At(0.02 * k))]
    for k, chunk in enumerate(rest):
        late_s = 3.0 if 10 <= k < 50 else 0.0
        steps += [At(0.5 + 0.2 * k + late_s), chunk]
    with Journal(path, facts=facts_of_bed(bed, "memory:", {})) as journal:
        run_bed(bed, Feed(*steps, info=LIVE), sink, journal=journal)
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
