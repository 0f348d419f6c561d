"""A bed that is set against a catheter value: what it shows, what its alarms make of it, and what survives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.alarms import Reading
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, CalibrationEvent, Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, BedSnapshot

RATE_HZ = 250.0
AT_S = 150.0
QUICK = AlarmPolicy(persistence_s=30.0, recovery_window_s=30.0, latching=False)


@pytest.fixture(scope="module")
def ecg():
    return Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(400 * RATE_HZ))


def new_bed(bundle, variants, policy=QUICK):
    return Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=policy)


def play(bed, ecg, first_s, end_s, *, chunk_s=10.0):
    events, step = [], round(chunk_s * RATE_HZ)
    for k in range(round(first_s * RATE_HZ), round(end_s * RATE_HZ), step):
        events += bed.push(ecg[:, k : min(k + step, round(end_s * RATE_HZ))], t_s=k / RATE_HZ)
    return events


def estimates(events):
    return [e for e in events if isinstance(e, Estimate)]


def test_estimates_are_shown_less_what_was_learnt(formula_bundle, variants, ecg):
    plain, bed = new_bed(formula_bundle, variants), new_bed(formula_bundle, variants)
    as_said = play(plain, ecg, 0.0, 200.0)
    before = play(bed, ecg, 0.0, AT_S)
    (event,) = bed.calibrate(AT_S, reading=Reading(7.0, "Dr Eight"))
    after = estimates(play(bed, ecg, AT_S, 200.0))
    assert estimates(before) + [
        replace(
            e,
            mpcwp_mmhg=e.mpcwp_mmhg + event.calibration.offset_mmhg,
            calibration=None,
            interval_mmhg=s.interval_mmhg,
            p_gt_15=s.p_gt_15,
            p_gt_18=s.p_gt_18,
        )
        for e, s in zip(after, estimates(as_said)[len(estimates(before)) :], strict=True)
    ] == pytest.approx(estimates(as_said))
    assert isinstance(event, CalibrationEvent)
    assert (event.t_s, event.state, event.user) == (AT_S, "on", "Dr Eight")
    assert event.text.startswith(
        "calibrated by Dr Eight: 7 mmHg by catheter (+-2); estimates of 12/fp32 are shown "
    )
    said = np.median([e.mpcwp_mmhg for e in estimates(before) if e.t_s > AT_S - 120.0])
    assert abs(event.calibration.offset_mmhg) <= abs(said - 7.0)
    assert all(e.calibration == event.calibration for e in after)


def test_too_few_estimates_are_refused_and_nothing_moves(formula_bundle, variants, ecg):
    bed = new_bed(formula_bundle, variants)
    with pytest.raises(UsageError, match="there are 0 valid estimates"):
        bed.calibrate(0.0, reading=Reading(14.0, "a"))
    play(bed, ecg, 0.0, 40.0)
    state = bed.snapshot().to_bytes()
    with pytest.raises(
        UsageError, match="valid estimates in the last 120 s, and a calibration needs 12; wait"
    ):
        bed.calibrate(40.0, reading=Reading(14.0, "a"))
    assert bed.snapshot().to_bytes() == state


def test_it_ends_by_a_user_and_by_another_bundle(formula_bundle, variants, ecg):
    bed = new_bed(formula_bundle, variants)
    play(bed, ecg, 0.0, AT_S)
    assert bed.uncalibrate(AT_S, user="b") == []  # nothing to end
    bed.calibrate(AT_S, reading=Reading(14.0, "a"))
    (event,) = bed.uncalibrate(AT_S, user="b")
    assert (event.state, event.user, event.calibration) == ("off", "b", None)
    assert estimates(play(bed, ecg, AT_S, 160.0))[0].calibration is None
    bed.calibrate(160.0, reading=Reading(14.0, "a"))
    (event,) = bed.serve(formula_bundle, variants)
    assert (event.state, event.text) == (
        "off",
        "estimates are as the model says them: another bundle serves",
    )
    assert bed.serve(formula_bundle, variants) == []
    assert estimates(play(bed, ecg, 160.0, 170.0))[0].calibration is None


def elevated(events):
    return [e for e in events if isinstance(e, Alarm) and e.condition == "MPCWP_ELEVATED"]


def test_neither_brings_nor_clears_an_alarm_by_itself(formula_bundle, variants, ecg):
    """The rules begin anew: what was estimated before a calibration counts neither way any more."""
    said = estimates(play(new_bed(formula_bundle, variants), ecg, 0.0, AT_S))[-1]
    policy = replace(QUICK, threshold_mmhg=max(5.0, said.interval_mmhg[0] - 1.0))
    bed = new_bed(formula_bundle, variants, policy)
    assert [a.presence for a in elevated(play(bed, ecg, 0.0, AT_S))] == ["on"]
    low = max(0.5, said.mpcwp_mmhg - 25.0)
    assert bed.snapshot().alarms["windows"]
    events = bed.calibrate(AT_S, reading=Reading(low, "a", 0.5))
    assert not bed.snapshot().alarms["windows"]
    assert elevated(events) == []
    assert [a.condition for a in bed.alarms()] == ["MPCWP_ELEVATED"]
    after = elevated(play(bed, ecg, AT_S, 250.0))
    assert [a.presence for a in after] == ["off"]
    assert after[0].t_s >= AT_S + policy.min_valid_fraction * policy.recovery_window_s


def test_a_rise_is_looked_for_in_what_the_model_said(formula_bundle, variants, ecg):
    policy = replace(
        QUICK, rising=True, rising_span_s=60.0, rising_baseline_s=240.0, rising_min_windows=5, rising_mmhg=3.5
    )
    bed = new_bed(formula_bundle, variants, policy)
    events = play(bed, ecg, 0.0, AT_S)
    events += bed.calibrate(AT_S, reading=Reading(55.0, "a", 0.5))  # some 30 mmHg higher
    events += play(bed, ecg, AT_S, 400.0)
    assert estimates(events)[-1].mpcwp_mmhg > estimates(events)[0].mpcwp_mmhg + 3.0
    assert not [e for e in events if isinstance(e, Alarm) and e.condition == "MPCWP_RISING"]


@settings(max_examples=12, deadline=None)
@given(chunk_s=st.floats(0.1, 30.0), restored=st.booleans())
def test_any_cut_restored_or_not_says_the_same(formula_bundle, variants, ecg, chunk_s, restored):
    def story(chunk_s, *, restored):
        bed = new_bed(formula_bundle, variants)
        events = play(bed, ecg, 0.0, AT_S, chunk_s=chunk_s)
        for end_s, act in ((200.0, lambda b: b.calibrate(AT_S, reading=Reading(9.0, "a"))), (230.0, None)):
            events += act(bed) if act else bed.uncalibrate(200.0, user="b")
            if restored:
                snapshot = BedSnapshot.from_bytes(bed.snapshot().to_bytes(), source="memory")
                bed = Bed.restore(formula_bundle, snapshot, variants=variants, policy=QUICK)
            events += play(bed, ecg, end_s - (50.0 if act else 30.0), end_s, chunk_s=chunk_s)
        return events

    assert story(chunk_s, restored=restored) == story(10.0, restored=False)


def test_a_restored_bed_can_be_calibrated_at_once(formula_bundle, variants, ecg):
    bed = new_bed(formula_bundle, variants)
    play(bed, ecg, 0.0, AT_S)
    snapshot = BedSnapshot.from_bytes(bed.snapshot().to_bytes(), source="memory")
    again = Bed.restore(formula_bundle, snapshot, variants=variants, policy=QUICK)
    reading = Reading(9.0, "a")
    assert again.calibrate(AT_S, reading=reading) == bed.calibrate(AT_S, reading=reading)
