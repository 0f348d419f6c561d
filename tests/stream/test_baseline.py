"""A patient's own day: medians of minutes against a plain reference, any cut, restored or not."""

from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.events import Calibrated, Estimate
from ecgedge.stream.baseline import DAY_MINUTES, Baseline


def estimate(t_s, mmhg, *, validity="valid", offset_mmhg=None):
    calibration = None if offset_mmhg is None else Calibrated(0.0, "12/fp32", 10.0, offset_mmhg, 1.0)
    return Estimate(
        t_s, mmhg, None, None, None, validity, None, 1.0, ("I",), "12/fp32", calibration=calibration
    )


def told(estimates, baseline=None):
    baseline = baseline or Baseline()
    return [event for e in estimates for event in baseline.push(e)]


def reference(estimates):
    """Return (t_s, now, baseline, minutes) of each event, from all estimates ever."""
    minutes, found, last = {}, [], None
    for e in estimates:
        minute = int(e.t_s // 60)
        if last is not None and minute // 5 != last // 5:
            now = [median(minutes[m]) for m in range(minute - 10, minute) if m in minutes]
            day = range(minute - DAY_MINUTES, minute - 10)
            before = [median(minutes[m]) for m in day if m in minutes]
            if len(now) >= 5 and len(before) >= 30:
                found.append((e.t_s, median(now), median(before), len(before)))
        last = minute
        minutes.setdefault(minute, []).append(e.mpcwp_mmhg)
    return found


def plain(events):
    return [(e.t_s, e.now_mmhg, e.baseline_mmhg, e.baseline_minutes) for e in events]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([5.0, 20.0, 59.0, 200.0, 4000.0, 90_000.0]), st.floats(0.0, 40.0)),
        max_size=400,
    ),
    st.integers(0, 400),
)
def test_it_is_what_all_estimates_together_say(steps, cut):
    t_s, estimates = 0.0, []
    for step_s, mmhg in steps:
        t_s += step_s
        estimates.append(estimate(t_s, mmhg))
    expected = reference(estimates)
    assert plain(told(estimates)) == [pytest.approx(e) for e in expected]
    begun = Baseline()
    first = told(estimates[:cut], begun)
    assert first + told(estimates[cut:], Baseline(begun.state)) == told(estimates)


def test_a_rise_shows():
    events = told([estimate(t, 12.0 if t < 3600 else 20.0) for t in range(5, 7200, 5)])
    assert [e.t_s for e in events] == [2400.0 + 300.0 * k for k in range(16)]
    assert (events[0].now_mmhg, events[0].baseline_mmhg, events[0].baseline_minutes) == (12.0, 12.0, 30)
    assert events[-1].change_mmhg == 8.0


def test_only_valid_estimates_count():
    estimates = [
        estimate(t, None if t % 2 else 30.0, validity="invalid" if t % 2 else "questionable")
        for t in range(5, 9000, 5)
    ]
    assert told(estimates) == []


def test_a_calibration_is_no_change_of_the_patient():
    """Numbers are told as they are shown from then on; the change is the patient's."""
    estimates = [
        estimate(t, 20.0) if t < 3600 else estimate(t, 15.0, offset_mmhg=5.0) for t in range(5, 7200, 5)
    ]
    events = told(estimates)
    assert {e.change_mmhg for e in events} == {0.0}
    assert events[0].now_mmhg == 20.0
    assert events[-1].now_mmhg == events[-1].baseline_mmhg == 15.0


def test_memory_is_that_of_a_day():
    baseline = Baseline()
    told([estimate(t, 20.0) for t in range(0, 4 * 86_400, 30)], baseline)
    assert baseline.state.nbytes < 12_000
