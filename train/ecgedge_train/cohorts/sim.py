"""Simulated patients: the same stimulus that the demo plays, with the filling pressure that made it.

Everything here is SIMULATED and marked so in the dataset, the run, the bundle and every report. It exercises
the whole line and gives an upper bound (the ideal observer); it says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecgedge import sim as simulator
from ecgedge.ecg import Recording
from ecgedge.errors import UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, Split, take_options, whole_number

_DEFAULTS: Final = {"patients": "2000", "seed": "1", "recordings": "4", "rate_hz": "500"}
_LEAD_IN_S: Final = 2.0
"""Simulated before the kept 10 s, so that the front end has settled as it has on a running bed."""
_LABELS: Final[Mapping[str, LabelKind]] = {
    "mpcwp_mmhg": "float",
    "age": "float",
    "sex": "text",
    "rhythm": "text",
    "ideal_mpcwp_mmhg": "float",
    "ideal_p_gt_15": "float",
    "ideal_p_gt_18": "float",
}
"""`ideal_*`: what the ideal observer says; it reads every hidden correlate, whatever leads a model sees."""


@dataclass(frozen=True)
class SimUnit:
    """One simulated patient."""

    number: int
    seed: int
    recordings: int
    rate_hz: float

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"sim{self.number:06d}"


def open_sim(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan simulated patients.

    Options: `patients`, `seed`, `recordings` per patient, `rate_hz` of the simulated device. Of each ten
    patients six train, two tune and two test, so the split depends on the patient's number alone.

    Raises
    ------
    UsageError
        On a wrong option.
    """
    if from_dir is not None:
        raise UsageError(f"source 'sim' reads no folder; leave out --from {from_dir}")
    chosen = take_options("sim", options, _DEFAULTS)
    patients = whole_number("patients", chosen["patients"])
    recordings = whole_number("recordings", chosen["recordings"])
    seed = whole_number("seed", chosen["seed"], least=0)
    rate_hz = float(whole_number("rate_hz", chosen["rate_hz"], least=100))
    units = [SimUnit(n, _patient_seed(seed, n), recordings, rate_hz) for n in range(patients)]
    return Cohort(
        name="sim",
        simulated=True,
        attribution="SIMULATED by ecgedge.sim; no patient data.",
        labels=_LABELS,
        classes=(),
        identity=chosen,
        units=tuple(units),
        rows_per_unit=recordings,
        load=load_patient,
    )


def load_patient(unit: SimUnit) -> Iterator[tuple[Entry, Recording]]:
    """Simulate all recordings of one patient."""
    made = simulator.simulate_patient_recordings(
        unit.seed, rate_hz=unit.rate_hz, recordings=unit.recordings, duration_s=10.0 + _LEAD_IN_S
    )
    for k, (recording, label) in enumerate(made):
        entry = Entry(
            record_id=f"{unit.name}-{k}",
            patient_id=unit.name,
            time=f"{label.recorded_at_s:.0f} s",
            split=split_of_patient(unit.number),
            fold=unit.number % 10 + 1,
            labels=_labels(label),
        )
        yield entry, recording


def split_of_patient(number: int) -> Split:
    """Return the split of the numbered patient: last digit 0-5 train, 6-7 tune, 8-9 test."""
    digit = number % 10
    return "train" if digit < 6 else "tune" if digit < 8 else "test"


def _patient_seed(seed: int, number: int) -> int:
    """Give each (seed, patient) a seed of its own; a cohort of more patients begins with the smaller one."""
    return seed * 10_000_000 + number


def _labels(label: simulator.SimulatedLabel) -> dict[str, float | str]:
    ideal = simulator.ideal_observer(label.traits, label.correlates)
    return {
        "mpcwp_mmhg": label.mpcwp_mmhg,
        "age": float(label.age),
        "sex": label.sex,
        "rhythm": label.rhythm,
        "ideal_mpcwp_mmhg": ideal.mpcwp_mmhg,
        "ideal_p_gt_15": ideal.p_gt_15,
        "ideal_p_gt_18": ideal.p_gt_18,
    }
