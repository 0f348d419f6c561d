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
    data=st.data(),
)
def test_windows_are_slices_of_the_stream(n, window, hop, cuts, data):
    whole = stream(n)
    first = data.draw(st.integers(window, 3 * window))
    keep = data.draw(st.integers(window, 3 * window))
    windower = Windower(n_leads=2, window_samples=window, hop_samples=hop, first_end=first, keep_samples=keep)
    ends = []
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    for a, b in pairwise(edges):
        for w in windower.push(Conditioned(whole.counts[:, a:b], whole.status[:, a:b])):
            ends.append(w.end_index)
            np.testing.assert_array_equal(w.counts, whole.counts[:, w.end_index - window : w.end_index])
            np.testing.assert_array_equal(w.status, whole.status[:, w.end_index - window : w.end_index])
            start = max(0, w.end_index - keep)
            np.testing.assert_array_equal(windower.latest(keep), whole.counts[:, start : w.end_index])
    assert ends == list(range(first, n + 1, hop))


def test_a_window_comes_with_its_last_sample():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    whole = stream(15)
    came = [
        len(list(windower.push(Conditioned(whole.counts[:, i : i + 1], whole.status[:, i : i + 1]))))
        for i in range(15)
    ]
    assert came == [0] * 9 + [1] + [0] * 4 + [1]


def test_a_window_is_int16_counts_and_uint8_status():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    (first,) = windower.push(stream(10))
    assert first.counts.dtype == np.int16
    assert first.status.dtype == np.uint8


@pytest.mark.parametrize("wrong", ["n_leads", "window_samples", "hop_samples"])
def test_lengths_must_be_positive(wrong):
    lengths = {"n_leads": 1, "window_samples": 1, "hop_samples": 1, wrong: 0}
    with pytest.raises(ValueError, match=wrong):
        Windower(**lengths)


@pytest.mark.parametrize("short", ["first_end", "keep_samples"])
def test_less_than_a_window_is_refused(short):
    with pytest.raises(ValueError, match=f"{short} 9"):
        Windower(n_leads=1, window_samples=10, hop_samples=5, **{short: 9})


def test_other_leads_are_refused():
    windower = Windower(n_leads=2, window_samples=10, hop_samples=5)
    with pytest.raises(ValueError, match="2 leads"):
        windower.push(stream(5, n_leads=3))
    whole = stream(5)
    with pytest.raises(ValueError, match="2 leads"):
        windower.push(Conditioned(whole.counts, whole.status[:, :4]))


@pytest.mark.parametrize("chunk", [1, 7, 20, 100])
def test_a_window_is_known_to_be_whole_as_soon_as_it_is(chunk):
    """And never before; also where it goes on from what was kept."""
    counts = np.zeros((2, 200), np.int16)
    status = np.zeros(counts.shape, np.uint8)
    status[1, 60:75] = 2
    lengths = {"n_leads": 2, "window_samples": 20, "hop_samples": 1}
    for restored_at in (None, 70, 80):
        windower, said = Windower(**lengths), {}
        for at in range(0, 200, chunk):
            if restored_at is not None and at <= restored_at < at + chunk:
                windower = Windower(**lengths, state=windower.state)
            part = slice(at, at + chunk)
            for window in windower.push(Conditioned(counts[:, part], status[:, part])):
                assert not (window.whole and window.status.any())
                said[window.end_index] = window.whole
        late = -(-75 // chunk) * chunk  # a chunk as a whole counts as what its worst sample is
        assert all(said[end] for end in range(late + 40, 201))
