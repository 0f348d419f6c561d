"""Confidence intervals that resample patients, not records.

Records of one patient are alike, so resampling records gives intervals that are too narrow. A resample draws as
many patients as there are, with replacement; it is a weighting of the records, so nothing is copied or re-sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.metrics import Floats, Metric

Columns: TypeAlias = Callable[[NDArray[Any], NDArray[Any], Floats], Floats]
"""Several metrics at once: truth (n,), prediction (n, ...), weights (R, n) to (R, K)."""

_CHUNK_WEIGHTS: Final = 2_000_000
MIN_DEFINED: Final = 0.9
"""With fewer resamples than this on which the metric exists, no interval is given."""


@dataclass(frozen=True)
class Estimate:
    """A value with its percentile interval; `low` and `high` are None where too few resamples define them."""

    value: float
    low: float | None
    high: float | None
    patients: int


def patient_bootstrap(
    metric: Metric,
    truth: NDArray[Any],
    prediction: NDArray[Any],
    patients: NDArray[Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Return a metric with its percentile bootstrap interval over patients.

    Parameters
    ----------
    metric
        One of `ecgedge_train.evaluate.metrics`.
    truth, prediction
        First axis: records.
    patients
        (n,) whose record it is.
    resamples, seed, level
        How many; equal seeds give equal intervals; coverage of the interval.

    Notes
    -----
    Cluster bootstrap: Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.
    """
    return patient_bootstrap_columns(
        lambda t, p, weights: metric(t, p, weights)[:, None],
        truth,
        prediction,
        patients,
        resamples=resamples,
        seed=seed,
        level=level,
    )[0]


def patient_bootstrap_columns(
    metrics: Columns,
    truth: NDArray[Any],
    prediction: NDArray[Any],
    patients: NDArray[Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """Return K estimates from the same resamples; the arguments are those of `patient_bootstrap`."""
    codes = np.unique(patients, return_inverse=True)[1]
    n_patients = int(codes.max()) + 1
    values = np.concatenate(
        [
            metrics(truth, prediction, counts[:, codes])
            for counts in _draw_counts(n_patients, resamples, seed=seed, records=len(codes))
        ]
    )
    points = metrics(truth, prediction, np.ones((1, len(codes))))[0]
    return tuple(
        _estimate(float(value), column, n_patients, level)
        for value, column in zip(points, values.T, strict=True)
    )


def _estimate(value: float, resampled: Floats, n_patients: int, level: float) -> Estimate:
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(value) or len(defined) < MIN_DEFINED * len(resampled):
        return Estimate(value, None, None, n_patients)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n_patients)


def _draw_counts(n_patients: int, resamples: int, *, seed: int, records: int) -> Iterator[Floats]:
    """Yield (r, n_patients): how often each patient was drawn in each resample, in memory-sized chunks."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_WEIGHTS // max(records, n_patients))
    equal = np.full(n_patients, 1.0 / n_patients)
    for start in range(0, resamples, chunk):
        yield rng.multinomial(n_patients, equal, size=min(chunk, resamples - start)).astype(np.float64)
