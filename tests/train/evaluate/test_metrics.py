from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from ecgedge_train.evaluate import metrics as ours
from ecgedge_train.evaluate.metrics import point


def scored(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with both outcomes and scores on a grid, so that ties are common."""
    rng = np.random.default_rng(seed)
    truth = np.r_[0, 1, rng.integers(0, 2, n)]
    return truth, np.round(rng.random(n + 2) * levels) / levels


CASES = {
    "seed": st.integers(0, 10_000),
    "n": st.integers(0, 60),
    "levels": st.sampled_from([1, 3, 20, 10**6]),
}


@given(**CASES)
def test_ranking_metrics_agree_with_sklearn(seed, n, levels):
    truth, score = scored(seed, n, levels)
    assert point(ours.auroc, truth, score) == pytest.approx(theirs.roc_auc_score(truth, score), abs=1e-12)
    assert point(ours.auprc, truth, score) == pytest.approx(
        theirs.average_precision_score(truth, score), abs=1e-12
    )
    assert point(ours.brier, truth, score) == pytest.approx(theirs.brier_score_loss(truth, score), abs=1e-12)


@given(**CASES)
def test_weighted_metrics_agree_with_sklearn_sample_weight(seed, n, levels):
    truth, score = scored(seed, n, levels)
    weight = np.random.default_rng(seed + 1).integers(0, 4, (3, len(truth))).astype(float)
    weight[:, :2] = 1.0  # keeps both outcomes
    for r in range(3):
        assert ours.auroc(truth, score, weight)[r] == pytest.approx(
            theirs.roc_auc_score(truth, score, sample_weight=weight[r]), abs=1e-12
        )
        assert ours.auprc(truth, score, weight)[r] == pytest.approx(
            theirs.average_precision_score(truth, score, sample_weight=weight[r]), abs=1e-12
        )


@given(**CASES)
def test_a_weight_of_k_is_k_copies(seed, n, levels):
    truth, score = scored(seed, n, levels)
    counts = np.random.default_rng(seed + 2).integers(0, 4, len(truth))
    counts[:2] = 1
    copies = np.repeat(np.arange(len(truth)), counts)
    for metric in (
        ours.auroc,
        ours.auprc,
        ours.rmse,
        ours.mae,
        ours.bias,
        ours.pearson,
        ours.ece,
        ours.brier,
    ):
        weighted = metric(truth, score, counts[None].astype(float))[0]
        assert weighted == pytest.approx(point(metric, truth[copies], score[copies]), abs=1e-9, nan_ok=True)


@given(seed=st.integers(0, 1000), n=st.integers(3, 50))
def test_errors_and_correlation_agree_with_numpy_and_sklearn(seed, n):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.normal(15, 8, n), rng.normal(15, 8, n)
    assert point(ours.rmse, truth, predicted) == pytest.approx(
        theirs.root_mean_squared_error(truth, predicted)
    )
    assert point(ours.mae, truth, predicted) == pytest.approx(theirs.mean_absolute_error(truth, predicted))
    assert point(ours.pearson, truth, predicted) == pytest.approx(
        np.corrcoef(truth, predicted)[0, 1], abs=1e-10
    )
    assert point(ours.bias, truth, predicted) == pytest.approx(predicted.mean() - truth.mean(), abs=1e-10)


def test_correlation_of_large_offsets_keeps_its_digits():
    x = np.arange(10.0)
    y = np.array([0.0, 2, 1, 4, 3, 6, 5, 8, 7, 9])
    assert point(ours.pearson, x + 1e7, y + 1e7) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


def test_values_by_hand():
    # 2 positives, 2 negatives; pairs won: 1, 1, 0.5, 0 -> 2.5 of 4.
    assert point(ours.auroc, np.array([1, 0, 1, 0]), np.array([0.9, 0.3, 0.3, 0.6])) == 2.5 / 4
    # Threshold 0.9: precision 1, recall 1/2; 0.6: no new positive; 0.3: precision 2/4, recall 1.
    assert point(ours.auprc, np.array([1, 0, 1, 0]), np.array([0.9, 0.3, 0.3, 0.6])) == 0.5 + 0.5 * 0.5
    # Bin 0.1: mean p 0.15, observed 1/2; bin 0.9: mean p 0.95, observed 1 -> (2 * 0.35 + 2 * 0.05) / 4.
    assert point(ours.ece, np.array([0, 1, 1, 1]), np.array([0.15, 0.15, 0.9, 1.0])) == pytest.approx(0.2)
    interval = np.array([[0.0, 2.0], [0.0, 2.0], [3.0, 4.0]])
    assert point(ours.coverage, np.array([2.0, 2.1, 3.5]), interval) == pytest.approx(2 / 3)


def test_the_mean_as_prediction_has_the_standard_deviation_as_rmse():
    truth = np.array([3.0, 9.0, 15.0, 33.0])
    assert point(ours.rmse, truth, np.full(4, truth.mean())) == pytest.approx(truth.std())
    assert np.isnan(point(ours.pearson, truth, np.full(4, truth.mean())))


@pytest.mark.parametrize("truth", [np.zeros(4), np.ones(4)])
def test_one_outcome_only_is_undefined(truth):
    assert np.isnan(point(ours.auroc, truth, np.arange(4.0)))


def test_macro_is_the_mean_over_classes_and_undefined_if_one_is():
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, (50, 3)), rng.random((50, 3))
    assert point(ours.macro_auroc, truth, score) == pytest.approx(
        theirs.roc_auc_score(truth, score, average="macro")
    )
    truth[:, 1] = 0
    assert np.isnan(point(ours.macro_auroc, truth, score))
