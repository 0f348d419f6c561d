"""Samples that only a stamp of software places: stalls are no holes, holes are, and chunking never matters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import FeedError
from ecgedge.feeds.stamps import StampGrid

RATE_HZ = 500.0
BEGIN = 5_000


def place(stamps_s, *, cuts=(), rate_hz=RATE_HZ):
    grid = StampGrid(rate_hz=rate_hz)
    pieces = np.split(np.asarray(stamps_s), sorted(cuts))
    return np.concatenate([*(grid.push(piece) for piece in pieces), grid.flush()])


def regular(n=1500):
    return (BEGIN + np.arange(n)) / RATE_HZ


def test_regular_stamps_are_numbered_by_the_clock():
    np.testing.assert_array_equal(place(regular()), BEGIN + np.arange(1500))


@pytest.mark.parametrize("lost", [3, 10, 250, 5_000])
@pytest.mark.parametrize("where", [1, 700])
def test_a_hole_stays_a_hole_at_its_place(lost, where):
    kept = np.r_[0:where, where + lost : where + lost + 900]
    np.testing.assert_array_equal(place((BEGIN + kept) / RATE_HZ), BEGIN + kept)


def test_several_holes_within_the_time_that_is_waited():
    kept = np.setdiff1d(np.arange(2000), np.r_[300:320, 340:360, 365:400, 1000:1020])
    np.testing.assert_array_equal(place((BEGIN + kept) / RATE_HZ), BEGIN + kept)


def test_a_sender_that_was_held_up_and_catches_up_leaves_no_hole():
    stamps_s = regular()
    stamps_s[600:650] = stamps_s[650]  # 100 ms held up, then all at once
    stamps_s[0:20] = stamps_s[20]  # at the very beginning, too
    numbers = place(stamps_s)
    np.testing.assert_array_equal(np.diff(numbers), 1)


@pytest.mark.parametrize("ppm", [-300, 300])
def test_a_clock_that_drifts_is_followed(ppm):
    n = np.arange(500 * 600)
    numbers = place(BEGIN / RATE_HZ + n / RATE_HZ * (1 + ppm * 1e-6))
    np.testing.assert_array_equal(np.diff(numbers), 1)


def test_single_wrong_stamps_change_nothing():
    stamps_s = regular()
    stamps_s[100:120], stamps_s[300:310], stamps_s[500:520], stamps_s[700] = 1e9, -1e9, np.nan, np.inf
    stamps_s[900:920] = stamps_s[900] - 1.0
    np.testing.assert_array_equal(np.diff(place(stamps_s)), 1)


def test_a_clock_that_is_set_back_ends_the_feed():
    with pytest.raises(FeedError, match="went back by 6"):
        place(np.r_[regular(), regular() - 3.0])
    np.testing.assert_array_equal(np.diff(place(np.r_[regular(), regular() + 2.0])), 1)


@pytest.mark.parametrize("stamp_s", [np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0])
def test_a_stream_without_a_stamp_is_still_counted(stamp_s):
    np.testing.assert_array_equal(np.diff(place(np.full(40, stamp_s))), 1)


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 1500), max_size=30),
    rate_hz=st.sampled_from([100.0, 500.0, 1000.0]),
)
def test_how_they_are_cut_into_pieces_never_matters(seed, cuts, rate_hz):
    random = np.random.default_rng(seed)
    steps = random.choice(
        [1.0, 1.0, 1.0, 1.0, 1.3, 0.5, 40.0, 300.0],
        1500,
        p=[0.24, 0.24, 0.24, 0.23, 0.02, 0.02, 0.005, 0.005],
    )
    stamps_s = np.cumsum(steps) / rate_hz
    whole = place(stamps_s, rate_hz=rate_hz)
    np.testing.assert_array_equal(place(stamps_s, cuts=cuts, rate_hz=rate_hz), whole)
    assert len(whole) == 1500
    assert (np.diff(whole) >= 1).all()
