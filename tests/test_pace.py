"""A live feed whose samples come at another rate than it declares is told of; jitter, stalls and steps are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import pace
from ecgedge.pace import AgeWatch, PaceWatch


def heard(watch, *, real_hz, declared_hz, seconds, chunk_s=0.1, lag_s=lambda _: 0.0, t0_s=0.0, now0_s=0.0):
    """Play a device; return when the watch's word changed, and to what."""
    said, last, arrived_s = [], watch.steady, now0_s
    for k in range(1, round(seconds / chunk_s) + 1):
        samples = round(k * chunk_s * real_hz)
        arrived_s = max(arrived_s, now0_s + k * chunk_s + lag_s(k * chunk_s))
        watch.heard(t0_s + samples / declared_hz, arrived_s)
        if watch.steady != last:
            last = watch.steady
            said.append((round(arrived_s - now0_s), last))
    return said


@pytest.mark.parametrize(
    ("declared_hz", "real_hz", "within_s"),
    [
        (500.0, 250.0, 75.0),
        (250.0, 500.0, 75.0),
        (360.0, 250.0, 75.0),
        (250.0, 300.0, 75.0),
        (250.0, 257.0, 625.0),
        (256.0, 250.0, 625.0),
    ],
)
def test_a_wrong_rate_is_told_with_the_one_that_was_found(declared_hz, real_hz, within_s):
    watch = PaceWatch(declared_hz)
    said = heard(watch, real_hz=real_hz, declared_hz=declared_hz, seconds=within_s)
    assert said[-1][1] is False
    found = float(watch.why.split()[3])
    assert found == pytest.approx(real_hz, rel=0.01)
    assert f"the feed declares {declared_hz:g}" in watch.why


@given(
    seed=st.integers(0, 10**6),
    ppm=st.floats(-500.0, 500.0),
    jitter_s=st.floats(0.0, 0.3),
    stall_s=st.floats(0.0, 9.0),
    step_s=st.floats(-60.0, 60.0),
)
@settings(max_examples=40)
def test_an_honest_feed_is_never_accused(seed, ppm, jitter_s, stall_s, step_s):
    """Lags that come and go, a stall that is made up for, and one step."""
    rng = np.random.default_rng(seed)
    stall_at, step_at = rng.uniform(0.0, 800.0, 2)

    def lag_s(t_s):
        stalled = max(0.0, stall_at + stall_s - t_s) if stall_at <= t_s else 0.0
        return rng.exponential(jitter_s) * (rng.random() < 0.5) + stalled + step_s * (t_s > step_at) + 60.0

    watch = PaceWatch(500.0)
    said = heard(watch, real_hz=500.0 * (1.0 + ppm * 1e-6), declared_hz=500.0, seconds=900.0, lag_s=lag_s)
    assert [steady for _, steady in said] == [True]
    assert watch.why is None


def test_the_word_is_taken_back_when_the_device_is_set_right():
    watch = PaceWatch(500.0)
    assert heard(watch, real_hz=250.0, declared_hz=500.0, seconds=100.0) == [(70, False)]
    said = heard(watch, real_hz=500.0, declared_hz=500.0, seconds=700.0, t0_s=50.0, now0_s=100.0)
    assert [steady for _, steady in said] == [True]


def test_before_a_minute_and_after_a_silence_nobody_knows():
    watch = PaceWatch(500.0)
    assert heard(watch, real_hz=250.0, declared_hz=500.0, seconds=60.0) == []
    later = {"t0_s": 30.0, "now0_s": 60.0 + pace.STEP_S + 1.0}
    assert heard(watch, real_hz=250.0, declared_hz=500.0, seconds=60.0, **later) == []
    assert watch.steady is None


# --- samples that waited ---


def aged(watch, lags, *, chunk_s=0.1, begin=0):
    """Play chunks whose lags these are; return the times at which the watch's word changed."""
    said = []
    for k, lag_s in enumerate(lags, begin):
        before = watch.delayed
        watch.heard(1e6 + k * chunk_s, 1e6 + (k + 1) * chunk_s, (k + 1) * chunk_s + lag_s)
        if watch.delayed != before:
            said.append((round(k * chunk_s, 3), watch.delayed))
    return said


def test_samples_that_come_late_for_a_while_are_told_until_they_are_in_time():
    watch = AgeWatch()
    lags = [0.05] * 100 + [12.0] * 100 + [1.5] * 50 + [0.05] * 50
    (told_at, on), (gone_at, off) = aged(watch, lags)
    assert (told_at, on) == (pytest.approx(15.0, abs=0.2), True)
    assert (gone_at, off) == (pytest.approx(25.0, abs=0.2), False)
    assert watch.why is None


def test_it_says_how_late_they_are():
    watch = AgeWatch()
    aged(watch, [0.05] * 100 + [12.0] * 100)
    assert float(watch.why.split()[2]) == pytest.approx(11.95, abs=0.1)


def test_a_network_that_was_gone_and_sends_all_it_kept_is_no_delay_once_it_has_caught_up():
    burst = [30.0 - 0.1 * k for k in range(300)]  # 300 chunks, all at the moment when the network is back
    assert aged(AgeWatch(), [0.05] * 100 + burst + [0.05] * 100) == []


def test_one_that_never_catches_up_is_told():
    assert aged(AgeWatch(), [0.05] * 100 + [30.0] * 100)[-1][1] is True


@given(
    seed=st.integers(0, 10**6),
    ppm=st.floats(-150.0, 150.0),
    jitter_s=st.floats(0.0, 0.3),
    stall_s=st.floats(0.0, 4.0),
)
@settings(max_examples=30, deadline=None)
def test_jitter_stalls_that_are_made_up_for_and_drift_are_no_delay(seed, ppm, jitter_s, stall_s):
    rng = np.random.default_rng(seed)
    stall_at = rng.integers(10, 9000)
    lags = 60.0 + np.minimum(rng.exponential(jitter_s, 36_000), 1.9) + ppm * 1e-6 * np.arange(36_000) * 0.1
    lags[stall_at : stall_at + 41] += np.maximum(0.0, stall_s - 0.1 * np.arange(41))
    assert aged(AgeWatch(), lags.tolist()) == []


@pytest.mark.parametrize("set_by_s", [-86400.0, -30.0, 30.0, 86400.0])
def test_a_devices_clock_that_is_set_makes_no_sample_older(set_by_s):
    watch = AgeWatch()
    for k in range(400):
        begin_s = 0.1 * k + set_by_s * (k >= 200)
        watch.heard(begin_s, begin_s + 0.1, 0.1 * (k + 1) + 5.0)
        assert not watch.delayed
    assert watch.age_s < 0.2
