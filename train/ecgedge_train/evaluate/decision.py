"""Decision curve: what acting on a probability is worth against acting on everybody or nobody.

Net benefit at threshold t is TP/n - FP/n * t / (1 - t): a false alarm costs as much as t / (1 - t) of a find
(Vickers and Elkin 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.bootstrap import Columns, Estimate, patient_bootstrap_columns
from ecgedge_train.evaluate.metrics import Floats

THRESHOLDS: Final = tuple(round(0.02 * k, 2) for k in range(1, 41))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per record by threshold; treating nobody is worth 0."""

    thresholds: tuple[float, ...]
    model: tuple[Estimate, ...]
    treat_all: tuple[float, ...]


def net_benefit(thresholds: tuple[float, ...]) -> Columns:
    """Return a metric that gives (R, K), the net benefit of acting where probability >= threshold."""
    cut = np.asarray(thresholds)

    def benefit(truth: NDArray[Any], probability: NDArray[Any], weights: Floats) -> Floats:
        acted = np.asarray(probability)[:, None] >= cut
        gain = np.where(np.asarray(truth, bool)[:, None], 1.0, -cut / (1 - cut)) * acted
        found: Floats = weights @ gain / weights.sum(axis=1, keepdims=True)
        return found

    return benefit


def decision_curve(
    truth: NDArray[Any],
    probability: NDArray[Any],
    patients: NDArray[Any],
    *,
    thresholds: tuple[float, ...] = THRESHOLDS,
    resamples: int = 1000,
) -> DecisionCurve:
    """Return the net benefit of the model, with intervals over patients, and of treating everybody.

    Raises
    ------
    ValueError
        If a threshold is not between 0 and 1.
    """
    if not all(0 < t < 1 for t in thresholds):
        raise ValueError(f"thresholds must lie between 0 and 1, not {thresholds}")
    model = patient_bootstrap_columns(
        net_benefit(thresholds), truth, probability, patients, resamples=resamples
    )
    prevalence = float(np.mean(truth))
    everybody = tuple(prevalence - (1 - prevalence) * t / (1 - t) for t in thresholds)
    return DecisionCurve(thresholds, model, everybody)
