"""When the simulated heart beats: sinus rhythm that breathes, atrial fibrillation, premature beats.

Beats come in order and only forward, so the sequence does not depend on who reads how much of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.sim.dipole import Beats
from ecgedge.sim.patient import Correlates, Traits

F64 = NDArray[np.float64]

_SHORTEST_RR_S: Final = 0.30
_PREMATURE: Final = 0.62
"""A premature beat comes after this fraction of the RR interval; the pause after it is compensatory."""
_LONGEST_QT_RR_S: Final = 1.5
_AF_SPREAD: Final = 0.21
_MEMORY: Final = 0.85
"""One-lag correlation of the slow part of sinus variability, beat to beat."""

_Row = tuple[float, float, float, bool]


class BeatSource:
    """Makes the beats of one patient.

    Parameters
    ----------
    traits
        Rhythm, rate of premature beats, respiration.
    correlates_at
        Correlates at a time in seconds; the heart rate is read beat by beat.
    rng
        Two draws per beat, in order.
    start_s
        The first beat falls within one RR interval after this.
    """

    def __init__(
        self,
        traits: Traits,
        correlates_at: Callable[[float], Correlates],
        *,
        rng: np.random.Generator,
        start_s: float,
    ) -> None:
        self._traits = traits
        self._correlates_at = correlates_at
        self._rng = rng
        self._slow = 0.0
        self._owed_s = 0.0
        self._last_rr_s = 60.0 / correlates_at(start_s).heart_rate_bpm
        self._next_s = start_s + float(rng.random()) * self._last_rr_s
        self._next_pvc = False
        self._rows: deque[_Row] = deque()

    def between(self, start_s: float, end_s: float) -> Beats:
        """Return the beats with R in [start_s, end_s); `start_s` may never go back."""
        while self._next_s < end_s:
            self._beat()
        while self._rows and self._rows[0][0] < start_s:
            self._rows.popleft()
        rows = [row for row in self._rows if row[0] < end_s]
        table = np.array([row[:3] for row in rows], np.float64).reshape(-1, 3)
        return Beats(table[:, 0], table[:, 1], table[:, 2], np.array([row[3] for row in rows], np.bool_))

    def _beat(self) -> None:
        """Put the next beat down, then decide when the one after comes and whether it is premature."""
        innovation, chance, breath = self._rng.standard_normal(), self._rng.random(), self._breath()
        gain = 1.0 + self._traits.respiration_gain * breath
        self._rows.append((self._next_s, min(self._last_rr_s, _LONGEST_QT_RR_S), gain, self._next_pvc))
        rr_s = self._rr_s(float(innovation), breath) + self._owed_s
        self._next_pvc = not self._next_pvc and chance < self._traits.pvc_rate
        # What a premature beat takes is given back after it: the pause is compensatory.
        self._owed_s = (1.0 - _PREMATURE) * rr_s if self._next_pvc else 0.0
        self._last_rr_s = rr_s - self._owed_s
        self._next_s += self._last_rr_s

    def _breath(self) -> float:
        return float(np.sin(2.0 * np.pi * self._traits.respiration_hz * self._next_s))

    def _rr_s(self, innovation: float, breath: float) -> float:
        mean_s = 60.0 / self._correlates_at(self._next_s).heart_rate_bpm
        if self._traits.rhythm == "af":
            # Log-normal with the mean kept, as uncorrelated as fibrillation is.
            return max(mean_s * float(np.exp(_AF_SPREAD * innovation - 0.5 * _AF_SPREAD**2)), _SHORTEST_RR_S)
        self._slow = _MEMORY * self._slow + float(np.sqrt(1.0 - _MEMORY**2)) * innovation
        return mean_s * (1.0 + self._traits.rr_sd * self._slow + self._traits.respiration_rr * breath)


class FibrillationWaves:
    """The f-waves of atrial fibrillation: a wandering oscillation of 4 to 9 Hz, strongest in V1 and II."""

    _DIRECTION: Final = np.array([0.15, 0.45, -0.85])

    def __init__(self, traits: Traits, *, rng: np.random.Generator) -> None:
        self._traits = traits
        self._phase = rng.uniform(0.0, 2.0 * np.pi, 4)

    def render(self, *, start_s: float, rate_hz: float, n: int) -> F64:
        """Return the heart vector (3, n) in mV."""
        t = 2.0 * np.pi * (start_s + np.arange(n) / rate_hz)
        f, phase = self._traits.f_wave_hz, self._phase
        wander = 1.3 * np.sin(0.21 * t + phase[0]) + 0.8 * np.sin(0.47 * t + phase[1])
        main = np.sin(f * t + phase[2] + wander)
        # The second harmonic makes saw teeth; the slow factor makes coarse and fine spells.
        shape = (main + 0.35 * np.sin(2.0 * f * t + phase[3] + 2.0 * wander)) * (0.8 + 0.2 * np.sin(0.13 * t))
        return np.asarray(self._traits.f_wave_mv * self._DIRECTION[:, None] * shape)
