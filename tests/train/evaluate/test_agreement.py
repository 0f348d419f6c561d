from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from ecgedge_train.evaluate.agreement import agreement, agreement_figures
from ecgedge_train.evaluate.conformal import AbsoluteErrors, group_coverage, mondrian_halfwidths
from ecgedge_train.evaluate.decision import decision_curve, net_benefit


def pressures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    measured = rng.normal(15, 8, n)
    return measured, 0.5 * measured + 9 + rng.normal(0, 5, n)


@given(seed=st.integers(0, 1000), n=st.integers(3, 60))
def test_limits_of_agreement_are_bland_and_altmans(seed, n):
    measured, predicted = pressures(n, seed)
    d = predicted - measured
    slope = linregress((measured + predicted) / 2, d).slope
    expected = (
        d.mean(),
        d.std(ddof=1),
        d.mean() - 1.959964 * d.std(ddof=1),
        d.mean() + 1.959964 * d.std(ddof=1),
        slope,
    )
    found = agreement_figures(measured, predicted, np.ones((1, n)))[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    counts = np.random.default_rng(seed).integers(1, 4, n)
    copied = agreement_figures(
        np.repeat(measured, counts), np.repeat(predicted, counts), np.ones((1, counts.sum()))
    )
    assert agreement_figures(measured, predicted, counts[None].astype(float)) == pytest.approx(
        copied, rel=1e-6
    )


def test_intervals_of_the_limits_resample_patients():
    measured, predicted = pressures(100, 0)
    copies = np.repeat(np.arange(100), 9)
    by_patient = agreement(measured[copies], predicted[copies], copies)
    by_record = agreement(measured[copies], predicted[copies], np.arange(900))
    for name in ("bias", "low", "high"):
        wide, narrow = (getattr(found, name) for found in (by_patient, by_record))
        assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(3.0, rel=0.2)


@given(seed=st.integers(0, 1000), n=st.integers(1, 60))
def test_net_benefit_is_vickers_formula_in_a_loop(seed, n):
    rng = np.random.default_rng(seed)
    truth, p = rng.random(n) < 0.4, np.round(rng.random(n), 1)
    weights = rng.integers(0, 3, (2, n)) + (np.arange(n) == 0)
    thresholds = (0.1, 0.5, 0.73)
    found = net_benefit(thresholds)(truth, p, weights.astype(float))
    for r in range(2):
        for k, t in enumerate(thresholds):
            tp = sum(weights[r, i] for i in range(n) if p[i] >= t and truth[i])
            fp = sum(weights[r, i] for i in range(n) if p[i] >= t and not truth[i])
            assert found[r, k] == pytest.approx((tp - fp * t / (1 - t)) / weights[r].sum())


def test_alerting_always_is_worth_what_a_model_that_says_1_is():
    truth = np.arange(20) < 6
    curve = decision_curve(truth, np.ones(20), np.arange(20), thresholds=(0.1, 0.3, 0.6), resamples=20)
    assert [e.value for e in curve.model] == pytest.approx(list(curve.treat_all))
    assert curve.treat_all[1] == pytest.approx(
        0.0
    )  # prevalence 0.3: at its own odds alerting is worth nothing
    with pytest.raises(ValueError, match="between 0 and 1"):
        decision_curve(truth, np.ones(20), np.arange(20), thresholds=(1.0,))


@pytest.mark.parametrize("seed", range(3))
def test_mondrian_half_widths_are_those_of_crepes(seed):
    import crepes

    rng = np.random.default_rng(seed)
    groups = rng.choice(["sex=female", "sex=male", "sex=x"], 200, p=[0.5, 0.4, 0.1])
    errors = np.abs(rng.normal(0, np.where(groups == "sex=male", 6.0, 3.0)))
    found = mondrian_halfwidths(errors, np.arange(200), groups, coverage=0.9)
    model = crepes.ConformalRegressor()
    model.fit(errors, bins=groups)
    names = np.array(sorted(set(groups)))
    interval = model.predict_int(np.zeros(len(names)), bins=names, confidence=0.9)
    assert [found[name] for name in names] == pytest.approx(interval[:, 1])


def made_errors(n: int, seed: int) -> AbsoluteErrors:
    rng = np.random.default_rng(seed)
    groups = rng.choice(["sex=female", "sex=male", ""], n)
    return AbsoluteErrors(
        np.abs(rng.normal(0, np.where(groups == "sex=male", 6.0, 2.0))), np.arange(n) // 2, {"sex": groups}
    )


def test_one_half_width_for_all_misses_a_group_that_its_own_covers():
    found = {
        c.group: c
        for c in group_coverage(
            "12",
            tune=made_errors(2000, 0),
            test=made_errors(2000, 1),
            pooled_halfwidth=6.0,
            coverage=0.9,
            resamples=50,
        )
    }
    assert set(found) == {"sex=female", "sex=male"}
    assert found["sex=male"].pooled.value < 0.75 < 0.97 < found["sex=female"].pooled.value
    for group in found.values():
        assert group.own.value == pytest.approx(0.9, abs=0.03)
        assert group.own.low < group.own.value < group.own.high


def test_a_group_too_small_on_tune_has_no_width_of_its_own():
    tune, test = made_errors(8, 0), made_errors(200, 1)
    found = group_coverage("12", tune=tune, test=test, pooled_halfwidth=6.0, coverage=0.9, resamples=5)
    assert found
    assert all((c.own_halfwidth, c.own) == (None, None) for c in found)
