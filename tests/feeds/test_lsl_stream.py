"""Samples of an LSL stream as packets, without LSL: however an inlet hands them out, they are the same."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.feeds.dejitter import Dejitter
from ecgedge.feeds.lsl_stream import LslStream, Pulled, StampedSamples

STREAM = LslStream(("V1", "I"), (1.0, 1e-3), 500.0, "test", 0.04)
N = 600
VALUES = np.column_stack([np.arange(N), 1000.0 * np.arange(N)])
"""V1 in millivolts, I in microvolts: both rows are 0, 1, 2, ... millivolts."""


def told(stamps_s, cuts):
    """Return the number that each sample is told with, and the samples, cut into pieces as an inlet may."""
    samples, order = StampedSamples(STREAM), Dejitter(rate_hz=500.0)
    places = [0, *sorted(cuts), N]
    pulled = [Pulled(VALUES[a:b], stamps_s[a:b], float(a)) for a, b in pairwise(places)]
    packets = [packet for one in pulled for packet in samples.push(one)] + samples.flush()
    chunks = [chunk for packet in packets for chunk in order.push(packet)]
    numbers = [round(c.t_s * 500) + k for c in chunks for k in range(c.samples_mv.shape[1])]
    return np.array(numbers), np.concatenate([c.samples_mv for c in chunks], axis=1), order.disorder


@given(
    cuts=st.lists(st.integers(0, N), max_size=20),
    holes=st.lists(st.tuples(st.integers(1, N - 1), st.integers(3, 400)), max_size=4),
)
def test_pieces_never_matter_and_holes_are_where_they_are(cuts, holes):
    steps = np.ones(N)
    for place, lost in holes:
        steps[place] = 1 + lost
    where = 1000 + np.cumsum(steps).astype(int)
    numbers, samples_mv, disorder = told(where / 500.0, cuts)
    np.testing.assert_array_equal(numbers, where)
    np.testing.assert_array_equal(samples_mv, np.tile(np.arange(N, dtype=np.float32), (2, 1)))
    assert disorder.lost_samples == where[-1] - where[0] - (N - 1)
