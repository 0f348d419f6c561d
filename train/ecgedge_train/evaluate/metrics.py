"""Metrics, each over many weightings of the same records at once.

A metric takes truth (n,) and prediction (n,) (macro_auroc: (n, C)) and weights (R, n), and gives (R,): weights of
one are the point value, patient counts are bootstrap resamples, and what depends on the prediction alone
(sorting, binning) is done once for all R. Undefined values (one class only) are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Callable[[NDArray[Any], NDArray[Any], Floats], Floats]

ECE_BINS: Final = 10


def point(metric: Metric, truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Return the value of a metric with every record counted once."""
    return float(metric(truth, prediction, np.ones((1, len(truth))))[0])


def auroc(truth: NDArray[Any], score: NDArray[Any], weights: Floats) -> Floats:
    """Return the probability that a positive scores above a negative, ties counting half (Mann-Whitney)."""
    positive, negative = _by_score(truth, score, weights)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + 0.5 * negative)).sum(axis=1)
    return _ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def auprc(truth: NDArray[Any], score: NDArray[Any], weights: Floats) -> Floats:
    """Return average precision: the sum of precision x step in recall over falling thresholds."""
    positive, negative = (side[:, ::-1] for side in _by_score(truth, score, weights))
    found = np.cumsum(positive, axis=1)
    called = found + np.cumsum(negative, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return _ratio((precision * positive).sum(axis=1), found[:, -1])


def macro_auroc(truth: NDArray[Any], score: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean over classes (columns) of `auroc`; NaN where one of them is undefined."""
    each = [auroc(truth[:, c], score[:, c], weights) for c in range(truth.shape[1])]
    return _f64(np.stack(each).mean(axis=0))


def rmse(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    """Return the root of the mean squared error."""
    return _f64(np.sqrt(_mean((_f64(prediction) - truth) ** 2, weights)))


def mae(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean absolute error."""
    return _mean(np.abs(_f64(prediction) - truth), weights)


def bias(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean of prediction - truth."""
    return _mean(_f64(prediction) - truth, weights)


def pearson(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    """Return the correlation coefficient."""
    # About the overall means first: differences of large sums would lose digits.
    x, y = _f64(truth) - np.mean(truth), _f64(prediction) - np.mean(prediction)
    mean_x, mean_y = _mean(x, weights), _mean(y, weights)
    covariance = _mean(x * y, weights) - mean_x * mean_y
    variances = (_mean(x * x, weights) - mean_x**2) * (_mean(y * y, weights) - mean_y**2)
    return _ratio(covariance, np.sqrt(np.maximum(variances, 0.0)))


def ece(truth: NDArray[Any], probability: NDArray[Any], weights: Floats) -> Floats:
    """Return the expected calibration error over ten equal bins (Naeini 2015): mean of |observed - predicted|."""
    bins = np.minimum((_f64(probability) * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap = _f64(truth) - probability
    per_bin = [np.abs(weights[:, bins == b] @ gap[bins == b]) for b in range(ECE_BINS)]
    return _ratio(np.sum(per_bin, axis=0), weights.sum(axis=1))


def brier(truth: NDArray[Any], probability: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean squared difference of probability and outcome."""
    return _mean((_f64(probability) - truth) ** 2, weights)


def coverage(truth: NDArray[Any], interval: NDArray[Any], weights: Floats) -> Floats:
    """Return the share of truths inside `interval` (n, 2), ends included."""
    inside = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
    return _mean(_f64(inside), weights)


def _by_score(truth: NDArray[Any], score: NDArray[Any], weights: Floats) -> tuple[Floats, Floats]:
    """Return weights of positives and negatives at each distinct score, ascending: two arrays (R, k)."""
    order = np.argsort(score, kind="stable")
    ranked = np.asarray(score)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positive = weights[:, order] * (np.asarray(truth)[order] > 0)
    total = np.add.reduceat(weights[:, order], starts, axis=1)
    positive = np.add.reduceat(positive, starts, axis=1)
    return positive, total - positive


def _mean(values: Floats, weights: Floats) -> Floats:
    return _ratio(weights @ values, weights.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(np.asarray(above, np.float64), np.nan), where=below > 0)


def _f64(values: NDArray[Any]) -> Floats:
    return np.asarray(values, np.float64)
