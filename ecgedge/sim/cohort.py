"""A population of simulated patients with several recordings each.

A test of the line, never evidence: it shows that a pipeline can learn what was put in, nothing about people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ecgedge.ecg import Recording, check_rate
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim.electrodes import Contacts
from ecgedge.sim.noise import NoiseLevels
from ecgedge.sim.observer import ideal_observer
from ecgedge.sim.patient import (
    HIGHEST_MMHG,
    LOWEST_MMHG,
    Correlates,
    Rhythm,
    Sex,
    Traits,
    correlates_at,
    draw_mpcwp_mmhg,
    draw_traits,
    draw_within,
    rng_for,
)
from ecgedge.sim.simulator import BedSource

WITHIN_PATIENT_SD_MMHG: Final = 2.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class SimulatedLabel:
    """The truth about one simulated recording; age in years, `traits` and `correlates` for the ideal observer."""

    mpcwp_mmhg: float
    age: int
    sex: Sex
    rhythm: Rhythm
    patient_id: str
    recorded_at_s: float
    traits: Traits
    correlates: Correlates

    @property
    def ideal_p_gt_15(self) -> float:
        """P(mPCWP > 15 mmHg) of the ideal observer."""
        return ideal_observer(self.traits, self.correlates).p_gt_15

    @property
    def ideal_p_gt_18(self) -> float:
        """P(mPCWP > 18 mmHg) of the ideal observer."""
        return ideal_observer(self.traits, self.correlates).p_gt_18


def simulate_patient_recordings(
    seed: int, *, rate_hz: float = 500.0, recordings: int = 4, duration_s: float = 10.0
) -> list[tuple[Recording, SimulatedLabel]]:
    """Simulate one patient of the population at several times.

    Parameters
    ----------
    seed
        Number of the patient; equal seeds give equal recordings.
    recordings
        How many; a day apart, each with fresh electrodes and a pressure that differs a little (SD 2 mmHg).
    duration_s
        Length of each. It begins anywhere in the heart's cycle.

    Raises
    ------
    UsageError
        If the seed is negative, or there is nothing to simulate.
    RecordError
        If the rate is not usable.
    """
    if seed < 0 or recordings < 1 or duration_s * rate_hz < 1.0:
        raise UsageError(
            f"cannot simulate seed {seed}, {recordings} recordings of {duration_s:g} s; "
            "use a seed of 0 or above, at least one recording, and a positive duration"
        )
    check_rate(rate_hz, source="simulated cohort")
    traits = draw_traits(seed)
    rng = rng_for(seed, 2)
    usual_mmhg = draw_mpcwp_mmhg(rng)
    return [
        _record(traits, _label(traits, usual_mmhg, number, rng), rate_hz, round(duration_s * rate_hz), number)
        for number in range(recordings)
    ]


def _label(traits: Traits, usual_mmhg: float, number: int, rng: np.random.Generator) -> SimulatedLabel:
    mmhg = usual_mmhg + WITHIN_PATIENT_SD_MMHG * float(rng.standard_normal())
    mmhg = min(max(mmhg, LOWEST_MMHG), HIGHEST_MMHG)
    return SimulatedLabel(
        mpcwp_mmhg=mmhg,
        age=traits.age_years,
        sex=traits.sex,
        rhythm=traits.rhythm,
        patient_id=traits.patient_id,
        recorded_at_s=number * _DAY_S + float(rng.uniform(0.0, 0.5 * _DAY_S)),
        traits=traits,
        correlates=correlates_at(traits, mmhg, draw_within(rng)),
    )


def _record(
    traits: Traits, label: SimulatedLabel, rate_hz: float, n: int, number: int
) -> tuple[Recording, SimulatedLabel]:
    seed = int(rng_for(traits.seed, 10, number).integers(2**62))
    bed = BedSource(
        traits,
        lambda _: label.correlates,
        levels=NoiseLevels(),
        contacts=Contacts((), period_s=_DAY_S, seed=seed),
        rate_hz=rate_hz,
        block_samples=n,
        seed=seed,
        start_s=label.recorded_at_s,
    )
    recording = Recording(
        bed.block(),
        rate_hz,
        STANDARD_LEADS,
        source=f"simulated patient {traits.patient_id}, recording {number}",
        mode="demo",
        patient_id=traits.patient_id,
        metadata={"simulated": "true", "rhythm": traits.rhythm, "conduction": traits.conduction},
    )
    return recording, label
