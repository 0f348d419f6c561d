"""The watch over a bed: self-checks, pauses of the sound, and what users may not do."""

import numpy as np
import pytest

from ecgedge.errors import UsageError
from ecgedge.events import AudioEvent, SelfCheck

from .helpers import checks_of, ecg, of


def test_a_bed_says_that_it_is_alive_whatever_the_signal(new_bed):
    """R11: each 5 s of stream time, counted from the first sample, with leads off and in a hole of 12 s as well."""
    samples_mv, bed = ecg(40.0).copy(), new_bed()
    samples_mv[:, 1000:2000] = np.nan
    events = bed.push(samples_mv[:, :5000], t_s=100.0)
    events += bed.push(samples_mv[:, 8000:], t_s=132.0)
    assert checks_of(events) == [(100.0 + 5.0 * n, n) for n in range(1, 9)]


def test_a_self_check_comes_at_its_time_before_the_estimate_of_that_instant(new_bed):
    events = new_bed().push(ecg(12.0), t_s=0.0)
    assert [e.type for e in events] == ["feed", "self_check", "self_check", "estimate"]


def test_self_checks_do_not_depend_on_who_watches(new_bed):
    """Silent from 20 to 75 s: with a tick each second, at odd times, or none."""
    samples_mv = ecg(40.0)

    def played(ticks):
        bed = new_bed()
        events = bed.push(samples_mv[:, :5000], t_s=0.0)
        for t_s in ticks:
            events += bed.advance(t_s)
        return events + bed.push(samples_mv[:, 5000:], t_s=75.0)

    expected = [(5.0 * n, n) for n in range(1, 20)]
    for ticks in ([], range(21, 75), [23.7, 52.0], [74.9]):
        assert checks_of(played(ticks)) == expected


def test_checks_that_nobody_made_are_left_out_of_a_leap(new_bed):
    samples_mv, bed = ecg(30.0), new_bed()
    bed.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv, t_s=86_400.0)
    assert checks_of(events) == [(86_400.0 + 5.0 * n, 17_280 + n) for n in range(7)]
    assert checks_of(bed.advance(1e9)) == [(1e9, 200_000_000)]


def test_a_pause_is_counted_down(new_bed):
    bed = new_bed()
    bed.push(ecg(12.0), t_s=0.0)
    bed.pause_audio(12.0, duration_s=15.0, user="a")
    checks = of([e for t_s in (20.0, 31.0) for e in bed.advance(t_s)], SelfCheck)
    assert [(c.t_s, c.audio_pause_left_s) for c in checks] == [
        (15.0, 12.0),
        (20.0, 7.0),
        (25.0, 2.0),
        (30.0, None),
    ]


def test_a_wait_for_the_first_sample_is_alive_too_and_the_stream_counts_anew(new_bed):
    bed = new_bed()
    assert checks_of(bed.advance(11.0)) == [(5.0, 1), (10.0, 2)]
    assert checks_of(bed.push(ecg(7.0), t_s=500.0)) == [(505.0, 1)]


def test_a_user_who_comes_late_leaves_no_check_out(new_bed):
    bed = new_bed()
    bed.push(ecg(2.0), t_s=0.0)
    assert checks_of(bed.acknowledge(12.0, condition="FEED_LOST", user="a")) == [(5.0, 1), (10.0, 2)]


@pytest.mark.parametrize(
    "refused",
    [
        lambda bed: bed.acknowledge(12.0, condition="FEED_LOST", user=""),
        lambda bed: bed.acknowledge(12.0, condition="FEED", user="a"),
        lambda bed: bed.pause_audio(12.0, duration_s=1000.0, user="a"),
        lambda bed: bed.pause_audio(12.0, duration_s=10.0, user=""),
        lambda bed: bed.resume_audio(12.0, user=""),
    ],
)
def test_what_is_refused_takes_no_event_with_it(new_bed, refused):
    bed = new_bed()
    bed.push(ecg(2.0), t_s=0.0)
    with pytest.raises(ValueError, match=r"who |unknown condition|a pause of"):
        refused(bed)
    assert [e.type for e in bed.advance(12.0)] == ["feed", "alarm", "self_check", "self_check"]


@pytest.mark.parametrize("t_s", [np.nan, np.inf, -np.inf])
def test_time_must_be_finite(new_bed, t_s):
    bed = new_bed()
    bed.push(ecg(2.0), t_s=0.0)
    for call in (
        lambda: bed.advance(t_s),
        lambda: bed.acknowledge(t_s, condition="FEED_LOST", user="a"),
        lambda: bed.pause_audio(t_s, duration_s=10.0, user="a"),
        lambda: bed.resume_audio(t_s, user="a"),
    ):
        with pytest.raises(UsageError, match="expected seconds of stream time"):
            call()
    assert checks_of(bed.advance(6.0)) == [(5.0, 1)]


def test_a_pause_is_the_beds_and_ends_in_stream_time(new_bed):
    bed, samples_mv = new_bed(), ecg(40.0)
    bed.push(samples_mv[:, :2500], t_s=0.0)
    (paused,) = bed.pause_audio(10.0, duration_s=20.0, user="nurse 7")
    assert (paused.state, paused.ends_s, paused.user) == ("paused", 30.0, "nurse 7")
    (over,) = of(bed.push(samples_mv[:, 2500:], t_s=10.0), AudioEvent)
    assert (over.state, over.t_s) == ("on", 30.0)
    bed.pause_audio(40.0, duration_s=20.0, user="nurse 7")
    (on,) = bed.resume_audio(41.0, user="nurse 8")
    assert (on.t_s, on.user) == (41.0, "nurse 8")
    with pytest.raises(ValueError, match="at most 120 seconds"):
        bed.pause_audio(42.0, duration_s=121.0, user="nurse 7")
    assert bed.summary(latency_ms={}, journal=None).alarms == {}


def test_a_pause_from_before_the_first_sample_keeps_what_is_left_of_it(new_bed):
    """The wait is told in seconds waited; the device's own clock begins at 5000 s here."""
    bed = new_bed()
    bed.advance(3.0)  # FEED_LOST since 2
    (paused,) = bed.pause_audio(3.5, duration_s=120.0, user="a")
    assert paused.ends_s == 123.5
    bed.advance(23.5)
    events = bed.push(ecg(110.0), t_s=5000.0)
    assert [(e.t_s, e.state, e.ends_s) for e in of(events, AudioEvent)] == [
        (5000.0, "paused", 5100.0),
        (5100.0, "on", None),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_a_pause_that_was_over_before_the_first_sample_does_not_come_back(new_bed, lost):
    bed = new_bed()
    bed.pause_audio(0.25, duration_s=1.0, user="a")
    assert [e.t_s for e in of(bed.advance(9.0 if lost else 1.5), AudioEvent)] == [1.25]
    assert of(bed.push(ecg(2.0), t_s=0.0), AudioEvent) == []
