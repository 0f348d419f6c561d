"""Operating points: what an alert at a threshold would find, miss and cost.

A threshold is fixed beforehand or reached from a wanted sensitivity on the tune split; the test split only scores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.binary import BinaryScores
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap_columns
from ecgedge_train.evaluate.metrics import Floats

FIXED_THRESHOLDS: Final = (0.25, 0.5)
SENSITIVITIES: Final = (0.8, 0.9)


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold on the served probability, scored on the test split.

    `rule` says how the threshold came about: "p >= 0.5" or "sensitivity 0.8 on tune".
    """

    lead_set: str
    target: str
    rule: str
    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    alerts_per_100: Estimate


def threshold_at_sensitivity(
    truth: NDArray[np.bool_], score: NDArray[Any], sensitivity: float
) -> float | None:
    """Return the highest threshold t such that calling score >= t reaches `sensitivity`; None without a positive."""
    positives = np.sort(np.asarray(score, np.float64)[np.asarray(truth, bool)])[::-1]
    if len(positives) == 0:
        return None
    # 0.8 * 10 is 8.000000000000002 for some counts: without the slack one positive too many is asked for.
    needed = max(1, int(np.ceil(sensitivity * len(positives) - 1e-9)))
    return float(positives[needed - 1])


def alert_figures(truth: NDArray[Any], called: NDArray[Any], weights: Floats) -> Floats:
    """Return (R, 5): sensitivity, specificity, PPV, NPV and alerts per 100 ECGs; NaN where undefined."""
    sick, alarm = np.asarray(truth, bool), np.asarray(called, bool)
    cells = np.stack([sick & alarm, sick & ~alarm, ~sick & alarm, ~sick & ~alarm], axis=1).astype(np.float64)
    tp, fn, fp, tn = (weights @ cells).T
    above = np.stack([tp, tn, tp, tn, 100 * (tp + fp)], axis=1)
    below = np.stack([tp + fn, tn + fp, tp + fp, tn + fn, tp + fn + fp + tn], axis=1)
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0), np.float64)


def operating_points(
    scores: BinaryScores,
    *,
    fixed: tuple[float, ...] = FIXED_THRESHOLDS,
    sensitivities: tuple[float, ...] = SENSITIVITIES,
    resamples: int = 1000,
) -> tuple[OperatingPoint, ...]:
    """Score fixed thresholds, and those that reach `sensitivities` on the tune split, on the test split."""
    rules: list[tuple[str, float | None]] = [(f"p >= {t:g}", t) for t in fixed]
    rules += [
        (f"sensitivity {s:g} on tune", threshold_at_sensitivity(scores.tune.truth, scores.tune.p, s))
        for s in sensitivities
    ]
    test, points = scores.test, []
    for rule, threshold in rules:
        if threshold is None:
            continue
        figures = patient_bootstrap_columns(
            alert_figures, test.truth, test.p >= threshold, test.patients, resamples=resamples
        )
        points.append(OperatingPoint(scores.lead_set, scores.target, rule, threshold, *figures))
    return tuple(points)
