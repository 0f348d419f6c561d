"""Simulated patients: the same stimulus that the demo plays, with the filling pressure that made it.

Everything here is SIMULATED and marked so in the dataset, the run, the bundle and every report. It exercises
the whole line and gives an upper bound (the ideal observer); it says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ecgedge import sim as simulator
from ecgedge.ecg import Recording
from ecgedge.errors import UsageError
from ecgedge.sim.patient import REFERENCE_MMHG, rng_for
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, Split, take_options, whole_number

_DEFAULTS: Final = {
    "patients": "2000",
    "seed": "1",
    "recordings": "4",
    "rate_hz": "500",
    "haemodynamics": "0",
}
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
_HAEMODYNAMIC_LABELS: Final[Mapping[str, LabelKind]] = {
    "mpap_mmhg": "float",
    "co_l_min": "float",
    "pvr_wu": "float",
    "site": "text",
    "device": "text",
}
_STREAM: Final = 40
"""Random stream of what haemodynamics=1 adds: the ECG and the other labels stay what they are without it."""
_PVR_WU: Final = (1.9, 0.50)
_OUTPUT_L_MIN: Final = (4.7, 0.22)
_OUTPUT_PER_MMHG: Final = -0.012
_WITHIN_LOG_SD: Final = 0.08
"""Median and spread (SD of the logarithm) between patients, change with mPCWP, and spread inside a patient.

Chosen, with an eye on catheter populations: healthy people have a pulmonary vascular resistance of about 1 Wood
unit and a mean PA pressure of 14 mmHg (Kovacs et al., Eur Respir J 2009;34:888 and 2012;39:319), patients sent
for catheterisation more and a lower output, which falls as the left heart fails.
"""
_SITES: Final = ("north", "south", "west")
_SITE_SHARES: Final = (0.5, 0.3, 0.2)
_DEVICES: Final = ("cart-a", "cart-b")


@dataclass(frozen=True)
class SimUnit:
    """One simulated patient."""

    number: int
    seed: int
    recordings: int
    rate_hz: float
    haemodynamics: bool = False

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"sim{self.number:06d}"


def open_sim(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan simulated patients.

    Options: `patients`, `seed`, `recordings` per patient, `rate_hz` of the simulated device. Of each ten
    patients six train, two tune and two test, so the split depends on the patient's number alone.
    `haemodynamics=1` adds mean PA pressure, cardiac output, pulmonary vascular resistance, and a site and a
    device for tables by subgroup. The ECG knows of the pressures only what it knows of mPCWP, and nothing of
    site and device: a difference between those subgroups is chance.

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
    haemodynamics = chosen.pop("haemodynamics")
    if haemodynamics not in ("0", "1"):
        raise UsageError(f"sim: haemodynamics is 0 or 1; seen: {haemodynamics!r}")
    more = haemodynamics == "1"
    units = [SimUnit(n, _patient_seed(seed, n), recordings, rate_hz, more) for n in range(patients)]
    return Cohort(
        name="sim",
        simulated=True,
        attribution="SIMULATED by ecgedge.sim; no patient data.",
        labels={**_LABELS, **_HAEMODYNAMIC_LABELS} if more else _LABELS,
        classes=(),
        # The option stands here only where it is on: a dataset without it is the one that earlier builds made.
        identity={**chosen, "haemodynamics": "1"} if more else chosen,
        units=tuple(units),
        rows_per_unit=recordings,
        load=load_patient,
    )


def load_patient(unit: SimUnit) -> Iterator[tuple[Entry, Recording]]:
    """Simulate all recordings of one patient."""
    made = simulator.simulate_patient_recordings(
        unit.seed, rate_hz=unit.rate_hz, recordings=unit.recordings, duration_s=10.0 + _LEAD_IN_S
    )
    added = haemodynamics(unit.seed, [label.mpcwp_mmhg for _, label in made]) if unit.haemodynamics else None
    for k, (recording, label) in enumerate(made):
        entry = Entry(
            record_id=f"{unit.name}-{k}",
            patient_id=unit.name,
            time=f"{label.recorded_at_s:.0f} s",
            split=split_of_patient(unit.number),
            fold=unit.number % 10 + 1,
            labels={**_labels(label), **(added[k] if added else {})},
        )
        yield entry, recording


def split_of_patient(number: int) -> Split:
    """Return the split of the numbered patient: last digit 0-5 train, 6-7 tune, 8-9 test."""
    digit = number % 10
    return "train" if digit < 6 else "tune" if digit < 8 else "test"


def haemodynamics(seed: int, mpcwp_mmhg: Sequence[float]) -> list[dict[str, float | str]]:
    """Draw the rest of a patient's haemodynamics, one dict a recording, given its wedge pressures.

    The transpulmonary gradient is resistance times output, so mPAP = mPCWP + PVR x CO holds exactly.
    """
    rng = rng_for(seed, _STREAM)
    usual_pvr = _PVR_WU[0] * float(np.exp(_PVR_WU[1] * rng.standard_normal()))
    usual_output = _OUTPUT_L_MIN[0] * float(np.exp(_OUTPUT_L_MIN[1] * rng.standard_normal()))
    site = _SITES[int(rng.choice(len(_SITES), p=_SITE_SHARES))]
    rows: list[dict[str, float | str]] = []
    for wedge_mmhg in mpcwp_mmhg:
        pvr_wu = usual_pvr * float(np.exp(_WITHIN_LOG_SD * rng.standard_normal()))
        fall = _OUTPUT_PER_MMHG * (wedge_mmhg - REFERENCE_MMHG)
        co_l_min = usual_output * float(np.exp(fall + _WITHIN_LOG_SD * rng.standard_normal()))
        rows.append(
            {
                "mpap_mmhg": wedge_mmhg + pvr_wu * co_l_min,
                "co_l_min": co_l_min,
                "pvr_wu": pvr_wu,
                "site": site,
                "device": _DEVICES[int(rng.integers(len(_DEVICES)))],
            }
        )
    return rows


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
