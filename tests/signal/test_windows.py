"""The windower against slices of the whole stream."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.signal import Conditioned, Windower


def stream(n, n_leads=2):
    counts = (np.arange(n_leads * n).reshape(n_leads, n) % 30_000).astype(np.int16)
    return Conditioned(counts, (counts % 3).astype(np.uint8))


@given(
    n=st.integers(0, 200),
    window=st.integers(1, 50),
    hop=st.integers(1, 120),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_windows_are_slices_of_the_stream(n, window, hop, cuts):
    whole = stream(n)
    windower, windows = Windower(n_leads=2, window_samples=window, hop_samples=hop), []
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    for a, b in pairwise(edges):
        windows += windower.push(Conditioned(whole.counts[:, a:b], whole.status[:, a:b]))
    assert [w.end_index for w in windows] == list(range(window, n + 1, hop))
    for w in windows:
        np.testing.assert_array_equal(w.counts, whole.counts[:, w.end_index - window : w.end_index])
        np.testing.assert_array_equal(w.status, whole.status[:, w.end_index - window : w.end_index])


def test_a_window_comes_with_its_last_sample():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    whole = stream(15)
    came = [
        len(windower.push(Conditioned(whole.counts[:, i : i + 1], whole.status[:, i : i + 1])))
        for i in range(15)
    ]
    assert came == [0] * 9 + [1] + [0] * 4 + [1]


def test_windows_own_their_samples():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    first = windower.push(stream(10))[0]
    kept = first.counts.copy()
    windower.push(stream(500))
    np.testing.assert_array_equal(first.counts, kept)
    assert first.counts.dtype == np.int16
    assert first.status.dtype == np.uint8


@pytest.mark.parametrize("wrong", ["n_leads", "window_samples", "hop_samples"])
def test_lengths_must_be_positive(wrong):
    lengths = {"n_leads": 1, "window_samples": 1, "hop_samples": 1, wrong: 0}
    with pytest.raises(ValueError, match=wrong):
        Windower(**lengths)


def test_other_leads_are_refused():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    with pytest.raises(ValueError, match="2 leads"):
        windower.push(stream(5, n_leads=3))
    whole = stream(5)
    with pytest.raises(ValueError, match="2 leads"):
        windower.push(Conditioned(whole.counts, whole.status[:, :4]))
