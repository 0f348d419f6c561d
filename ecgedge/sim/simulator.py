"""The simulated bed: an endless 12-lead ECG of a patient to whom a scenario happens.

A test stimulus and a test of the line, never evidence. Samples are made in internal blocks of 10 s with one
random generator each, so that the same seed gives the same samples however they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import check_rate
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim.dipole import heart_waves, project, render
from ecgedge.sim.electrodes import Contacts
from ecgedge.sim.noise import ElectrodeNoise, NoiseLevels, leads_from_electrodes
from ecgedge.sim.patient import (
    CORRELATE_MODELS,
    CORRELATE_NAMES,
    WITHIN_FRACTION,
    Correlates,
    Traits,
    correlates_at,
    draw_traits,
    rng_for,
)
from ecgedge.sim.rhythm import BeatSource, FibrillationWaves
from ecgedge.sim.scenario import MINUTE_S, PressureCourse, Scenario, find_scenario

F32 = NDArray[np.float32]

BLOCK_S: Final = 10.0
_BEFORE_S: Final = 1.2
_AFTER_S: Final = 0.6
"""A beat reaches from its P wave (0.6 s before R at most) to the end of T (1.2 s after R at most)."""


class HeartSource:
    """The heart alone, without electrodes or noise: (8, n) millivolts of the independent leads per block."""

    def __init__(
        self,
        traits: Traits,
        correlates_at: Callable[[float], Correlates],
        *,
        rate_hz: float,
        rng: np.random.Generator,
        start_s: float = 0.0,
    ) -> None:
        self._traits = traits
        self._correlates_at = correlates_at
        self._rate_hz = rate_hz
        self._beats = BeatSource(traits, correlates_at, rng=rng, start_s=start_s - 2.0 * _BEFORE_S)
        self._f_waves = FibrillationWaves(traits, rng=rng) if traits.rhythm == "af" else None

    def block(self, *, start_s: float, n: int) -> F32:
        """Return (8, n) mV from `start_s` on; blocks come in order."""
        end_s = start_s + n / self._rate_hz
        beats = self._beats.between(start_s - _BEFORE_S, end_s + _AFTER_S)
        waves = heart_waves(beats, self._traits, self._correlates_at(0.5 * (start_s + end_s)))
        vector = render(waves, start_s=start_s, rate_hz=self._rate_hz, n=n)
        if self._f_waves is not None:
            vector += self._f_waves.render(start_s=start_s, rate_hz=self._rate_hz, n=n)
        return project(vector.astype(np.float32))


class BedSource:
    """Heart, electrodes and noise together: (12, block) float32 millivolts per block, NaN where not measured."""

    def __init__(
        self,
        traits: Traits,
        correlates_at: Callable[[float], Correlates],
        *,
        levels: NoiseLevels,
        contacts: Contacts,
        rate_hz: float,
        block_samples: int,
        seed: int,
        start_s: float = 0.0,
    ) -> None:
        self._rate_hz, self._n, self._seed, self._start_s = rate_hz, block_samples, seed, start_s
        self._contacts = contacts
        self._number = 0
        self._heart = HeartSource(
            traits, correlates_at, rate_hz=rate_hz, rng=rng_for(seed, 6), start_s=start_s
        )
        self._noise = ElectrodeNoise(
            levels.scaled(traits.noise_gain),
            mains_hz=traits.mains_hz,
            respiration_hz=traits.respiration_hz,
            rate_hz=rate_hz,
            block_samples=block_samples,
            rng=rng_for(seed, 7),
        )

    def block(self) -> F32:
        """Return the next block."""
        start_s = self._start_s + self._number * self._n / self._rate_hz
        t_s = start_s + np.arange(self._n) / self._rate_hz
        electrodes = self._noise.block(start_s=start_s, rng=rng_for(self._seed, 8, self._number))
        electrodes += self._contacts.offsets_mv(t_s)
        leads = twelve_leads(
            self._heart.block(start_s=start_s, n=self._n) + leads_from_electrodes(electrodes)
        )
        missing = self._contacts.missing(t_s)
        if missing is not None:
            leads[missing] = np.nan
        self._number += 1
        return leads


def twelve_leads(independent_mv: F32) -> F32:
    """Return (12, n) from (8, n): I, II, V1..V6, and the other limb leads by Einthoven and Goldberger."""
    one, two = independent_mv[0], independent_mv[1]
    leads = np.empty((len(STANDARD_LEADS), independent_mv.shape[1]), np.float32)
    leads[:2] = independent_mv[:2]
    leads[2] = two - one
    leads[3] = -0.5 * one - 0.5 * two
    leads[4] = one - 0.5 * two
    leads[5] = two - 0.5 * one
    leads[6:] = independent_mv[2:]
    return leads


class SlowDrift:
    """The slow variation of the correlates inside a patient, as a plain function of time."""

    def __init__(self, *, seed: int) -> None:
        rng = rng_for(seed, 9)
        size = len(CORRELATE_NAMES)
        self._omega = 2.0 * np.pi / rng.uniform(15 * MINUTE_S, 60 * MINUTE_S, size)
        self._phase = rng.uniform(0.0, 2.0 * np.pi, size)
        spread = np.array([CORRELATE_MODELS[name].between_sd for name in CORRELATE_NAMES])
        self._amplitude = np.sqrt(2.0) * WITHIN_FRACTION * spread

    def __call__(self, t_s: float) -> Correlates:
        """Return the deviation of each correlate at `t_s` seconds."""
        values = self._amplitude * np.sin(self._omega * t_s + self._phase)
        return Correlates(*(float(value) for value in values))


class Simulator:
    """An endless simulated 12-lead ECG (mode "demo": never evidence).

    Parameters
    ----------
    scenario
        A name of `ecgedge.sim.SCENARIOS`, or a course of one's own.
    seed
        Draws the patient like one of the population, but in sinus rhythm, and everything that follows.
    rate_hz
        Samples per second.

    Raises
    ------
    UsageError
        If no scenario has that name or the seed is negative.
    RecordError
        If the rate is not usable.
    """

    def __init__(self, scenario: str | Scenario, *, seed: int, rate_hz: float = 500.0) -> None:
        self._scenario = scenario if isinstance(scenario, Scenario) else find_scenario(scenario)
        check_rate(rate_hz, source=f"simulator {self._scenario.name}")
        if seed < 0:
            raise UsageError(f"seed {seed} is negative; use 0 or above")
        self.rate_hz = rate_hz
        self.traits = replace(draw_traits(seed), rhythm="sinus")
        self._pressure = PressureCourse(self._scenario, seed=seed)
        self._drift = SlowDrift(seed=seed)
        self._bed = BedSource(
            self.traits,
            self.correlates,
            levels=self._scenario.noise,
            contacts=Contacts(self._scenario.off, period_s=self._scenario.off_period_s, seed=seed),
            rate_hz=rate_hz,
            block_samples=round(BLOCK_S * rate_hz),
            seed=seed,
        )
        self._block = np.empty((len(STANDARD_LEADS), 0), np.float32)
        self._used = 0
        self._read = 0

    @property
    def t_s(self) -> float:
        """Time of the next sample, in seconds since the start."""
        return self._read / self.rate_hz

    def mpcwp_mmhg(self, t_s: float) -> float:
        """Return the true mean wedge pressure of the simulated patient at `t_s` seconds."""
        return self._pressure(t_s)

    def correlates(self, t_s: float) -> Correlates:
        """Return the true ECG correlates at `t_s` seconds."""
        return correlates_at(self.traits, self._pressure(t_s), self._drift(t_s))

    def read(self, n: int) -> F32:
        """Return the next `n` samples, (12, n) float32 millivolts, NaN where an electrode is off."""
        samples = np.empty((len(STANDARD_LEADS), n), np.float32)
        done = 0
        while done < n:
            if self._used == self._block.shape[1]:
                self._block, self._used = self._bed.block(), 0
            take = min(n - done, self._block.shape[1] - self._used)
            samples[:, done : done + take] = self._block[:, self._used : self._used + take]
            done, self._used = done + take, self._used + take
        self._read += n
        return samples
