"""Two models on the same records.

`delong` is the usual test of two correlated AUROCs (DeLong et al. 1988, by the midranks of Sun and Xu 2014). It takes
records for independent; with several records a patient it is too sure of itself, so `paired_bootstrap`, which
resamples patients, is the one to quote, and DeLong stands beside for comparison with the literature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from ecgedge.errors import RecordError
from ecgedge_train.evaluate.binary import BinaryScores
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.metrics import Floats, Metric, auroc, point, rmse
from ecgedge_train.evaluate.values import ValueScores

_DELONG_MIN: Final = 2
"""Records of each outcome that a variance needs."""
_NOTHING_IN_COMMON: Final = (
    "the two runs answer no question in common; compare runs of one kind, or on other data"
)


@dataclass(frozen=True)
class DeLong:
    """AUROC of both models, second - first with its normal interval, and the two-sided p value.

    `p_value` is None where the two give the same ranking, so that nothing can be tested.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float | None


def delong_covariance(truth: NDArray[Any], scores: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the AUROCs (K,) and their covariance (K, K).

    Parameters
    ----------
    truth
        (n,) of 0/1.
    scores
        (K, n), one row a model.

    Raises
    ------
    ValueError
        If an outcome has fewer than two records.
    """
    sick = np.asarray(truth) > 0
    m, n = int(sick.sum()), int((~sick).sum())
    if min(m, n) < _DELONG_MIN:
        raise ValueError(f"DeLong needs two records of each outcome, not {m} positive and {n} negative")
    values = np.asarray(scores, np.float64)
    among_all = rankdata(values, axis=1)
    # Share of the other outcome that each record beats, ties half: ranks among all less ranks among its own.
    v_sick = (among_all[:, sick] - rankdata(values[:, sick], axis=1)) / n
    v_well = 1.0 - (among_all[:, ~sick] - rankdata(values[:, ~sick], axis=1)) / m
    covariance = np.atleast_2d(np.cov(v_sick)) / m + np.atleast_2d(np.cov(v_well)) / n
    return v_sick.mean(axis=1), covariance


def delong(truth: NDArray[Any], first: NDArray[Any], second: NDArray[Any], *, level: float = 0.95) -> DeLong:
    """Test whether two models' AUROCs on the same records differ; records are taken for independent."""
    aucs, covariance = delong_covariance(truth, np.stack([first, second]))
    difference = float(aucs[1] - aucs[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance < 1e-18:
        return DeLong(float(aucs[0]), float(aucs[1]), difference, difference, difference, None)
    sd = variance**0.5
    half = float(norm.ppf((1 + level) / 2)) * sd
    p = 2 * float(norm.sf(abs(difference) / sd))
    return DeLong(float(aucs[0]), float(aucs[1]), difference, difference - half, difference + half, p)


def difference_of(metric: Metric) -> Metric:
    """Return a metric of two stacked predictions (last axis 2): second - first, on the same weights."""

    def difference(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
        return metric(truth, prediction[..., 1], weights) - metric(truth, prediction[..., 0], weights)

    return difference


def paired_bootstrap(
    metric: Metric,
    truth: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    patients: NDArray[Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return metric(second) - metric(first) with its interval: both models see the same resampled patients."""
    both = np.stack([first, second], axis=-1)
    return patient_bootstrap(difference_of(metric), truth, both, patients, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs on the same records; `difference` is value - other."""

    lead_set: str
    metric: str
    value: float
    other: float
    difference: Estimate
    delong: DeLong | None


def compare_binary(
    these: Sequence[BinaryScores], others: Sequence[BinaryScores], *, resamples: int = 1000
) -> tuple[Comparison, ...]:
    """Compare AUROCs of the questions and lead sets that both runs answer.

    Raises
    ------
    RecordError
        If they share none, or were scored on other records.
    """
    known = {(scores.lead_set, scores.target): scores for scores in others}
    found = []
    for scores in these:
        other = known.get((scores.lead_set, scores.target))
        if other is None or not _both_outcomes(scores):
            continue
        if not np.array_equal(other.test.truth, scores.test.truth):
            raise RecordError(
                f"{scores.target}: the two runs were scored on different records of the test split"
            )
        found.append(_compare_one(scores, other, resamples))
    if not found:
        raise RecordError(_NOTHING_IN_COMMON)
    return tuple(found)


def _compare_one(scores: BinaryScores, other: BinaryScores, resamples: int) -> Comparison:
    truth, mine, theirs = scores.test.truth, scores.test.p, other.test.p
    return Comparison(
        scores.lead_set,
        f"auroc_{scores.target}",
        point(auroc, truth, mine),
        point(auroc, truth, theirs),
        paired_bootstrap(auroc, truth, theirs, mine, scores.test.patients, resamples=resamples),
        delong(truth, theirs, mine),
    )


def _both_outcomes(scores: BinaryScores) -> bool:
    positive = int(scores.test.truth.sum())
    return min(positive, len(scores.test.truth) - positive) >= _DELONG_MIN


def compare_values(
    these: Sequence[ValueScores], others: Sequence[ValueScores], *, resamples: int = 1000
) -> tuple[Comparison, ...]:
    """Compare the RMSE of the same quantity, said by two runs; a difference below 0 is in favour of `these`.

    Raises
    ------
    RecordError
        If they say different quantities, or none, or were scored on other records.
    """
    known = {score.lead_set: score for score in others}
    found = []
    for score in these:
        other = known.get(score.lead_set)
        if other is None:
            continue
        if other.quantity != score.quantity or not np.array_equal(other.truth, score.truth):
            raise RecordError(
                f"one run says {score.quantity.name}, the other {other.quantity.name}, or of different records of the "
                "test split; compare runs of one kind, or on other data"
            )
        truth, mine, theirs = score.truth, score.predicted, other.predicted
        difference = paired_bootstrap(rmse, truth, theirs, mine, score.patients, resamples=resamples)
        values = (point(rmse, truth, mine), point(rmse, truth, theirs))
        found.append(Comparison(score.lead_set, f"rmse_{score.quantity.metric}", *values, difference, None))
    if not found:
        raise RecordError(_NOTHING_IN_COMMON)
    return tuple(found)
