"""Electrodes on the skin: half-cell offsets, contacts lost and made again, and which leads that costs."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.electrodes import leads_lost
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim.noise import ELECTRODES, MAX_OFFSET_MV, N_ELECTRODES
from ecgedge.sim.patient import rng_for
from ecgedge.sim.scenario import OffInterval

F32 = NDArray[np.float32]

_RETURN_MV: Final = 6.0
_RETURN_TAU_S: Final = 1.2
"""A fresh contact drifts by a few millivolts and settles within seconds."""


class Contacts:
    """Offsets and gaps of one patient's electrodes under a repeating programme of lost contacts."""

    def __init__(self, off: tuple[OffInterval, ...], *, period_s: float, seed: int) -> None:
        self._off = off
        self._period_s = period_s
        self._seed = seed
        self._base_mv = rng_for(seed, 4).uniform(-MAX_OFFSET_MV, MAX_OFFSET_MV, (N_ELECTRODES, 1))

    def offsets_mv(self, t_s: NDArray[np.float64]) -> F32:
        """Return half-cell offsets in mV at the times of one block: (9, 1) while nothing changes, else (9, n)."""
        if not self._off:
            return self._base_mv.astype(np.float32)
        offsets = np.repeat(self._base_mv, t_s.size, axis=1)
        for electrode in {interval.electrode for interval in self._off} - {"RL"}:
            offsets[ELECTRODES.index(electrode)] = self._one(electrode, t_s)
        return offsets.astype(np.float32)

    def missing(self, t_s: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Return (12, n) True where a lead cannot be measured, or None if all can."""
        cycle_s = np.mod(t_s, self._period_s)
        lost: dict[str, NDArray[np.bool_]] = {}
        for interval in self._off:
            inside = (cycle_s >= interval.start_s) & (cycle_s < interval.end_s)
            if inside.any():
                lost[interval.electrode] = lost.get(interval.electrode, np.zeros(t_s.size, np.bool_)) | inside
        if not lost:
            return None
        mask = np.zeros((len(STANDARD_LEADS), t_s.size), np.bool_)
        for electrode, inside in lost.items():
            for lead in leads_lost({electrode}):
                mask[STANDARD_LEADS.index(lead)] |= inside
        return mask

    def _one(self, electrode: str, t_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one electrode's offset: constant per contact, with a transient after each return."""
        returns = np.array(sorted(i.end_s for i in self._off if i.electrode == electrode))
        cycle = np.floor_divide(t_s, self._period_s)
        contact = (
            cycle * returns.size + np.searchsorted(returns, np.mod(t_s, self._period_s), "right")
        ).astype(int)
        # Times come in order, and so do contacts.
        edges = [0, *(np.flatnonzero(np.diff(contact)) + 1), t_s.size]
        return np.concatenate(
            [self._contact(electrode, int(contact[a]), returns, t_s[a:b]) for a, b in pairwise(edges)]
        )

    def _contact(
        self, electrode: str, number: int, returns: NDArray[np.float64], t_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        row = ELECTRODES.index(electrode)
        if number == 0:
            return np.full(t_s.size, self._base_mv[row, 0])
        rng = rng_for(self._seed, 5, row, number)
        settled, drift = rng.uniform(-MAX_OFFSET_MV, MAX_OFFSET_MV), rng.normal(0.0, _RETURN_MV)
        cycle, index = divmod(number - 1, returns.size)
        since_s = t_s - (cycle * self._period_s + returns[index])
        return np.asarray(settled + drift * np.exp(-np.maximum(since_s, 0.0) / _RETURN_TAU_S))
