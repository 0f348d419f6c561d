"""What becomes of samples that were not measured: hold, flag, and start again, decided sample by sample.

A filter cannot take NaN, and a step from the last value to the next rings for seconds. So a missing sample
is replaced by the last measured one, and a lead that comes back after more than `RESTART_AFTER_S` starts
from the steady state of its first sample, since the electrode's offset may be another one now. Nothing
here depends on where a chunk ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import MAX_ABS_MV

MEASURED = 0
SETTLING = 1
MISSING = 2
"""Values of a conditioned sample's status."""

RESTART_AFTER_S = 0.2
"""Longer gaps restart the filters. A lost 20 ms packet does not; an electrode that fell off does."""

_NEVER = -(2**62)


@dataclass(frozen=True, eq=False)
class Held:
    """A chunk without NaN.

    Attributes
    ----------
    samples_mv
        (n_leads, n) float32, finite; the chunk itself where nothing is missing.
    status
        (n_leads, n) uint8 at the input's rate; None where all is MEASURED.
    restarts
        (column, leads) for each column at which the filters of some leads start anew; leads is (n_leads,) bool.
    """

    samples_mv: NDArray[np.float32]
    status: NDArray[np.uint8] | None
    restarts: tuple[tuple[int, NDArray[np.bool_]], ...]


class GapHolder:
    """Holds every lead's last measured value through gaps; the state is three numbers per lead.

    Not measured are NaN, infinities, and anything beyond `MAX_ABS_MV`: no electrode gives 1 V, and one
    damaged number of 1e30 would ring in the filters for a minute.
    """

    def __init__(
        self, *, n_leads: int, rate_hz: float, settle_s: float, rows: Sequence[NDArray[Any]] = ()
    ) -> None:
        self._restart_after = RESTART_AFTER_S * rate_hz
        self._settle = settle_s * rate_hz
        # Where a lead was last measured, and where it last returned, counted from the next sample to come: the newest
        # is at -1. So the leads of streams of different ages can stand beside each other.
        if not rows:
            never = np.full(n_leads, _NEVER, np.int64)
            rows = np.zeros(n_leads), never, never.copy()
        self._value_mv: NDArray[np.float64] = rows[0]
        self._measured_at: NDArray[np.int64] = rows[1]
        self._returned_at: NDArray[np.int64] = rows[2]

    @property
    def rows(self) -> tuple[NDArray[Any], ...]:
        """All state, one row a lead: these arrays, changed in place."""
        return self._value_mv, self._measured_at, self._returned_at

    def push(self, samples_mv: NDArray[np.float32]) -> Held:
        """Fill a chunk (n_leads, n), n at least 1."""
        n = samples_mv.shape[1]
        held_mv, status = samples_mv, self._settling(n)
        restarts: tuple[tuple[int, NDArray[np.bool_]], ...] = ()
        if not (_all_measured(samples_mv) and bool((self._measured_at == -1).all())):
            measured = np.abs(samples_mv) <= MAX_ABS_MV
            held_mv = samples_mv.copy()
            broken = ~measured.all(axis=1) | (self._measured_at != -1)
            status, restarts = self._hold(held_mv, measured, broken, status)
            self._measured_at[measured[:, -1]] = n - 1
        else:
            self._measured_at[:] = n - 1
        self._measured_at -= n
        self._returned_at -= n
        self._value_mv[:] = held_mv[:, -1]
        return Held(held_mv, status, restarts)

    def _settling(self, n: int) -> NDArray[np.uint8] | None:
        """Return the status of n samples, all measured: SETTLING where the lead has returned just before."""
        if -int(self._returned_at.max()) >= self._settle:
            return None
        settling: NDArray[np.uint8] = (np.arange(n) - self._returned_at[:, None] < self._settle).view(
            np.uint8
        )
        return settling

    def _hold(
        self,
        held_mv: NDArray[np.float32],
        measured: NDArray[np.bool_],
        broken: NDArray[np.bool_],
        settling: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.uint8], tuple[tuple[int, NDArray[np.bool_]], ...]]:
        """Fill in the broken rows of `held_mv`; return all status, and where which rows start anew."""
        measured_at, returned_at = self._measured_at[broken], self._returned_at[broken]
        good = measured[broken]
        index = np.arange(good.shape[1])
        # For each sample: when its lead was last measured, up to and including it / before it.
        upto = np.maximum.accumulate(np.where(good, index, measured_at[:, None]), axis=1)
        before = np.concatenate([measured_at[:, None], upto[:, :-1]], axis=1)
        n_missed = index - before - 1
        returned = np.maximum.accumulate(np.where(good & (n_missed > 0), index, returned_at[:, None]), axis=1)
        fresh = np.take_along_axis(held_mv[broken], np.maximum(upto, 0), axis=1)
        held_mv[broken] = np.where(upto >= 0, fresh, self._value_mv[broken][:, None])
        status = np.zeros(measured.shape, np.uint8) if settling is None else settling
        status[broken] = (index - returned < self._settle).view(np.uint8)
        status[~measured] = MISSING
        self._measured_at[broken], self._returned_at[broken] = upto[:, -1], returned[:, -1]
        restarts = np.zeros(measured.shape, np.bool_)
        restarts[broken] = good & (n_missed > self._restart_after)
        columns = np.flatnonzero(restarts.any(axis=0)).tolist()
        return status, tuple((column, restarts[:, column]) for column in columns)


def _all_measured(samples_mv: NDArray[np.float32]) -> bool:
    """Tell whether no sample is NaN (which the extremes hand on) or beyond what an electrode gives."""
    return bool(samples_mv.min() >= -MAX_ABS_MV and samples_mv.max() <= MAX_ABS_MV)
