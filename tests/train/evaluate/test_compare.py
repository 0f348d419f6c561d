from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ecgedge.errors import RecordError
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.compare import (
    compare_binary,
    compare_values,
    delong,
    delong_covariance,
    paired_bootstrap,
)
from ecgedge_train.evaluate.metrics import auroc, rmse
from ecgedge_train.evaluate.values import ValueScores, quantity_of


def two_models(n: int, seed: int, *, levels: int = 10**6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.r_[1, 1, 0, 0, rng.integers(0, 2, n)] > 0
    shared = rng.normal(truth * 1.0, 1.0)
    scores = np.stack([shared + rng.normal(0, s, n + 4) for s in (0.5, 1.5)])
    return truth, np.round(scores * levels) / levels


@given(seed=st.integers(0, 1000), n=st.integers(0, 30), levels=st.sampled_from([1, 4, 10**6]))
def test_covariance_is_that_of_the_mann_whitney_kernel_in_loops(seed, n, levels):
    truth, scores = two_models(n, seed, levels=levels)
    sick, well = scores[:, truth], scores[:, ~truth]
    v_sick = np.array(
        [[np.mean([(x > y) + 0.5 * (x == y) for y in w]) for x in s] for s, w in zip(sick, well, strict=True)]
    )
    v_well = np.array(
        [[np.mean([(x > y) + 0.5 * (x == y) for x in s]) for y in w] for s, w in zip(sick, well, strict=True)]
    )
    expected = np.cov(v_sick) / v_sick.shape[1] + np.cov(v_well) / v_well.shape[1]
    aucs, covariance = delong_covariance(truth, scores)
    assert aucs == pytest.approx([roc_auc_score(truth, s) for s in scores])
    np.testing.assert_allclose(covariance, expected, atol=1e-12)


def test_delong_agrees_with_the_bootstrap_of_independent_records():
    truth, scores = two_models(600, 3)
    found = delong(truth, *scores)
    resampled = paired_bootstrap(auroc, truth, *scores, np.arange(604), resamples=4000)
    assert resampled.value == pytest.approx(found.difference)
    assert (resampled.low, resampled.high) == pytest.approx((found.low, found.high), abs=0.006)
    assert found.p_value < 0.001


def test_the_p_value_is_uniform_where_models_do_not_differ():
    values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.random(80) < 0.4
        values.append(delong(truth, *(truth + rng.normal(0, 1.5, 80) for _ in range(2))).p_value)
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(np.array(values) < 0.5) == pytest.approx(0.5, abs=0.1)


def test_equal_models_cannot_be_tested_and_one_record_has_no_variance():
    truth, scores = two_models(20, 0)
    same = delong(truth, scores[0], scores[0] * 2)
    assert (same.difference, same.p_value) == (0.0, None)
    with pytest.raises(ValueError, match="two records of each outcome"):
        delong(np.array([1, 0, 0]), np.arange(3.0), np.arange(3.0))


def test_copied_records_fool_delong_and_not_the_patient_bootstrap():
    truth, scores = two_models(150, 1)
    copies = np.repeat(np.arange(154), 9)
    once, fooled = delong(truth, *scores), delong(truth[copies], *scores[:, copies])
    assert (once.high - once.low) / (fooled.high - fooled.low) == pytest.approx(3.0, rel=0.05)
    clustered = paired_bootstrap(auroc, truth[copies], *scores[:, copies], copies)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.15)


def test_the_paired_difference_is_second_less_first_on_the_same_patients():
    rng = np.random.default_rng(0)
    truth = rng.normal(15, 8, 100)
    worse, better = truth + 4.0, truth - 3.0
    found = paired_bootstrap(rmse, truth, worse, better, np.arange(100), resamples=50)
    assert (found.value, found.low, found.high) == pytest.approx((-1.0, -1.0, -1.0))


def as_scores(truth: np.ndarray, p: np.ndarray, target: str = "MI") -> BinaryScores:
    split = BinarySplit(truth, p, p, np.arange(len(p)))
    return BinaryScores("12", target, split, split)


def test_runs_are_compared_where_both_answer_and_only_on_the_same_records():
    truth, scores = two_models(60, 2)
    these = (as_scores(truth, scores[0]), as_scores(truth, scores[0], "CD"))
    found = compare_binary(these, (as_scores(truth, scores[1]),), resamples=20)
    assert [c.metric for c in found] == ["auroc_MI"]
    assert found[0].difference.value == pytest.approx(found[0].value - found[0].other)
    with pytest.raises(RecordError, match="different records"):
        compare_binary(these, (as_scores(truth[::-1], scores[1]),))
    with pytest.raises(RecordError, match="no question in common"):
        compare_binary(these, (as_scores(truth, scores[1], "HYP"),))


def values(label: str, truth: np.ndarray, error: float) -> ValueScores:
    patients = np.arange(len(truth))
    return ValueScores(
        "12", quantity_of(label), truth, truth + error, None, 0.9, float(truth.mean()), patients
    )


def test_numbers_are_compared_by_rmse_and_only_where_both_runs_say_the_same():
    ef = np.linspace(30, 70, 21)
    mine = values("ef_percent", ef, 2.0)
    (found,) = compare_values([mine], [values("ef_percent", ef, -5.0)], resamples=20)
    assert (found.metric, found.value, found.other) == (
        "rmse_ef_percent",
        pytest.approx(2.0),
        pytest.approx(5.0),
    )
    assert found.difference.value == pytest.approx(-3.0)
    with pytest.raises(RecordError, match="one run says ef_percent, the other co_l_min"):
        compare_values([mine], [values("co_l_min", ef, 1.0)])
    with pytest.raises(RecordError, match="different records"):
        compare_values([mine], [values("ef_percent", ef + 1, 1.0)])
    with pytest.raises(RecordError, match="no question in common"):
        compare_values([mine], [])
