"""Intervals that resample patients: windows and alarms of one patient are alike, so nothing smaller is drawn anew.

A resample draws as many patients as there are, with replacement; it is a weight for each patient, so nothing is
copied. Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.

Where nothing was seen, or everything, every resample agrees, and a percentile interval of no width would claim
certainty. There the far end is an exact one (Clopper and Pearson's for a share of n, Garwood's for a count over a
time), or there is no interval. Without resamples there is none either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LEVEL: Final = 0.95
MIN_DEFINED: Final = 0.9
"""With fewer resamples than this on which the figure exists, no interval is given."""


@dataclass(frozen=True)
class Measured:
    """A figure with its interval; None is what does not exist (nothing was there to measure)."""

    value: float | None
    low: float | None
    high: float | None


def draw_weights(patients: int, *, resamples: int, seed: int) -> Floats:
    """Return (resamples, patients): how often each patient was drawn."""
    rng = np.random.default_rng(seed)
    equal = np.full(patients, 1.0 / patients)
    return rng.multinomial(patients, equal, size=resamples).astype(np.float64)


def ratio(above: Sequence[float], below: Sequence[float], weights: Floats) -> Measured:
    """Return sum(above) / sum(below) over the patients."""
    tops, bottoms = np.asarray(above, np.float64), np.asarray(below, np.float64)
    total = float(bottoms.sum())
    if total <= 0.0:
        return Measured(None, None, None)
    drawn = weights @ bottoms
    defined = drawn > 0.0
    return _measured(float(tops.sum()) / total, (weights @ tops)[defined] / drawn[defined], len(weights))


def share(above: Sequence[float], below: Sequence[float], weights: Floats) -> Measured:
    """Return a ratio of counts, above being some of those below; exact where it is none or all of them."""
    found = ratio(above, below, weights)
    if len(weights) == 0:
        return found
    # Patients, not events: events of one patient are alike.
    n = int(np.count_nonzero(np.asarray(below) > 0.0))
    if found.value == 0.0:
        return Measured(0.0, 0.0, 1.0 - _tail() ** (1.0 / n))
    if found.value == 1.0:
        return Measured(1.0, _tail() ** (1.0 / n), 1.0)
    return found


def rate(counts: Sequence[float], days: Sequence[float], weights: Floats) -> Measured:
    """Return a number of events per day; exact where there was none."""
    found = ratio(counts, days, weights)
    if found.value != 0.0 or len(weights) == 0:
        return found
    return Measured(0.0, 0.0, -math.log(_tail()) / float(np.sum(days)))


def quantile(values: Sequence[Sequence[float]], weights: Floats, q: float) -> Measured:
    """Return a quantile of all patients' `values` (linear between order statistics, as numpy.quantile)."""
    flat = np.array([v for of_patient in values for v in of_patient], np.float64)
    if len(flat) == 0:
        return Measured(None, None, None)
    owner = np.repeat(np.arange(len(values)), [len(of_patient) for of_patient in values])
    order = np.argsort(flat, kind="stable")
    cumulative = np.cumsum(weights[:, owner[order]], axis=1)
    cumulative = cumulative[cumulative[:, -1] > 0.0]
    place = (cumulative[:, -1] - 1.0) * q
    below, above = (_ranked(flat[order], cumulative, f(place)) for f in (np.floor, np.ceil))
    return _measured(
        float(np.quantile(flat, q)), below + (above - below) * (place - np.floor(place)), len(weights)
    )


def _ranked(ordered: Floats, cumulative: Floats, rank: Floats) -> Floats:
    """Return the value of a rank (from 0) in each resample."""
    place: NDArray[np.int64] = (cumulative <= rank[:, None]).sum(axis=1)
    return np.take(ordered, place)


def _measured(value: float, resampled: Floats, drawn: int) -> Measured:
    if len(resampled) == 0 or len(resampled) < MIN_DEFINED * drawn:
        return Measured(value, None, None)
    low, high = (float(end) for end in np.quantile(resampled, [_tail(), 1.0 - _tail()]))
    return Measured(value, low, high) if low < high else Measured(value, None, None)


def _tail() -> float:
    return (1.0 - LEVEL) / 2.0
