"""Raw blocks go with the tenths of a window, however the stream is cut, together with others or alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.signal.raw import RAW_BLOCKS, TENTHS, raw_block
from ecgedge.signal.raw_track import MeasureRaw, RawTrack, as_blocks, measure_raw_together
from ecgedge.signal.resample import Resampler

RATES = (128.0, 250.0, 360.0, 500.0, 1000.0)


def track(rate_hz, tenth, n_leads=2, **state):
    return RawTrack(n_leads=n_leads, rate_in_hz=rate_hz, rate_out_hz=250.0, tenth_samples=tenth, **state)


def signal(n, rng):
    samples = np.cumsum(rng.normal(0.0, 0.05, (2, n)), axis=1).clip(-1.0, 1.0).astype(np.float32)
    if rng.random() < 0.5:
        start = rng.integers(n)
        samples[rng.integers(2), start : start + rng.integers(1, n)] = rng.choice([np.nan, np.inf, 1e30])
    return samples


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from(RATES),
    tenth=st.sampled_from([250, 256]),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.floats(0.0, 1.0), max_size=30),
    restored=st.sets(st.integers(0, 30), max_size=3),
)
def test_a_windows_blocks_are_there_when_it_is(rate_hz, tenth, seed, cuts, restored):
    rng = np.random.default_rng(seed)
    n = round(14 * tenth * rate_hz / 250.0)
    samples = signal(n, rng)
    made = track(rate_hz, tenth)
    resampler = Resampler(n_leads=1, rate_in_hz=rate_hz, rate_out_hz=250.0, pass_hz=40.0)
    clean = np.where(np.abs(samples) <= 1000.0, samples, np.float32(np.nan))
    conditioned = ready = 0
    edges = [0, *sorted(round(cut * n) for cut in cuts), n]
    for k, (a, b) in enumerate(pairwise(edges)):
        ready += resampler.n_outputs(b - a)
        resampler.phase += b - a
        blocks = made.push(samples[:, a:b])
        if blocks:
            (measured,) = measure_raw_together([MeasureRaw(made.spec, blocks)])
            made.take(measured)
        while conditioned + tenth <= ready:
            conditioned += tenth
            if conditioned < TENTHS * tenth:
                continue
            numbers = as_blocks(made.window(conditioned))
            odd = [k for k in range(conditioned // tenth - TENTHS, conditioned // tenth) if k % 2]
            for place, of_tenth in enumerate(odd):
                last = (of_tenth + 1) * tenth - 1
                end = int(last * rate_hz / 250.0 + 1e-9) + 1  # with which that sample is ready
                expected = raw_block(clean[:, end - made.spec.block_samples : end], made.spec)
                for name, value in vars(expected).items():
                    found = getattr(numbers, name)[place]
                    np.testing.assert_array_equal(found, value, err_msg=name)
        if k in restored:
            made = track(rate_hz, tenth, state=made.state.copy(), n_in=b)


def test_beds_together_are_measured_as_each_alone():
    rng = np.random.default_rng(0)
    spec = track(500.0, 256).spec
    asked = [
        MeasureRaw(
            spec,
            [rng.normal(0.0, 1.0, (n_leads, spec.block_samples)).astype(np.float32) for _ in range(n_blocks)],
        )
        for n_leads, n_blocks in ((12, 1), (2, 3), (12, 10), (1, 1))
    ]
    together = measure_raw_together(asked)
    for one, found in zip(asked, together, strict=True):
        np.testing.assert_array_equal(found, measure_raw_together([one])[0])
        assert found.shape == (len(one.blocks), 7, len(one.blocks[0]))


def test_a_tenth_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="too short at 500 Hz"):
        track(500.0, 100)


def test_two_hops_at_a_time_nothing_is_kept_of_a_chunk():
    made = track(500.0, 256)
    for k in range(6):
        blocks = made.push(np.zeros((2, 512), np.float32))
        assert len(blocks) == k % 2
        if blocks:
            made.take(measure_raw_together([MeasureRaw(made.spec, blocks)])[0])
            assert made.state.shape[1] <= 2 + (RAW_BLOCKS + 3) * 7 + 2
