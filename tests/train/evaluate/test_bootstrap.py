from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecgedge_train.evaluate import bootstrap
from ecgedge_train.evaluate.bootstrap import patient_bootstrap
from ecgedge_train.evaluate.metrics import auroc, bias, rmse


def cohort(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    return truth, truth + rng.normal(0, 1.5, n)


def test_equals_brute_force_over_the_same_draws():
    truth, score = cohort(60)
    patients = np.repeat(np.arange(20), 3)
    found = patient_bootstrap(auroc, truth, score, patients, resamples=200, seed=5)
    counts = np.random.default_rng(5).multinomial(20, np.full(20, 1 / 20), size=200)
    values = []
    for drawn in counts:
        rows = np.concatenate([np.flatnonzero(patients == p) for p in range(20) for _ in range(drawn[p])])
        values.append(roc_auc_score(truth[rows], score[rows]))
    assert found.value == pytest.approx(roc_auc_score(truth, score))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.patients == 20


def test_copies_of_records_do_not_narrow_a_patient_interval_but_a_record_interval():
    truth, score = cohort(100)
    copies = np.repeat(np.arange(100), 9)
    once = patient_bootstrap(auroc, truth, score, np.arange(100))
    clustered = patient_bootstrap(auroc, truth[copies], score[copies], copies)
    records = patient_bootstrap(auroc, truth[copies], score[copies], np.arange(900))
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    # Nine copies shrink a standard error by three.
    assert (clustered.high - clustered.low) / (records.high - records.low) == pytest.approx(3.0, rel=0.15)


def test_interval_of_a_mean_is_the_normal_one():
    error = np.random.default_rng(1).normal(0, 2, 2000)
    found = patient_bootstrap(bias, np.zeros(2000), error, np.arange(2000), resamples=4000)
    half = 1.96 * error.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx((error.mean() - half, error.mean() + half), abs=0.006)


def test_seed_decides_and_chunks_do_not(monkeypatch):
    truth, score = cohort(50)
    whole = patient_bootstrap(auroc, truth, score, np.arange(50), resamples=300, seed=1)
    assert patient_bootstrap(auroc, truth, score, np.arange(50), resamples=300, seed=2) != whole
    monkeypatch.setattr(bootstrap, "_CHUNK_WEIGHTS", 1000)
    assert patient_bootstrap(auroc, truth, score, np.arange(50), resamples=300, seed=1) == whole


def test_no_interval_where_too_few_resamples_define_the_metric():
    truth = np.r_[1, np.zeros(30)]  # the one positive is missing from a third of the resamples
    found = patient_bootstrap(auroc, truth, np.arange(31.0), np.arange(31))
    assert (found.value, found.low, found.high) == (0.0, None, None)
    assert np.isnan(patient_bootstrap(auroc, np.zeros(5), np.arange(5.0), np.arange(5)).value)


def test_patients_may_have_any_names():
    truth, score = cohort(30)
    names = np.array([f"p{i // 2}" for i in range(30)], dtype=object)
    assert patient_bootstrap(rmse, truth, score, names).patients == 15
