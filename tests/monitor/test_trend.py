"""The trend of a day: bounded, in order, and a number before none."""

from hypothesis import given
from hypothesis import strategies as st
from sink_events import estimate

from ecgedge.monitor.trend import DAY_MS, POINTS, STEP_MS, Trend


def test_of_a_step_the_newest_number_stands():
    trend = Trend()
    for at_ms, mmhg in ((0, 10.0), (1000, 12.0), (2000, None), (STEP_MS, None), (STEP_MS + 1, None)):
        trend.add(estimate(0.0, mmhg), float(at_ms))
    found = trend.to_plain()
    assert found["mpcwp_mmhg"] == [12.0, None]
    assert found["low"] == [6.0, None]
    assert found["high"] == [18.0, None]
    assert found["validity"] == ["valid", "invalid"]
    assert found["reason"] == [None, "lead_off"]
    assert found["t_ms"] == [1000, STEP_MS + 1]


@given(st.lists(st.integers(0, 3 * DAY_MS), min_size=1, max_size=60))
def test_no_more_than_a_day_and_in_order(times):
    trend = Trend()
    for at_ms in times:
        trend.add(estimate(0.0, 15.0), float(at_ms))
    t_ms = trend.to_plain()["t_ms"]
    assert t_ms == sorted(t_ms)
    assert t_ms[-1] // STEP_MS == max(times) // STEP_MS
    assert all(t // STEP_MS > max(times) // STEP_MS - POINTS for t in t_ms)
    steps = {t // STEP_MS for t in times if t // STEP_MS > max(times) // STEP_MS - POINTS}
    assert {t // STEP_MS for t in t_ms} <= steps


def test_days_of_estimates_take_no_more_room():
    trend = Trend()
    for k in range(2 * POINTS):
        trend.add(estimate(0.0, float(k % 40)), float(k * STEP_MS))
    found = trend.to_plain()
    assert {len(column) for column in found.values()} == {POINTS}
    assert found["t_ms"][0] == POINTS * STEP_MS
