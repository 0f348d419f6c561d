"""Calibration of the hemodynamic outputs, per lead set, on the tune split.

Probabilities: Platt scaling, p = sigmoid(a * logit + b), with Platt's smoothed targets (Platt 1999).
Interval: split conformal on |error|. A patient's records are not exchangeable with each other, patients are: each
patient shares out a weight of 1 / (P + 1) among its records, and 1 / (P + 1) sits at infinity; the half width is the
weighted quantile. This covers one new record of a new patient with at least the asked probability (hierarchical
conformal prediction, Lee, Barber and Willett 2023, for one record a patient the usual finite-sample quantile).
The tune split has also chosen the best checkpoint, so figures to quote come from the test split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ecgedge.schema import to_plain
from ecgedge_train.checkpoint import write_text
from ecgedge_train.inference import TrainingData, predict_rows
from ecgedge_train.model import EcgModel

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True)
class LeadSetCalibration:
    """Calibration of one lead set.

    `interval_halfwidth_mmhg` is None where there are too few patients for the coverage. `uncalibrated` names the
    Platt pairs that are the identity because the tune split holds one outcome only.
    """

    platt_15: tuple[float, float]
    platt_18: tuple[float, float]
    interval_halfwidth_mmhg: float | None
    interval_coverage: float
    n_patients: int
    uncalibrated: tuple[str, ...] = ()


def calibrate(
    model: EcgModel,
    data: TrainingData,
    rows: NDArray[np.int64],
    *,
    label: str,
    lead_sets: tuple[str, ...],
    coverage: float = 0.9,
    batch_size: int = 128,
    device: torch.device | None = None,
) -> dict[str, LeadSetCalibration]:
    """Calibrate each lead set on `rows`, which must not have been trained on; rows without label are left out."""
    y = data.labels((label,), rows)[:, 0].astype(np.float64)
    rows, y = rows[~np.isnan(y)], y[~np.isnan(y)]
    patients = np.asarray(data.index["patient_id"])[rows]
    result = {}
    for lead_set in lead_sets:
        outputs = predict_rows(model, data, rows, lead_set=lead_set, batch_size=batch_size, device=device)
        result[lead_set] = _calibrate_outputs(outputs, y, patients, coverage)
    return result


def _calibrate_outputs(
    outputs: Mapping[str, NDArray[np.float32]],
    y: NDArray[np.float64],
    patients: NDArray[np.object_],
    coverage: float,
) -> LeadSetCalibration:
    platt = {cut: fit_platt(outputs[f"logit_gt_{cut}"], y > cut) for cut in (15, 18)}
    errors = np.abs(outputs["mpcwp_mmhg"] - y)
    half_width = conformal_halfwidth(errors, patients, coverage=coverage)
    return LeadSetCalibration(
        platt_15=platt[15] or (1.0, 0.0),
        platt_18=platt[18] or (1.0, 0.0),
        interval_halfwidth_mmhg=half_width if math.isfinite(half_width) else None,
        interval_coverage=coverage,
        n_patients=len(np.unique(patients)),
        uncalibrated=tuple(f"platt_{cut}" for cut, pair in platt.items() if pair is None),
    )


def fit_platt(logits: NDArray[np.floating], above: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Fit p = sigmoid(a * logit + b) by maximum likelihood with a >= 0; None if only one outcome occurs.

    A negative slope would turn the order of patients round; where the data ask for one, the logit says nothing, and
    the probability is the same for all (a = 0).
    """
    n_above = int(above.sum())
    n_below = len(above) - n_above
    if n_above == 0 or n_below == 0:
        return None
    x = logits.astype(np.float64)
    target = np.where(above, (n_above + 1) / (n_above + 2), 1 / (n_below + 2))

    def loss(ab: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = ab[0] * x + ab[1]
        residual = expit(z) - target
        value = float(np.mean(np.logaddexp(0.0, z) - target * z))
        return value, np.array([np.mean(residual * x), np.mean(residual)])

    fit = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    if fit.x[0] < 0:
        mean = float(target.mean())
        return 0.0, math.log(mean / (1 - mean))
    return float(fit.x[0]), float(fit.x[1])


def conformal_halfwidth(
    absolute_errors: NDArray[np.floating], patients: NDArray[np.object_], *, coverage: float
) -> float:
    """Return the half width that covers a new patient's record; infinite if there are too few patients.

    Parameters
    ----------
    absolute_errors, patients
        (n,) |predicted - measured| and whose record it is.
    coverage
        Wanted probability, for example 0.9 (needs at least 9 patients).
    """
    _, code, n_records = np.unique(patients, return_inverse=True, return_counts=True)
    n_patients = len(n_records)
    weight = 1.0 / ((n_patients + 1) * n_records[code])
    order = np.argsort(absolute_errors)
    reached = np.cumsum(weight[order])
    # The sum of n equal weights misses k / (P + 1) by rounding; without the slack the quantile slips by one.
    enough = np.flatnonzero(reached >= coverage - 1e-12)
    return float(absolute_errors[order[enough[0]]]) if len(enough) else math.inf


def write_calibration(run_dir: Path, calibration: Mapping[str, LeadSetCalibration]) -> None:
    """Write RUN/calibration.json."""
    text = json.dumps({name: to_plain(c) for name, c in calibration.items()}, indent=1)
    write_text(run_dir / CALIBRATION_FILE, text + "\n")
