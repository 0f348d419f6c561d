"""What happens to a simulated patient: the course of the pressure, the noise, the electrodes that fall off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from ecgedge.errors import UsageError
from ecgedge.sim.noise import NoiseLevels
from ecgedge.sim.patient import HIGHEST_MMHG, LOWEST_MMHG, rng_for

MINUTE_S: Final = 60.0

DEFAULT_SEED: Final = 12
"""A patient whose ECG shows its pressure well. Chosen for that: many others' does not (README, alarm table)."""


@dataclass(frozen=True)
class OffInterval:
    """Electrode `electrode` (RA, LA, LL, RL, V1..V6) is off from `start_s` until `end_s`."""

    electrode: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Scenario:
    """A course of events.

    Attributes
    ----------
    course
        (time in seconds, mmHg) corners of the pressure; straight between, constant outside.
    fluctuation_mmhg
        Amplitude of the slow wander (tens of minutes) around the course.
    noise
        Levels, before the patient's own noise gain.
    off, off_period_s
        Electrodes that fall off, a programme that repeats.
    """

    name: str
    description: str
    course: tuple[tuple[float, float], ...]
    fluctuation_mmhg: float = 0.6
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    off: tuple[OffInterval, ...] = ()
    off_period_s: float = 600.0


_PRECORDIAL_OFF: Final = tuple(OffInterval(f"V{i}", 150.0, 270.0) for i in range(1, 7))

_ALL: Final = (
    Scenario("stable", "mPCWP stays near 10 mmHg", ((0.0, 10.0),)),
    Scenario(
        "decompensating",
        "mPCWP 10 mmHg for 30 min, then up to 28 mmHg over 90 min, and there it stays",
        ((30 * MINUTE_S, 10.0), (120 * MINUTE_S, 28.0)),
    ),
    Scenario(
        "noisy",
        "mPCWP near 10 mmHg under muscle noise, motion, wander and mains",
        ((0.0, 10.0),),
        noise=NoiseLevels(40.0, 400.0, 150.0, 60.0, 12.0, 4.0),
    ),
    Scenario(
        "lead-off",
        "mPCWP near 10 mmHg; electrodes fall off and return, again every 10 min: "
        "V3 (60-120 s), V1-V6 (150-270 s), LL (330-360 s), RA (420-450 s), RL (510-520 s)",
        ((0.0, 10.0),),
        off=(
            OffInterval("V3", 60.0, 120.0),
            *_PRECORDIAL_OFF,
            OffInterval("LL", 330.0, 360.0),
            OffInterval("RA", 420.0, 450.0),
            OffInterval("RL", 510.0, 520.0),
        ),
    ),
)

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType({scenario.name: scenario for scenario in _ALL})


def find_scenario(name: str) -> Scenario:
    """Return the scenario called `name`.

    Raises
    ------
    UsageError
        If there is none; the message lists those that there are.
    """
    if name not in SCENARIOS:
        raise UsageError(f"unknown scenario {name!r}; known scenarios: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


class PressureCourse:
    """mPCWP of one scenario and seed as a plain function of time."""

    def __init__(self, scenario: Scenario, *, seed: int) -> None:
        rng = rng_for(seed, 3)
        self._t_s = np.array([t for t, _ in scenario.course])
        self._mmhg = np.array([mmhg for _, mmhg in scenario.course])
        self._omega = 2.0 * np.pi / rng.uniform(20 * MINUTE_S, 70 * MINUTE_S, 2)
        self._phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        self._amplitude = scenario.fluctuation_mmhg * np.array([0.6, 0.4])

    def __call__(self, t_s: float) -> float:
        """Return mmHg at `t_s` seconds."""
        wander = float(np.sum(self._amplitude * np.sin(self._omega * t_s + self._phase)))
        return min(max(float(np.interp(t_s, self._t_s, self._mmhg)) + wander, LOWEST_MMHG), HIGHEST_MMHG)
