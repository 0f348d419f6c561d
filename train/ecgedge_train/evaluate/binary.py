"""One yes/no question (a cut-off of the pressure, a class) with one lead set, and the points of its curves.

Everything that has to be chosen (thresholds, calibrators) is chosen on the tune split and scored on the test split,
so both are kept side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap_columns
from ecgedge_train.evaluate.metrics import ECE_BINS, Floats


@dataclass(frozen=True)
class BinarySplit:
    """Records of one split: truth (n,) bool, logit (n,) before calibration, p (n,) as served, patients (n,)."""

    truth: NDArray[np.bool_]
    logit: NDArray[np.float64]
    p: NDArray[np.float64]
    patients: NDArray[Any]


@dataclass(frozen=True)
class BinaryScores:
    """What was true and what the model says; `target` is "gt_18" or a class."""

    lead_set: str
    target: str
    tune: BinarySplit
    test: BinarySplit


def roc_points(truth: NDArray[Any], score: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return 1 - specificity and sensitivity from (0, 0) to (1, 1), corners only; equal scores are one step."""
    positive, negative = _counts_by_falling_score(truth, score)
    hits = np.r_[0.0, np.cumsum(positive)] / max(positive.sum(), 1)
    alarms = np.r_[0.0, np.cumsum(negative)] / max(negative.sum(), 1)
    steps = np.stack([np.diff(alarms), np.diff(hits)])
    turns = np.abs(steps[0, 1:] * steps[1, :-1] - steps[0, :-1] * steps[1, 1:]) > 1e-15
    corner = np.r_[True, turns, True]
    return alarms[corner], hits[corner]


def pr_points(truth: NDArray[Any], score: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return recall and precision at each distinct score, falling; empty without positives."""
    positive, negative = _counts_by_falling_score(truth, score)
    if positive.sum() == 0:
        return np.empty(0), np.empty(0)
    found, called = np.cumsum(positive), np.cumsum(positive + negative)
    return found / found[-1], found / called


@dataclass(frozen=True)
class ReliabilityBin:
    """Records whose probability falls into one of ten equal bins."""

    predicted: float
    observed: Estimate
    share: float


def reliability(
    truth: NDArray[Any],
    probability: NDArray[Any],
    patients: NDArray[Any],
    *,
    min_records: int = 10,
    resamples: int = 1000,
) -> tuple[ReliabilityBin, ...]:
    """Return the calibration curve: observed share by predicted probability, with intervals over patients."""
    bins = np.minimum((np.asarray(probability) * ECE_BINS).astype(int), ECE_BINS - 1)
    used = [b for b in range(ECE_BINS) if (bins == b).sum() >= min_records]
    if not used:
        return ()
    member = (bins[:, None] == np.array(used)).astype(np.float64)

    def observed(t: NDArray[Any], _: NDArray[Any], weights: Floats) -> Floats:
        count = weights @ member
        above, undefined = weights @ (member * t[:, None]), np.full_like(count, np.nan)
        return np.asarray(np.divide(above, count, out=undefined, where=count > 0), np.float64)

    estimates = patient_bootstrap_columns(
        observed, np.asarray(truth, np.float64), np.asarray(probability), patients, resamples=resamples
    )
    return tuple(
        ReliabilityBin(float(np.mean(probability[bins == b])), estimate, float(np.mean(bins == b)))
        for b, estimate in zip(used, estimates, strict=True)
    )


def _counts_by_falling_score(truth: NDArray[Any], score: NDArray[Any]) -> tuple[Floats, Floats]:
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    ranked, hit = np.asarray(score)[order], np.asarray(truth)[order] > 0
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positive = np.add.reduceat(hit.astype(np.float64), starts)
    total = np.diff(np.r_[starts, len(ranked)]).astype(np.float64)
    return positive, total - positive
