"""Calibration against one catheter value: the formula by hand, on simulated errors, and in a bed."""

import math
from statistics import NormalDist, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.alarms import Reading
from ecgedge.bundle import VariantSpec
from ecgedge.errors import UsageError
from ecgedge.events import Calibrated, Estimate
from ecgedge.stream.one_point import SPAN_S, Recent, calibrate, error_sd_mmhg, shown

Z90 = 1.6448536269514722
SPEC = VariantSpec(
    ("I", "II"), "fp32", "f.onnx", 1, 1, 1e-3, interval_halfwidth_mmhg=10.0, interval_coverage=0.9
)
NO_INTERVAL = VariantSpec(("I", "II"), "fp32", "f.onnx", 1, 1, 1e-3)


def estimate(t_s, mmhg, *, validity="valid", variant="I,II/fp32", p=0.3):
    interval = None if mmhg is None else (mmhg - 10.0, mmhg + 10.0)
    return Estimate(t_s, mmhg, interval, p, p, validity, None, 1.0, ("I", "II"), variant)


def test_the_formula_by_hand():
    """Half width 10 at 90 %: in all 6.08 mmHg; windows 19, 20, 21 (SD 1); a reading of 14 +- 2."""
    found = calibrate([19.0, 20.0, 21.0], Reading(14.0, "a", 2.0), SPEC, t_s=60.0)
    patient, noise = (10.0 / Z90) ** 2 - 1.0, 1.0 + 4.0
    share = patient / (patient + noise)
    assert found == Calibrated(
        60.0, "I,II/fp32", 14.0, pytest.approx(share * 6.0), pytest.approx(math.sqrt(share * noise))
    )
    assert 5.0 < found.offset_mmhg < 6.0


def test_without_an_interval_the_whole_difference_is_taken():
    found = calibrate([19.0, 20.0, 21.0], Reading(14.0, "a", 2.0), NO_INTERVAL, t_s=0.0)
    assert found.offset_mmhg == 6.0
    assert found.sd_mmhg == pytest.approx(math.sqrt(5.0))


def test_estimates_that_vary_more_than_the_interval_teach_nothing():
    with pytest.raises(UsageError, match=r"vary by 14\.1 mmHg, more than .* \(6\.1\); wait"):
        calibrate([10.0, 30.0], Reading(14.0, "a"), SPEC, t_s=0.0)


def test_over_many_simulated_patients_errors_shrink_and_intervals_hold():
    """The model's own assumption, played: 4,000 patients with a bias, windows that share an error for minutes."""
    rng = np.random.default_rng(0)
    total, window = 10.0 / Z90, 2.0
    before, after, covered = [], [], []
    for _ in range(4000):
        truth = rng.uniform(8.0, 30.0)
        bias = rng.normal(0.0, math.sqrt(total**2 - window**2))
        drawn = (truth + bias + rng.normal(0.0, window, 24)).tolist()
        reading = Reading(float(np.clip(truth + rng.normal(0.0, 2.0), 0.1, 60.0)), "a", 2.0)
        found = calibrate(drawn, reading, SPEC, t_s=0.0)
        later = estimate(300.0, truth + bias + rng.normal(0.0, window))
        told = shown(later, found, SPEC)
        before.append(later.mpcwp_mmhg - truth)
        after.append(told.mpcwp_mmhg - truth)
        covered.append(told.interval_mmhg[0] <= truth <= told.interval_mmhg[1])
    assert np.std(before) == pytest.approx(total, rel=0.05)
    # Less than the window's own noise and the reading's it can never be.
    assert math.hypot(window, 1.5) < np.std(after) < 0.6 * total
    assert abs(np.mean(after)) < 0.2
    assert np.mean(covered) >= 0.9


def test_what_is_shown_and_what_is_not():
    found = Calibrated(60.0, "I,II/fp32", 14.0, 5.0, 2.0)
    told = shown(estimate(70.0, 20.0), found, SPEC)
    sd = 10.0 / Z90
    assert told.mpcwp_mmhg == 15.0
    assert told.interval_mmhg == (5.0, 25.0)  # as wide as it was
    assert told.p_gt_15 == pytest.approx(0.5)
    assert told.p_gt_18 == pytest.approx(1.0 - NormalDist().cdf(3.0 / sd))
    assert told.calibration == found
    assert told.mpcwp_mmhg + found.offset_mmhg == 20.0  # what the model said is not lost
    other = estimate(70.0, 20.0, variant="II/fp32")
    assert shown(other, found, SPEC) is other  # another variant errs in its own way
    nothing = estimate(70.0, None, validity="invalid")
    assert shown(nothing, found, SPEC) is nothing


def test_a_bundle_without_an_interval_tells_no_probability_of_a_calibrated_estimate():
    told = shown(estimate(70.0, 20.0), Calibrated(60.0, "I,II/fp32", 14.0, 5.0, 2.0), NO_INTERVAL)
    assert (told.mpcwp_mmhg, told.interval_mmhg, told.p_gt_15, told.p_gt_18) == (15.0, None, None, None)
    assert error_sd_mmhg(NO_INTERVAL) is None


@pytest.mark.parametrize("mmhg", [0.0, -1.0, 60.1, math.nan, math.inf])
def test_values_that_no_wedge_pressure_has_are_refused(mmhg):
    with pytest.raises(ValueError, match="mpcwp_mmhg is"):
        Reading(mmhg, "a")


@pytest.mark.parametrize("sd_mmhg", [0.0, -1.0, 10.1, math.nan])
def test_a_reading_has_a_standard_deviation(sd_mmhg):
    with pytest.raises(ValueError, match="sd_mmhg is"):
        Reading(14.0, "a", sd_mmhg)


def test_someone_answers_for_it():
    with pytest.raises(ValueError, match="who calibrates"):
        Reading(14.0, " ")
    assert Reading(14.0, " Nurse Seven ").user == "Nurse Seven"


@given(
    st.lists(st.sampled_from(["valid", "questionable", "invalid", "other"]), max_size=80),
    st.sampled_from([1.0, 5.0]),
)
def test_recent_are_the_valid_ones_of_one_variant_in_the_span(kinds, hop_s):
    recent, kept = Recent(hop_s=hop_s), []
    for k, kind in enumerate(kinds, start=1):
        mmhg = None if kind == "invalid" else float(k)
        validity, variant = ("valid", "II/fp32") if kind == "other" else (kind, "I,II/fp32")
        recent.push(estimate(k * hop_s, mmhg, validity=validity, variant=variant))
        if kind in ("valid", "other"):
            kept = [x for x in kept if x[2] == variant] + [(k * hop_s, mmhg, variant)]
    now_s = len(kinds) * hop_s
    expected = [mmhg for at_s, mmhg, _ in kept if at_s > now_s - SPAN_S]
    again = Recent(hop_s=hop_s, variant=recent.variant, numbers=recent.numbers)
    for made in (recent, again):
        if len(expected) < 0.5 * SPAN_S / hop_s:
            with pytest.raises(UsageError, match=f"there are {len(expected)} valid estimates"):
                made.before(now_s)
        else:
            assert made.before(now_s) == expected
    assert len(recent.numbers) <= 2 * SPAN_S / hop_s


def test_the_spread_is_that_of_the_estimates():
    drawn = [18.0, 22.0, 20.5, 19.0]
    found = calibrate(drawn, Reading(20.0, "a", 2.0), NO_INTERVAL, t_s=0.0)
    assert found.sd_mmhg == pytest.approx(math.sqrt(stdev(drawn) ** 2 + 4.0))
