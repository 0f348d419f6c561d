"""Packets out of order, twice, lost, late, from a clock that drifts or is set: what comes out lies where it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import FeedError
from ecgedge.feeds.dejitter import Dejitter, Packet

RATE_HZ = 500.0


def packet(first, n=10, *, by_time=False, t0_s=0.0, t_s=None):
    """Samples whose values say their number."""
    values = np.arange(first, first + n, dtype=np.float32)[np.newaxis]
    if by_time or t_s is not None:
        return Packet(values, t_s=t0_s + first / RATE_HZ if t_s is None else t_s)
    return Packet(values, index=first)


def play(order, packets):
    return [chunk for one in packets for chunk in order.push(one)] + order.flush()


def require_in_place(chunks, *, t0_s=0.0):
    """Each sample stands at its own time, and time goes on."""
    end = -1
    for chunk in chunks:
        first = round((chunk.t_s - t0_s) * RATE_HZ)
        np.testing.assert_array_equal(
            chunk.samples_mv[0], np.arange(first, first + chunk.samples_mv.shape[1])
        )
        assert first >= end
        end = first + chunk.samples_mv.shape[1]


def told(chunks):
    return sorted(int(v) for chunk in chunks for v in chunk.samples_mv[0])


@pytest.mark.parametrize("by_time", [False, True])
def test_packets_in_order_pass_as_they_are(by_time):
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    chunks = []
    for k in range(5):
        (chunk,) = order.push(
            packet(10 * k, by_time=by_time)
        )  # at once: nothing waits where nothing is missing
        chunks.append(chunk)
    require_in_place(chunks)
    assert [c.seq for c in chunks] == [0, 1, 2, 3, 4]
    assert set(vars(order.disorder).values()) == {0}


@pytest.mark.parametrize("by_time", [False, True])
def test_what_comes_after_its_follower_is_put_back(by_time):
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    numbers = [0, 2, 1, 3, 6, 5, 4, 7]
    chunks = play(order, [packet(10 * k, by_time=by_time) for k in numbers])
    require_in_place(chunks)
    assert told(chunks) == list(range(80))
    assert (order.disorder.reordered, order.disorder.lost_samples) == (3, 0)  # 1, 5 and 4


def test_what_is_put_back_is_counted_while_something_else_is_missing_too():
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    play(order, [packet(10 * k) for k in (0, 2, 4, 3, 5)])
    assert (order.disorder.reordered, order.disorder.lost_samples) == (1, 10)


@pytest.mark.parametrize("by_time", [False, True])
def test_what_never_comes_is_a_hole_after_the_wait(by_time):
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.1)
    assert len(order.push(packet(0, by_time=by_time))) == 1
    waiting = [order.push(packet(10 * k, by_time=by_time)) for k in range(2, 8)]
    assert [len(w) for w in waiting] == [0, 0, 0, 0, 0, 6]  # 50 samples are a tenth of a second
    require_in_place(waiting[-1])
    assert order.disorder.lost_samples == 10
    assert order.push(packet(10, by_time=by_time)) == []
    assert (order.disorder.late, order.disorder.duplicates) == (1, 0)


@pytest.mark.parametrize("by_time", [False, True])
def test_what_comes_twice_is_told_once(by_time):
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    numbers = [0, 0, 1, 3, 3, 2, 1, 4]
    chunks = play(order, [packet(10 * k, by_time=by_time) for k in numbers])
    assert told(chunks) == list(range(50))
    assert order.disorder.duplicates == 3


def test_what_was_told_in_part_is_told_for_the_rest():
    order = Dejitter(rate_hz=RATE_HZ)
    chunks = play(order, [packet(0), packet(5), packet(15)])
    require_in_place(chunks)
    assert told(chunks) == list(range(25))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 8)), min_size=5, max_size=60),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_a_wire_does_no_sample_is_shifted_told_twice_or_lost_unreported(wire, by_time):
    """Each packet may be lost, sent twice, and delayed by some places."""
    sent = []
    for k, (fate, twice, delay) in enumerate(wire):
        if fate:
            sent += [(k + delay, packet(10 * k, by_time=by_time))] * (2 if twice else 1)
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.1)
    packets = [one for _, one in sorted(sent, key=lambda item: item[0])]
    chunks = play(order, packets)
    t0_s = 0.0
    require_in_place(chunks, t0_s=t0_s)
    values = told(chunks)
    assert len(values) == len(set(values))
    if values:
        holes = values[-1] - values[0] + 1 - len(values)
        assert order.disorder.lost_samples == holes
    came = {int(one.samples_mv[0, 0]) for one in packets}
    if order.disorder.late == 0 and packets and min(came) == int(packets[0].samples_mv[0, 0]):
        assert set(values) == {v for first in came for v in range(first, first + 10)}


@given(st.floats(-300e-6, 300e-6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=8)
def test_a_clock_that_drifts_and_trembles_loses_and_shifts_nothing(drift, seed):
    """Ten minutes in packets of 20 ms whose times are up to 2 ms off, from a clock that is not quite right."""
    noise = np.random.default_rng(seed).uniform(-0.002, 0.002, 30_000)
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.1)
    n = 0
    for k, off_s in enumerate(noise):
        for chunk in order.push(packet(10 * k, t_s=100.0 + 10 * k / RATE_HZ * (1.0 + drift) + off_s)):
            assert int(chunk.samples_mv[0, 0]) == n
            n += chunk.samples_mv.shape[1]
    assert n == 300_000
    assert order.disorder.lost_samples == order.disorder.duplicates == 0
    assert order.drift_s == pytest.approx(600.0 * drift, abs=0.005)


def test_a_hole_by_time_is_as_long_as_it_was_though_the_clock_trembles():
    order = Dejitter(rate_hz=RATE_HZ)
    noise = np.random.default_rng(1).uniform(-0.003, 0.003, 200)
    numbers = [k for k in range(200) if not 50 <= k < 80]
    chunks = play(order, [packet(10 * k, t_s=10 * k / RATE_HZ + noise[k]) for k in numbers])
    assert order.disorder.lost_samples == pytest.approx(300, abs=3)
    assert sum(c.samples_mv.shape[1] for c in chunks) == 1700


@pytest.mark.parametrize(("to_s", "counter"), [(86400.0, "long_holes"), (-86400.0, "clock_jumps")])
def test_a_clock_that_is_set_is_followed_after_a_second_packet(to_s, counter):
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    before = play(order, [packet(10 * k, t_s=1e6 + 0.02 * k) for k in range(10)])
    assert order.push(packet(100, t_s=1e6 + to_s)) == []
    after = [order.push(packet(10 * k, t_s=1e6 + to_s + 0.02 * (k - 10))) for k in range(11, 14)]
    assert [len(c) for c in after] == [2, 1, 1]
    assert after[0][0].t_s == 1e6 + to_s
    assert told(before) + told([c for some in after for c in some]) == list(range(140))
    assert getattr(order.disorder, counter) == 1
    assert order.disorder.lost_samples == 0


def test_one_packet_with_a_wrong_time_is_dropped_and_counted():
    order = Dejitter(rate_hz=RATE_HZ)
    times = [0.0, 0.02, 5000.0, 0.06, -5000.0, 0.1]
    chunks = play(order, [packet(10 * k, t_s=t_s) for k, t_s in enumerate(times)])
    require_in_place(chunks)
    assert (order.disorder.strays, order.disorder.lost_samples) == (2, 20)


def test_a_count_may_begin_anew():
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5, modulus=2**32)
    first = 2**32 - 15
    packets = [Packet(np.full((1, 10), k, np.float32), index=(first + 10 * k) % 2**32) for k in (0, 2, 1, 3)]
    chunks = play(order, packets)
    assert [round(c.t_s * RATE_HZ) for c in chunks] == [first, first + 10, first + 20, first + 30]
    assert [c.samples_mv[0, 0] for c in chunks] == [0, 1, 2, 3]


def test_a_device_that_starts_anew_ends_the_feed_and_packets_that_come_twice_do_not():
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    play(order, [packet(10 * k) for k in range(300)])
    assert play(order, [packet(10 * k) for k in range(250, 300)]) == []  # a second's packets, sent again
    assert order.disorder.duplicates == 50
    with pytest.raises(FeedError, match="started anew"):
        play(order, [packet(10 * k) for k in range(150)])


def test_a_leap_of_more_than_an_hour_ends_the_feed():
    order = Dejitter(rate_hz=RATE_HZ, wait_s=0.5)
    order.push(packet(0))
    with pytest.raises(FeedError, match="leapt"):
        order.push(packet(10 + 3600 * 500 + 1))


def test_memory_is_bounded_where_one_sample_packets_never_follow():
    order = Dejitter(rate_hz=RATE_HZ, wait_s=3600.0)
    order.push(packet(0, 1))
    for k in range(2, 3000, 1):
        order.push(packet(k, 1))
    assert len(order._held) <= 1025
    assert order.disorder.lost_samples == 1
