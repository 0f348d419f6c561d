"""The heartbeat's clockwork: which checks are due, and that calling more often changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.alarms import SelfChecks
from ecgedge.alarms.self_check import LEAP_S
from ecgedge.policy import AlarmPolicy


def begun(t_s: float = 0.0, *, period_s: float = 5.0) -> SelfChecks:
    made = SelfChecks(replace(AlarmPolicy(), self_check_s=period_s))
    made.begin(t_s)
    return made


def heard(made: SelfChecks, t_s: float) -> list[tuple[int, float]]:
    made.leap(t_s)
    return list(made.due(t_s))


def test_each_five_seconds_by_default() -> None:
    assert AlarmPolicy().self_check_s == 5.0


def test_they_count_from_the_begin() -> None:
    made = begun(100.0)
    assert list(made.due(104.999)) == []
    assert list(made.due(105.0)) == [(1, 105.0)]
    assert list(made.due(105.0)) == []
    assert list(made.due(99.0)) == []
    assert list(made.due(116.0)) == [(2, 110.0), (3, 115.0)]


def test_times_do_not_drift() -> None:
    made = begun(period_s=0.1)
    assert list(made.due(1000.0))[-1][1] == pytest.approx(1000.0, abs=1e-9)


def test_a_leap_leaves_the_newest() -> None:
    made = begun()
    assert heard(made, 3.0) == []
    assert heard(made, 3.0 + LEAP_S) == [(n, 5.0 * n) for n in range(1, 13)], "as long as a leap may not be"
    assert heard(made, 86_402.0) == [(17_280, 86_400.0)]
    assert heard(made, 86_407.0) == [(17_281, 86_405.0)]


def test_a_leap_shorter_than_the_period_takes_nothing_back() -> None:
    made = begun(period_s=60.0)
    assert heard(made, 60.0) == [(1, 60.0)]
    assert heard(made, 179.0) == [(2, 120.0)]
    assert heard(made, 179.5) == []


@given(st.lists(st.floats(0.0, LEAP_S - 1e-6), max_size=40), st.sampled_from([0.3, 1.0, 5.0, 60.0]))
def test_calling_more_often_changes_nothing(steps, period_s) -> None:
    # A step of just LEAP_S may round to a longer one when times are added up.
    watched, t_s, found = begun(period_s=period_s), 0.0, []
    for step_s in steps:
        t_s += step_s
        found += heard(watched, t_s)
    assert found == list(begun(period_s=period_s).due(t_s))
    assert [n for n, _ in found] == list(range(1, len(found) + 1))
