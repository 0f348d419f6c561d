"""Calibrators of a binary logit, each fitted on the tune split: temperature, Platt, isotonic.

Temperature: Guo et al. 2017, "On calibration of modern neural networks", section 4.2. Isotonic: Zadrozny and Elkan
2002. Platt, which the bundle carries, is in ecgedge_train.calibrate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from ecgedge_train.calibrate import fit_platt
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.binary import BinaryScores
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap_columns
from ecgedge_train.evaluate.metrics import Floats

_LOG_TEMPERATURE_RANGE: Final = (-6.0, 6.0)


@dataclass(frozen=True)
class Isotonic:
    """A rising piecewise linear map from score to probability; flat outside the scores it was fitted on."""

    score: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, score: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities of the shape of `score`."""
        return np.interp(np.asarray(score, np.float64), self.score, self.probability)


@dataclass(frozen=True)
class CalibrationScore:
    """Errors of one calibrator on the test split; `gap` is the mean of predicted - observed."""

    lead_set: str
    target: str
    calibrator: str
    brier: Estimate
    ece: Estimate
    gap: Estimate


def fit_temperature(logits: NDArray[Any], above: NDArray[np.bool_]) -> float | None:
    """Return T of p = sigmoid(logit / T) by maximum likelihood; None if only one outcome occurs."""
    if np.all(above) or not np.any(above):
        return None
    x, y = np.asarray(logits, np.float64), np.asarray(above, np.float64)

    def loss(log_t: float) -> float:
        z = x * np.exp(-log_t)
        return float(np.mean(np.logaddexp(0.0, z) - y * z))

    fit = minimize_scalar(loss, bounds=_LOG_TEMPERATURE_RANGE, method="bounded", options={"xatol": 1e-8})
    return float(np.exp(fit.x))


def fit_isotonic(score: NDArray[Any], above: NDArray[np.bool_]) -> Isotonic | None:
    """Return the rising map of least squared error; None if only one outcome occurs."""
    if np.all(above) or not np.any(above):
        return None
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fit.fit(np.asarray(score, np.float64), np.asarray(above, np.float64))
    return Isotonic(tuple(fit.X_thresholds_.tolist()), tuple(fit.y_thresholds_.tolist()))


def calibrated(scores: BinaryScores) -> Mapping[str, NDArray[np.float64]]:
    """Return test-split probabilities by calibrator, "as served" first; none of them has seen a test label."""
    tune, logit = scores.tune, scores.test.logit
    found = {"as served": scores.test.p, "none": np.asarray(expit(logit))}
    temperature, platt = fit_temperature(tune.logit, tune.truth), fit_platt(tune.logit, tune.truth)
    isotonic = fit_isotonic(tune.logit, tune.truth)
    if temperature is not None:
        found["temperature"] = np.asarray(expit(logit / temperature))
    if platt is not None:
        found["Platt"] = np.asarray(expit(platt[0] * logit + platt[1]))
    if isotonic is not None:
        found["isotonic"] = isotonic(logit)
    return found


def calibration_scores(scores: BinaryScores, *, resamples: int = 1000) -> tuple[CalibrationScore, ...]:
    """Score every calibrator on the test split."""
    truth = scores.test.truth.astype(np.float64)
    return tuple(
        CalibrationScore(
            scores.lead_set,
            scores.target,
            name,
            *patient_bootstrap_columns(_errors, truth, p, scores.test.patients, resamples=resamples),
        )
        for name, p in calibrated(scores).items()
    )


def _errors(truth: NDArray[Any], p: NDArray[Any], weights: Floats) -> Floats:
    return np.stack([m(truth, p, weights) for m in (metrics.brier, metrics.ece, metrics.bias)], axis=1)
