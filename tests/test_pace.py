"""A live feed whose samples come at another rate than it declares is told of; jitter, stalls and steps are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import pace
from ecgedge.pace import PaceWatch


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
