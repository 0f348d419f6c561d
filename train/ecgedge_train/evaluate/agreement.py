"""Bland-Altman agreement of predicted and measured pressure.

Bland and Altman 1986: bias and bias +- 1.96 SD of the differences. With several records a patient the SD over all
differences mixes spread within and between patients (Bland and Altman 2007); it is what one new record shows, and the
intervals resample patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap_columns
from ecgedge_train.evaluate.metrics import Floats

NORMAL_95: Final = 1.959963984540054


@dataclass(frozen=True)
class Agreement:
    """Of predicted - measured, in the unit of both; `slope` is that of the difference on the mean of the two.

    A slope below 0 says that the model pulls extremes towards the middle, as every regression on weak evidence does.
    """

    bias: Estimate
    sd: Estimate
    low: Estimate
    high: Estimate
    slope: Estimate


def agreement(
    measured: NDArray[Any], predicted: NDArray[Any], patients: NDArray[Any], *, resamples: int = 1000
) -> Agreement:
    """Return bias, SD, both limits of agreement and the proportional bias, with intervals over patients."""
    return Agreement(
        *patient_bootstrap_columns(agreement_figures, measured, predicted, patients, resamples=resamples)
    )


def agreement_figures(measured: NDArray[Any], predicted: NDArray[Any], weights: Floats) -> Floats:
    """Return (R, 5): bias, SD (ddof 1), lower and upper limit, slope of difference on mean."""
    first, second = np.asarray(measured, np.float64), np.asarray(predicted, np.float64)
    difference, middle = second - first, (first + second) / 2
    # About the plain means first: differences of large sums would lose digits.
    offset = difference.mean()
    d, m = difference - offset, middle - middle.mean()
    n = weights.sum(axis=1)
    mean_d, mean_m = weights @ d / n, weights @ m / n
    spread = np.maximum(weights @ (d * d) - n * mean_d**2, 0.0)
    sd = np.sqrt(_ratio(spread, n - 1))
    slope = _ratio(weights @ (d * m) - n * mean_d * mean_m, weights @ (m * m) - n * mean_m**2)
    bias = mean_d + offset
    return np.stack([bias, sd, bias - NORMAL_95 * sd, bias + NORMAL_95 * sd, slope], axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 1e-12)
