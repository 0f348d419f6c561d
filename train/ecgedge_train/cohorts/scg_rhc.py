"""SCG-RHC (PhysioNet): ECG and a chest patch during right heart catheterisation, 73 patients, 83 procedures.

PhysioNet "scg-rhc-wearable-database" 1.0.0, doi 10.13026/133d-pk11, open.
`processed_data/TRM107-RHC1.{hea,dat,json}` hold the whole procedure at 500 Hz; the JSON tells at which second
the catheter reached a chamber (`ChamEvents_in_s`: RA, RV, PA, PCW, PCW_2, ...; it stays until the next event);
`meta_information/RHC_values.csv` holds the pressures that were read off, one row a phase of the procedure.

Which phase does a wedge position belong to? The files do not say. Taken here:

- the first wedge event is the phase "Baseline", which comes first in every procedure;
- with phases=all, in a procedure with a challenge (`IsChallenge` 1) that has exactly one wedge event after it
  and exactly one phase beside "Baseline", these two belong together.

Every other event is left out: a wrong pressure is worse than none.

Windows lie inside the wedge position, but two windows of one patient are nearly the same, so splits go by
patient (TRM number, over both of its procedures), never by window.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError, missing_extra
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.pressure import plausible
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.stretches import LEAD_IN_S, WINDOW_S, last_windows
from ecgedge_train.cohorts.tables import age_years, number, read_table, sex

_DEFAULTS: Final = {"ecg": "catheter", "phases": "baseline", "max_s": "60", "seed": "0"}
_LABELS: Final[Mapping[str, LabelKind]] = {
    "mpcwp_mmhg": "float",
    "mpap_mmhg": "float",
    "co_l_min": "float",
    "age": "float",
    "sex": "text",
    "phase": "text",
}
_CHANNELS: Final[Mapping[str, Mapping[str, str]]] = {
    "catheter": {"ECG_lead_I": "I", "ECG_lead_II": "II", "ECG_lead_V1": "V1"},
    "patch": {"patch_ECG": "II"},
}
_MV_PER_UNIT: Final = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
_RECORD: Final = re.compile(r"(TRM\d+)-RHC\d+")
_BASELINE: Final = "baseline"
_TIME: Final = "%d-%b-%Y %H:%M:%S"
_ML_MIN_FROM: Final = 100.0
"""The column of the cardiac output is headed mL/min; a number below this can only be litres."""
_ATTRIBUTION: Final = (
    "SCG-RHC wearable database 1.0.0, PhysioNet, "
    "doi 10.13026/133d-pk11; Open Data Commons Attribution License v1.0"
)


@dataclass(frozen=True)
class Wedge:
    """One stay in the wedge position: its event's name, its seconds in the record, and the phase it belongs to."""

    event: str
    start_s: float
    end_s: float
    phase: str


@dataclass(frozen=True)
class ScgUnit:
    """One wedge position of one procedure: its index row but for the window, and where its samples are."""

    entry: Entry
    record: Path
    ecg: str
    wedge: Wedge
    windows: int

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def open_scg_rhc(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan SCG-RHC from its folder (processed_data, meta_information).

    Options
    -------
    ecg
        `catheter` takes ECG_lead_I, ECG_lead_II and ECG_lead_V1 of the laboratory, `patch` the wearable's one
        channel, given out as lead II, which it resembles but is not (electrodes on the chest).
    phases
        `baseline` or `all`; see the module's text.
    max_s
        At most so many seconds of a wedge position are used, from its start. 60 by default (chosen): the last
        event of a procedure has no end but that of the recording, and the balloon is let down long before.
    seed
        Of the split, which is a hash of the TRM number; see `cohorts.split`.

    Windows of 10 s do not overlap; a row is named `TRM107-RHC1/PCW@312.4` after its first second. What gives no
    row (no wedge event, no value, shorter than 10 s) is counted in the dataset's options (`wedges_left_out`).

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder is not SCG-RHC or its tables are damaged.
    """
    chosen = take_options("scg-rhc", options, _DEFAULTS)
    whole_number("seed", chosen["seed"], least=0)
    max_s = whole_number("max_s", chosen["max_s"], least=int(WINDOW_S))
    if chosen["ecg"] not in _CHANNELS or chosen["phases"] not in (_BASELINE, "all"):
        raise UsageError("scg-rhc: ecg is catheter or patch; phases is baseline or all")
    if from_dir is None:
        raise UsageError("source 'scg-rhc' needs a folder: --from DIR with processed_data/ in it")
    values, sha256 = _read_values(from_dir / "meta_information" / "RHC_values.csv")
    digest = hashlib.sha256(sha256.encode())
    units: list[ScgUnit] = []
    left_out = 0
    for path in _descriptions(from_dir):
        text = path.read_text("utf-8")
        digest.update(path.name.encode() + text.encode())
        found, without = _units(path, _parse(text, path), values, chosen, max_s)
        units += found
        left_out += without
    if not units:
        raise RecordError(f"{from_dir}: no wedge position of 10 s has a pressure; is the download complete?")
    return Cohort(
        name="scg-rhc",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=(),
        identity={**chosen, "wedges_left_out": str(left_out), "tables_sha256": digest.hexdigest()},
        units=tuple(units),
        rows_per_unit=max(unit.windows for unit in units),
        load=load_wedge,
    )


def load_wedge(unit: ScgUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read the ECG of one wedge position and cut its windows, counted from its end."""
    first_s = max(0.0, unit.wedge.start_s - LEAD_IN_S)
    recording = read_stretch(unit.record, unit.ecg, start_s=first_s, end_s=unit.wedge.end_s)
    end_s = first_s + recording.duration_s
    windows = min(unit.windows, int((end_s - unit.wedge.start_s + 1e-6) // WINDOW_S))
    if windows < 1:
        raise RecordError(
            f"{unit.record}: the samples end at {end_s:g} s, the wedge position begins at "
            f"{unit.wedge.start_s:g} s; the download is incomplete"
        )
    base = unit.entry
    for start_s, window in last_windows(recording, windows):
        name = f"{base.record_id}@{round(first_s + start_s, 3):g}"
        yield Entry(name, base.patient_id, base.time, base.split, base.fold, base.labels), window


def read_stretch(record: Path, ecg: str, *, start_s: float, end_s: float) -> Recording:
    """Read a stretch of the ECG channels of one record, and nothing else of its 100 MB.

    Raises
    ------
    RecordError
        If the record is missing, damaged, or lacks a channel.
    UsageError
        If the package wfdb is not installed.
    """
    wfdb = _import_wfdb()
    try:
        header = wfdb.rdheader(str(record))
        rate_hz = float(header.fs)
        channels = [header.sig_name.index(name) for name in _CHANNELS[ecg]]
        end = min(round(end_s * rate_hz), header.sig_len)
        part = wfdb.rdrecord(str(record), sampfrom=round(start_s * rate_hz), sampto=end, channels=channels)
        samples_mv = np.stack(
            [part.p_signal[:, i] * _MV_PER_UNIT[unit.lower()] for i, unit in enumerate(part.units)]
        )
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise RecordError(
            f"{record}: {', '.join(_CHANNELS[ecg])} cannot be read from {start_s:g} to {end_s:g} s "
            f"({type(error).__name__}: {error}); is the download complete?"
        ) from error
    leads = tuple(_CHANNELS[ecg].values())
    return Recording(samples_mv.astype(np.float32), rate_hz, leads, source=str(record))


def wedges(events: Any, *, phases: tuple[str, ...], challenge: bool, end_s: float) -> list[Wedge]:
    """Return the wedge positions that can be told a phase.

    Parameters
    ----------
    events
        `ChamEvents_in_s`: event to second; anything but a table means that nothing was noted.
    phases
        The procedure's phases in RHC_values.csv.
    challenge
        Whether a drug, fluid or exercise was given.
    end_s
        End of the recording, which ends the last event.
    """
    if not isinstance(events, dict):
        return []
    seconds = {name.strip(): number(str(text)) for name, text in events.items()}
    times = sorted((second, name) for name, second in seconds.items() if not math.isnan(second))
    stops = [*(second for second, _ in times[1:]), end_s]
    found = [
        (name, second, stop)
        for (second, name), stop in zip(times, stops, strict=True)
        if name.split("_")[0].upper() == "PCW"
    ]
    told: list[Wedge] = []
    later = [phase for phase in phases if phase != _BASELINE]
    if found and _BASELINE in phases:
        told.append(Wedge(*found[0], _BASELINE))
    if challenge and len(found) == 2 and len(later) == 1:
        told.append(Wedge(*found[1], later[0]))
    return told


def output_l_min(text: str) -> float:
    """Read "Avg. COmL/min" in litres per minute, whether the number is millilitres or litres."""
    value = number(text)
    return plausible("co_l_min", value / 1000.0 if value >= _ML_MIN_FROM else value)


def _import_wfdb() -> Any:
    try:
        with warnings.catch_warnings():
            # wfdb 4.3 builds a table with an argument that pandas 3 deprecates, at import
            warnings.simplefilter("ignore", DeprecationWarning)
            import wfdb  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing_extra(extra="records", package="wfdb", purpose="Reading SCG-RHC") from error
    return wfdb


def _read_values(path: Path) -> tuple[dict[str, dict[str, dict[str, str]]], str]:
    """Return procedure -> phase in small letters -> row of RHC_values.csv, and the hash of the file."""
    _, rows, sha256 = read_table(
        path,
        required=("Study ID", "RHC Phase", "PCWM"),
        hint="--from must name the folder of SCG-RHC that holds meta_information and processed_data",
    )
    values: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        phases = values.setdefault(row["Study ID"].replace(".", "-"), {})
        phase = row["RHC Phase"].lower()
        if phase in phases:
            raise RecordError(
                f"{path}: {row['Study ID']} has the phase {row['RHC Phase']!r} twice; remove one"
            )
        phases[phase] = row
    return values, sha256


def _descriptions(from_dir: Path) -> list[Path]:
    paths = sorted((from_dir / "processed_data").glob("TRM*.json"))
    if not paths:
        raise RecordError(f"{from_dir}: no processed_data/TRM*.json here; is the download complete?")
    return paths


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: damaged ({error}); fetch the file again") from error
    if not isinstance(parsed, dict) or _RECORD.fullmatch(path.stem) is None:
        raise RecordError(f"{path}: not the description of a procedure (TRM107-RHC1.json); wrong folder?")
    return {str(key).strip(): value for key, value in parsed.items()}


def _units(
    path: Path,
    about: Mapping[str, Any],
    values: Mapping[str, Mapping[str, Mapping[str, str]]],
    options: Mapping[str, str],
    max_s: int,
) -> tuple[list[ScgUnit], int]:
    """Return the units of one procedure, and how many of its wedge positions give none (1 if it has none)."""
    phases = values.get(path.stem, {})
    found = wedges(
        about.get("ChamEvents_in_s"),
        phases=tuple(phases) if options["phases"] == "all" else (_BASELINE,) if _BASELINE in phases else (),
        challenge=str(about.get("IsChallenge", "")).strip() in ("1", "1.0", "True"),
        end_s=_duration_s(about),
    )
    units = []
    for wedge in found:
        end_s = min(wedge.end_s, wedge.start_s + max_s)
        entry = _entry(path.stem, wedge, phases[wedge.phase], about, options)
        windows = int((end_s - wedge.start_s) // WINDOW_S)
        if windows >= 1 and not math.isnan(float(entry.labels["mpcwp_mmhg"])):
            cut = Wedge(wedge.event, wedge.start_s, end_s, wedge.phase)
            units.append(ScgUnit(entry, path.with_suffix(""), options["ecg"], cut, windows))
    return units, max(1, len(found)) - len(units)


def _duration_s(about: Mapping[str, Any]) -> float:
    """Return how long the recording is; without its times only `max_s` and the samples end the last event."""
    try:
        start, end = (
            datetime.strptime(str(about[key]).strip(), _TIME)  # noqa: DTZ007 - local time, and only the gap counts
            for key in ("MacStTime", "MacEndTime")
        )
    except (KeyError, ValueError):
        return math.inf
    return (end - start).total_seconds()


def _entry(
    record: str, wedge: Wedge, row: Mapping[str, str], about: Mapping[str, Any], options: Mapping[str, str]
) -> Entry:
    patient = record.split("-")[0]
    fold = fold_of_patient(patient, seed=int(options["seed"]))
    labels: dict[str, float | str] = {
        "mpcwp_mmhg": plausible("mpcwp_mmhg", number(row.get("PCWM", ""))),
        "mpap_mmhg": plausible("mpap_mmhg", number(row.get("PAM", ""))),
        "co_l_min": output_l_min(row.get("Avg. COmL/min", "")),
        "age": age_years(str(about.get("age", ""))),
        "sex": sex(str(about.get("gender", ""))),
        "phase": wedge.phase,
    }
    time = str(about.get("MacStTime", "")).strip()
    return Entry(f"{record}/{wedge.event}", patient, time, split_of_fold(fold), fold, labels)
