"""Platt scaling and the conformal interval, on the numbers they are defined by."""

import json
import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ecgedge.schema import from_plain
from ecgedge_train.calibrate import (
    LeadSetCalibration,
    calibrate,
    conformal_halfwidth,
    fit_platt,
    write_calibration,
)
from ecgedge_train.model import build_model


def test_platt_equals_unpenalised_logistic_regression():
    rng = np.random.default_rng(1)
    z = rng.normal(size=20_000)
    y = rng.random(20_000) < expit(1.7 * z - 0.6)
    a, b = fit_platt(z, y)
    reference = LogisticRegression(C=1e12).fit(z[:, None], y)
    # Platt's smoothed targets differ from 0 and 1 by 1 / (n + 2).
    assert (a, b) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=2e-3)
    assert (a, b) == pytest.approx((1.7, -0.6), abs=0.08)


def test_platt_of_separable_data_is_finite_and_of_one_outcome_is_none():
    a, b = fit_platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert 0 < a < 50
    assert math.isfinite(b)
    assert fit_platt(np.array([0.5, 1.0]), np.array([True, True])) is None


def test_platt_repairs_overconfidence():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.05, 0.95, 5000)
    a, b = fit_platt(3 * logit(p) + 1, rng.random(5000) < p)
    assert np.abs(expit(a * (3 * logit(p) + 1) + b) - p).max() < 0.05


@pytest.mark.parametrize("n", [9, 19, 99, 100])
def test_conformal_of_one_record_a_patient_is_the_finite_sample_quantile(n):
    errors = np.random.default_rng(n).permutation(n) + 1.0
    patients = np.arange(n).astype(object)
    assert conformal_halfwidth(errors, patients, coverage=0.9) == math.ceil(0.9 * (n + 1))


def test_conformal_with_too_few_patients_is_infinite():
    assert conformal_halfwidth(np.ones(8), np.arange(8).astype(object), coverage=0.9) == math.inf
    # 80 records of 8 patients are still 8 patients.
    assert conformal_halfwidth(np.ones(80), np.repeat(np.arange(8), 10), coverage=0.9) == math.inf


def test_conformal_covers_new_patients_whose_errors_hang_together():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        scale = rng.gamma(2.0, 2.0, 30)
        n_records = rng.integers(1, 12, 30)
        patients = np.repeat(np.arange(30), n_records)
        errors = np.abs(rng.normal(size=len(patients)) * scale[patients])
        width = conformal_halfwidth(errors, patients, coverage=0.9)
        covered.append(np.mean(np.abs(rng.normal(size=200) * rng.gamma(2.0, 2.0, 200)) <= width))
    assert 0.9 <= np.mean(covered) < 0.97


def test_calibrate_gives_every_lead_set_and_is_written(data, recipe_factory, tmp_path):
    model = build_model(recipe_factory()).train()
    rows = data.select(split="tune")
    result = calibrate(model, data, rows, label="mpcwp_mmhg", lead_sets=("12", "I,II", "I"))
    assert list(result) == ["12", "I,II", "I"]
    assert model.training
    for one in result.values():
        assert one.n_patients == 12
        assert one.interval_halfwidth_mmhg > 0
        assert one.uncalibrated == ()
    assert result["12"] != result["I"]
    write_calibration(tmp_path, result)
    plain = json.loads((tmp_path / "calibration.json").read_text())
    assert {k: from_plain(LeadSetCalibration, v) for k, v in plain.items()} == result


def test_calibrate_says_what_it_could_not_calibrate(data_factory, recipe_factory):
    data = data_factory(patients=20)
    data.label_columns["mpcwp_mmhg"][:] = 10.0
    rows = data.select(split="tune")
    one = calibrate(build_model(recipe_factory()), data, rows, label="mpcwp_mmhg", lead_sets=("12",))["12"]
    assert one.platt_15 == (1.0, 0.0)
    assert one.uncalibrated == ("platt_15", "platt_18")
    assert one.interval_halfwidth_mmhg is None
    assert one.n_patients == 4


def test_platt_never_turns_the_order_round():
    rng = np.random.default_rng(0)
    above = rng.random(200) < 0.3
    a, b = fit_platt((-2.0 * above + rng.normal(size=200)).astype(np.float32), above)
    assert a == 0.0
    assert expit(b) == pytest.approx(above.mean(), abs=0.02)
