"""What becomes of samples that were not measured: hold, flag, and start again, decided sample by sample.

A filter cannot take NaN, and a step from the last value to the next rings for seconds. So a missing sample
is replaced by the last measured one, and a lead that comes back after more than `RESTART_AFTER_S` starts
from the steady state of its first sample, since the electrode's offset may be another one now. Nothing
here depends on where a chunk ends.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        (n_leads, n) float64, finite.
    status
        (n_leads, n) uint8 at the input's rate.
    restarts
        (column, leads) for each column at which the filters of some leads start anew; leads is (n_leads,) bool.
    """

    samples_mv: NDArray[np.float64]
    status: NDArray[np.uint8]
    restarts: tuple[tuple[int, NDArray[np.bool_]], ...]


class GapHolder:
    """Holds every lead's last measured value through gaps; the state is three numbers per lead.

    Not measured are NaN, infinities, and anything beyond `MAX_ABS_MV`: no electrode gives 1 V, and one
    damaged number of 1e30 would ring in the filters for a minute.
    """

    def __init__(self, *, n_leads: int, rate_hz: float, settle_s: float) -> None:
        self._restart_after = RESTART_AFTER_S * rate_hz
        self._settle = settle_s * rate_hz
        self._n_seen = 0
        self._value_mv = np.zeros(n_leads)
        self._measured_at = np.full(n_leads, _NEVER, np.int64)
        self._returned_at = np.full(n_leads, _NEVER, np.int64)

    def push(self, samples_mv: NDArray[np.float32]) -> Held:
        """Fill a chunk (n_leads, n), n at least 1."""
        measured = np.abs(samples_mv) <= MAX_ABS_MV
        if measured.all() and bool((self._measured_at == self._n_seen - 1).all()):
            held = self._push_whole(samples_mv)
        elif self._n_seen == 0 and measured.all():
            held = self._push_first(samples_mv)
        else:
            held = self._push_broken(samples_mv, measured)
        self._n_seen += samples_mv.shape[1]
        self._value_mv = held.samples_mv[:, -1].copy()
        return held

    def _push_whole(self, samples_mv: NDArray[np.float32]) -> Held:
        """Take the short way: nothing is missing, nothing was missing just before."""
        n = samples_mv.shape[1]
        self._measured_at[:] = self._n_seen + n - 1
        if self._n_seen - int(self._returned_at.max(initial=_NEVER)) >= self._settle:
            status = np.zeros(samples_mv.shape, np.uint8)
        else:
            index = np.arange(self._n_seen, self._n_seen + n)
            status = (index - self._returned_at[:, None] < self._settle).view(np.uint8)
        return Held(samples_mv.astype(np.float64), status, ())

    def _push_first(self, samples_mv: NDArray[np.float32]) -> Held:
        """Take the first chunk where nothing is missing: every lead starts at its first sample."""
        self._returned_at[:] = 0
        held = self._push_whole(samples_mv)
        return Held(held.samples_mv, held.status, ((0, np.ones(len(samples_mv), np.bool_)),))

    def _push_broken(self, samples_mv: NDArray[np.float32], measured: NDArray[np.bool_]) -> Held:
        n = samples_mv.shape[1]
        index = np.arange(self._n_seen, self._n_seen + n)
        # For each sample: when its lead was last measured, up to and including it / before it.
        upto = np.maximum.accumulate(np.where(measured, index, self._measured_at[:, None]), axis=1)
        before = np.concatenate([self._measured_at[:, None], upto[:, :-1]], axis=1)
        n_missed = index - before - 1
        restarts = measured & (n_missed > self._restart_after)
        returned = np.where(measured & (n_missed > 0), index, self._returned_at[:, None])
        returned_at = np.maximum.accumulate(returned, axis=1)
        status = (index - returned_at < self._settle).view(np.uint8)
        status[~measured] = MISSING
        column = np.maximum(upto - self._n_seen, 0)
        fresh = np.take_along_axis(samples_mv, column, axis=1).astype(np.float64)
        held_mv = np.where(upto >= self._n_seen, fresh, self._value_mv[:, None])
        self._measured_at, self._returned_at = upto[:, -1].copy(), returned_at[:, -1].copy()
        columns = np.flatnonzero(restarts.any(axis=0)).tolist()
        return Held(held_mv, status, tuple((column, restarts[:, column]) for column in columns))
