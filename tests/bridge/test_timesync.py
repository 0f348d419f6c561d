"""The clock of the other side: exact where the way is even, bounded where it is not, and nothing lost uncounted."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge_bridge.timesync import Exchange, fit_clock


def exchange(own_us, *, ahead_us, there_us, work_us, back_us, drift_ppm=0):
    """A PING at `own_us` to a clock that was `ahead_us` ahead at 0 and runs `drift_ppm` fast; rounded as clocks are."""

    def other(own):
        return ahead_us + own + round(Fraction(drift_ppm * own, 10**6))

    came_us, gone_us = own_us + there_us, own_us + there_us + work_us
    return Exchange(t1_us=own_us, t2_us=other(came_us), t3_us=other(gone_us), t4_us=gone_us + back_us)


AHEAD = st.integers(2**30, 2**62)
WAY = st.integers(0, 50_000)


@given(AHEAD, st.integers(0, 2**40), WAY, WAY, WAY)
def test_one_exchange_is_wrong_by_half_its_round_trip_at_most(ahead_us, own_us, there_us, work_us, back_us):
    e = exchange(own_us, ahead_us=ahead_us, there_us=there_us, work_us=work_us, back_us=back_us)
    assert e.is_possible
    assert e.round_trip_us == there_us + back_us
    # In whole numbers: a float holds no offset of 62 bits to the microsecond.
    twice = (e.t2_us - e.t1_us) + (e.t3_us - e.t4_us)
    assert twice - 2 * ahead_us == there_us - back_us
    assert abs(e.offset_us - ahead_us) <= e.round_trip_us / 2 + ahead_us * 2**-52


@given(
    ahead_us=st.integers(10**6, 2**44),
    start_us=st.integers(0, 2**44),
    drift_ppm=st.integers(-200, 200),
    ways=st.lists(st.integers(100, 5000), min_size=10, max_size=60),
)
def test_offset_and_drift_come_back_where_both_ways_take_as_long(ahead_us, start_us, drift_ppm, ways):
    pings = [
        exchange(
            start_us + i * 10**6,
            ahead_us=ahead_us + 2**44,
            there_us=w,
            work_us=50,
            back_us=w,
            drift_ppm=drift_ppm,
        )
        for i, w in enumerate(ways)
    ]
    fit = fit_clock(pings, slow_factor=1000.0)
    assert (fit.n_used, fit.n_slow, fit.n_impossible) == (len(ways), 0, 0)
    # Clocks count whole microseconds, and drift changes a little within an exchange: 2 us of 9 s and more.
    assert abs(fit.drift_ppm - drift_ppm) < 0.5
    truth_us = ahead_us + 2**44 + drift_ppm * fit.at_us / 10**6
    assert abs(fit.offset_us - truth_us) < 2
    later_us = fit.at_us + 60e6
    assert abs(fit.offset_at_us(later_us) - (truth_us + drift_ppm * 60)) < 32


@given(AHEAD.map(lambda a: a % 2**50), st.lists(st.tuples(WAY, WAY), min_size=1, max_size=40))
def test_an_offset_that_does_not_drift_is_within_the_bound_whatever_the_ways(ahead_us, ways):
    pings = [
        exchange(i * 10**6, ahead_us=ahead_us, there_us=there, work_us=9, back_us=back)
        for i, (there, back) in enumerate(ways)
    ]
    fit = fit_clock(pings)
    assert abs(fit.offset_us - ahead_us) <= fit.bound_us + 0.5
    assert fit.n_used >= 1
    assert fit.n_used + fit.n_slow + fit.n_impossible == len(pings)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), max_size=5))
def test_slow_exchanges_are_counted_and_change_nothing_and_neither_does_order(order, slow):
    good = [exchange(i * 10**6, ahead_us=777, there_us=300, work_us=5, back_us=300) for i in range(12)]
    mixed = [
        exchange(i * 10**6, ahead_us=777, there_us=90_000, work_us=5, back_us=300) if i in slow else good[i]
        for i in range(12)
    ]
    fit = fit_clock([mixed[i] for i in order])
    assert fit == fit_clock(mixed)
    assert (fit.n_slow, fit.n_used) == (len(slow), 12 - len(slow))
    assert (fit.offset_us, fit.drift_ppm, fit.bound_us) == (777.0, 0.0, 300.0)


@pytest.mark.parametrize(
    "impossible",
    [
        Exchange(t1_us=0, t2_us=10, t3_us=9, t4_us=100),
        Exchange(t1_us=100, t2_us=10, t3_us=10, t4_us=99),
        Exchange(t1_us=0, t2_us=0, t3_us=101, t4_us=100),
    ],
    ids=["answered before it came", "back before it went", "answered longer than it was away"],
)
def test_an_exchange_that_contradicts_itself_is_left_out_and_counted(impossible):
    assert fit_clock([impossible]) is None
    good = exchange(5, ahead_us=40, there_us=10, work_us=0, back_us=10)
    fit = fit_clock([impossible, good])
    assert (fit.n_impossible, fit.n_used, fit.offset_us, fit.drift_ppm) == (1, 1, 40.0, 0.0)


def test_nothing_to_fit_and_a_factor_that_could_leave_nothing():
    assert fit_clock([]) is None
    with pytest.raises(ValueError, match=r"slow_factor is 0\.5"):
        fit_clock([], slow_factor=0.5)
