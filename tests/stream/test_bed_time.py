"""A bed and the feed's time: gaps, silence, samples from the past, and clocks that are set back."""

import pytest

from ecgedge.events import Alarm, FeedEvent, SelfCheck

from .helpers import ecg, estimates_of, of


def test_a_gap_is_reported_counted_and_never_filled(new_bed):
    samples_mv, bed = ecg(60.0), new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=0.0)
    events += bed.push(samples_mv[:, 31 * 250 :], t_s=31.0)
    (gap,) = of(events, FeedEvent, state="gap")
    assert (gap.t_s, gap.age_s) == (31.0, 1.0)
    by_time = {e.t_s: e for e in estimates_of(events)}
    assert by_time[35.0].validity == by_time[40.0].validity == "invalid"
    assert by_time[35.0].reason.startswith("gap: I,II,III")
    assert by_time[45.0].validity != "invalid"
    assert not of(events, Alarm, condition="FEED_LOST")
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 250


def test_silence_is_lost_at_its_due_time_whether_watched_or_not(new_bed):
    samples_mv = ecg(40.0)
    unwatched, watched = new_bed(), new_bed()
    first = unwatched.push(samples_mv[:, :5000], t_s=0.0)
    assert watched.push(samples_mv[:, :5000], t_s=0.0) == first
    seen = []
    for t_s in (20.5, 21.0, 22.0, 23.0, 24.0):
        seen += watched.advance(t_s)
    assert [(e.state, e.t_s) for e in seen if isinstance(e, FeedEvent)] == [("lost", 22.0)]
    assert [(a.condition, a.t_s) for a in seen if isinstance(a, Alarm)] == [("FEED_LOST", 22.0)]
    later = unwatched.push(samples_mv[:, 5000:], t_s=25.0)
    assert [e.t_s for e in of(later, FeedEvent, state="lost")] == [22.0]
    for events in (later, watched.push(samples_mv[:, 5000:], t_s=25.0)):
        assert of(events, FeedEvent, state="connected")[0].t_s == 25.0
        assert of(events, Alarm, condition="FEED_LOST", presence="off")[0].t_s == 25.0


def test_silence_longer_than_a_window_is_a_gap_not_missing_leads(new_bed):
    samples_mv, bed = ecg(60.0), new_bed()
    events = bed.push(samples_mv[:, : 20 * 250], t_s=0.0)
    events += bed.push(samples_mv[:, 40 * 250 :], t_s=40.0)
    by_time = {e.t_s: e for e in estimates_of(events)}
    assert by_time[35.0].reason.startswith("gap: I,II,III")
    assert {e.condition for e in events if isinstance(e, Alarm)} == {"FEED_LOST"}


def test_a_feed_that_never_delivers_is_lost(new_bed):
    bed = new_bed()
    waited = [event for t_s in (1.0, 2.5, 9.0) for event in bed.advance(t_s)]
    assert of(waited, FeedEvent, state="lost")[0].t_s == 2.0
    assert of(waited, Alarm, condition="FEED_LOST", presence="on")
    samples_mv = ecg(15.0)
    # The device's own clock begins at 0: nothing of the wait may colour what follows.
    late = bed.push(samples_mv, t_s=0.0)
    assert of(late, Alarm, condition="FEED_LOST", presence="off")
    straight = new_bed().push(samples_mv, t_s=0.0)
    assert [e for e in late if not isinstance(e, Alarm)] == straight


def test_a_long_hole_starts_the_front_end_afresh(new_bed):
    samples_mv, bed = ecg(30.0), new_bed()
    bed.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv, t_s=86_400.0)
    assert of(events, FeedEvent, state="gap")[0].age_s == 86_370.0
    assert [e.t_s for e in estimates_of(events)] == [86_410.0, 86_415.0, 86_420.0, 86_425.0, 86_430.0]
    assert estimates_of(events)[0].reason == "signal settling"


def test_samples_from_the_past_are_dropped_and_counted(new_bed):
    samples_mv, bed, straight = ecg(30.0), new_bed(), new_bed()
    expected = straight.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv[:, :3000], t_s=0.0)
    events += bed.push(samples_mv[:, 2500:3000], t_s=10.0)
    events += bed.push(samples_mv[:, 2900:], t_s=11.6)
    assert [e for e in events if not (isinstance(e, FeedEvent) and e.state == "stale")] == expected
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 600


def test_a_clock_that_is_set_back_a_day_costs_a_second(new_bed):
    samples_mv = ecg(60.0)
    bed = new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=86_400.0)
    events += bed.push(samples_mv[:, 30 * 250 :], t_s=30.0)
    jump, gap = of(events, FeedEvent, state="clock_jump")[0], of(events, FeedEvent, state="gap")[0]
    assert jump == FeedEvent(t_s=86_430.0, state="clock_jump", age_s=86_400.0)
    assert gap == FeedEvent(t_s=86_431.0, state="gap", age_s=1.0)
    assert [e.t_s for e in estimates_of(events)][-1] == 86_460.0
    assert estimates_of(events)[-1].validity == "valid"
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 250
    # Time that passes is still told in the feed's time.
    assert of(bed.advance(62.5), FeedEvent) == [FeedEvent(t_s=86_462.0, state="lost", age_s=2.0)]


@pytest.mark.parametrize("chunk", [50, 250, 6000])
def test_a_clock_that_begins_anew_after_an_outage_sets_nothing_else_back(new_bed, chunk):
    """A device was off for ten minutes: neither the self-checks nor the alarms wait another ten."""
    samples_mv = ecg(54.0)
    bed = new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=0.0) + bed.feed_lost()
    for t_s in range(31, 631):
        events += bed.advance(float(t_s))
    for start in range(0, 24 * 250, chunk):
        events += bed.push(samples_mv[:, 7500 + start : 7500 + start + chunk], t_s=start / 250.0)
    assert of(events, FeedEvent)[-2:] == [
        FeedEvent(t_s=631.0, state="gap", age_s=601.0),
        FeedEvent(t_s=631.0, state="connected"),
    ]
    assert of(events, FeedEvent, state="clock_jump")[0].age_s == 630.0
    assert [check.t_s for check in of(events, SelfCheck)] == [5.0 * k for k in range(1, 131)]
    (on, off) = of(events, Alarm)
    assert (on.t_s, off.t_s, off.presence) == (30.0, 631.0, "off")
    assert [e.t_s for e in estimates_of(events)][-2:] == [646.0, 651.0]
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 601 * 250


@pytest.mark.parametrize("chunk", [7, 250, 1000])
def test_however_a_stream_is_cut_its_clock_jumps_at_the_same_sample(new_bed, chunk):
    samples_mv = ecg(45.0)

    def play(chunk):
        bed = new_bed()
        events = bed.push(samples_mv[:, : 30 * 250], t_s=500.0)
        for start in range(30 * 250, 45 * 250, chunk):
            stop = min(start + chunk, 45 * 250)
            events += bed.push(samples_mv[:, start:stop], t_s=start / 250.0)
        return events

    assert play(chunk) == play(3750)


def test_a_few_packets_that_lost_their_way_move_no_clock(new_bed):
    samples_mv = ecg(30.0)
    bed, expected = new_bed(), new_bed().push(samples_mv, t_s=100.0)
    events = []
    for start in range(0, 30 * 250, 250):
        events += bed.push(samples_mv[:, start : start + 250], t_s=100.0 + start / 250.0)
        if start > 2500:
            events += bed.push(samples_mv[:, :200], t_s=50.0)  # over and over
    assert [e for e in events if not (isinstance(e, FeedEvent) and e.state == "stale")] == expected
