"""PTB Diagnostic ECG Database (PhysioNet): 549 records of 290 patients, with catheter findings in the headers.

Bousseljot, Kreiseler, Schnabel, "Nutzung der EKG-Signaldatenbank CARDIODAT der PTB ueber das Internet",
Biomed Tech 40(S1):317 (1995). Twelve standard and three Frank leads (left out here), 1,000 Hz, 38 to 115 s.

Every header closes with 48 comment lines "# key: value", CRLF ends, "n/a" where nothing is known, decimal
commas, the unit in the text, and "Catheterization date" twice (haemodynamics, then therapy). Too few values
to train on, right for a look at how a model does on other people's recordings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.pressure import plausible, read_l_min, read_mmhg
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.stretches import last_windows
from ecgedge_train.cohorts.tables import age_years, sex
from ecgedge_train.cohorts.wfdb16 import read_record

_DEFAULTS: Final = {"max_days": "1", "windows": "1", "labelled": "0", "seed": "0"}
_LABELS: Final[Mapping[str, LabelKind]] = {
    "mpcwp_mmhg": "float",
    "lvedp_mmhg": "float",
    "mpap_mmhg": "float",
    "co_l_min": "float",
    "days_to_catheter": "float",
    "age": "float",
    "sex": "text",
    "diagnosis": "text",
    "infarct": "text",
}
_CATHETER: Final = {
    "mpcwp_mmhg": ("pulmonary capillary wedge pressure (at rest)", read_mmhg),
    "lvedp_mmhg": ("left ventricular enddiastolic pressure", read_mmhg),
    "mpap_mmhg": ("pulmonary artery pressure (at rest) (mean)", read_mmhg),
    "co_l_min": ("cardiac output (at rest)", read_l_min),
}
"""Values under load ("(load)", "(laod)") are other states of the same patient and are not taken."""
_ATTRIBUTION: Final = (
    "PTB Diagnostic ECG Database, R. Bousseljot, D. Kreiseler, A. Schnabel, PhysioNet; "
    "Open Data Commons Attribution License v1.0"
)
_ABSENT: Final = ("", "n/a", "unknown")
_ECG_DATE: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_CATHETER_DATE: Final = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{2}|\d{4})")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class PtbUnit:
    """One record: its index row but for the window, its header, and how many windows to take."""

    entry: Entry
    header: Path
    windows: int

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def open_ptbdb(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan the PTB Diagnostic database from its folder (patient001/s0010_re.hea, ...).

    Options
    -------
    max_days
        Catheter values count if the ECG was taken at most so many days before or after the catheter; 1 by
        default (chosen: the files tell dates without hours, and a wedge pressure changes within hours under
        treatment). `all` keeps every value, for looking at them; `days_to_catheter` is there either way.
    windows
        At most so many windows of 10 s of a record, from its end; a row is named after the record and the
        second at which its window starts (`patient001/s0010_re@28.4`).
    labelled
        1 keeps only records with at least one catheter value.
    seed
        Of the split, which is a hash of the patient's folder; see `cohorts.split`.

    Values outside of `pressure.PLAUSIBLE`, and values whose text has no unit that is known, are dropped and
    counted in the dataset's options (`values_dropped`). The unit that stands there is believed.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder does not hold the database.
    """
    chosen = take_options("ptbdb", options, _DEFAULTS)
    max_days = _max_days(chosen["max_days"])
    windows = whole_number("windows", chosen["windows"])
    seed = whole_number("seed", chosen["seed"], least=0)
    if chosen["labelled"] not in ("0", "1"):
        raise UsageError(f"ptbdb: labelled is 0 or 1; seen: {chosen['labelled']!r}")
    if from_dir is None:
        raise UsageError("source 'ptbdb' needs a folder: --from DIR with patient001/, patient002/, ... in it")
    digest = hashlib.sha256()
    units, dropped = [], 0
    for header in _headers(from_dir):
        data = header.read_bytes()
        digest.update(header.name.encode() + data)
        comments = header_comments(data.decode("utf-8", "replace"))
        labels, unusable = catheter_labels(comments, max_days=max_days)
        dropped += unusable
        if chosen["labelled"] == "0" or any(not math.isnan(labels[name]) for name in _CATHETER):
            units.append(PtbUnit(_entry(header, comments, labels, seed), header, windows))
    if not units:
        raise RecordError(
            f"{from_dir}: no record has a catheter value within max_days={chosen['max_days']}; "
            "widen it, or take unlabelled records too with labelled=0"
        )
    return Cohort(
        name="ptbdb",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=(),
        identity={**chosen, "values_dropped": str(dropped), "headers_sha256": digest.hexdigest()},
        units=tuple(units),
        rows_per_unit=windows,
        load=load_record,
    )


def load_record(unit: PtbUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read one record and cut its windows."""
    base = unit.entry
    for start_s, window in last_windows(read_record(unit.header), unit.windows):
        name = f"{base.record_id}@{start_s:g}"
        yield Entry(name, base.patient_id, base.time, base.split, base.fold, base.labels), window


def header_comments(text: str) -> dict[str, str]:
    """Return the "# key: value" lines by key in small letters; of a key that stands twice the first known value.

    Values that say that nothing is known ("n/a", "unknown") become "".
    """
    comments: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.lstrip("#").partition(":")
        if not line.startswith("#") or not colon:
            continue
        known = "" if value.strip().lower() in _ABSENT else value.strip()
        name = key.strip().lower()
        comments[name] = comments.get(name, "") or known
    return comments


def catheter_labels(comments: Mapping[str, str], *, max_days: float) -> tuple[dict[str, float], int]:
    """Return the catheter's values and the days from the ECG to it, and how many values could not be used.

    Parameters
    ----------
    comments
        As `header_comments` gives them.
    max_days
        Values of a catheter further away, or of an unknown day, become NaN; infinite keeps all.
    """
    days = days_to_catheter(comments)
    near = math.isinf(max_days) or abs(days) <= max_days
    labels, unusable = {}, 0
    for name, (key, read) in _CATHETER.items():
        text = comments.get(key, "")
        value = plausible(name, read(text))
        unusable += bool(text) and math.isnan(value)
        labels[name] = value if near else math.nan
    return {**labels, "days_to_catheter": days}, unusable


def days_to_catheter(comments: Mapping[str, str]) -> float:
    """Return the days from the ECG ("01/10/1990", day first) to the catheter ("16-Oct-90"); NaN if unknown."""
    ecg = _ECG_DATE.fullmatch(comments.get("ecg date", ""))
    catheter = _CATHETER_DATE.fullmatch(comments.get("catheterization date", ""))
    if ecg is None or catheter is None or catheter[2].lower() not in _MONTHS:
        return math.nan
    year = int(catheter[3])
    year += 1900 if year < 100 else 0  # the recordings were made from 1990 to 1997
    month = _MONTHS.index(catheter[2].lower()) + 1
    try:
        gap = date(year, month, int(catheter[1])) - date(int(ecg[3]), int(ecg[2]), int(ecg[1]))
    except ValueError:
        return math.nan
    return float(gap.days)


def _max_days(text: str) -> float:
    return math.inf if text == "all" else float(whole_number("max_days", text, least=0))


def _headers(from_dir: Path) -> list[Path]:
    headers = sorted(from_dir.glob("patient*/*.hea"))
    if not headers:
        raise RecordError(
            f"{from_dir}: no headers patient*/*.hea here; --from must name the folder of the PTB Diagnostic "
            "database that holds patient001, patient002, ..."
        )
    return headers


def _entry(header: Path, comments: Mapping[str, str], catheter: Mapping[str, float], seed: int) -> Entry:
    patient = header.parent.name
    fold = fold_of_patient(patient, seed=seed)
    labels: dict[str, float | str] = {
        **catheter,
        "age": age_years(comments.get("age", "")),
        "sex": sex(comments.get("sex", "")),
        "diagnosis": comments.get("reason for admission", ""),
        "infarct": comments.get("acute infarction (localization)", ""),
    }
    return Entry(
        record_id=f"{patient}/{header.stem}",
        patient_id=patient,
        time=comments.get("ecg date", ""),
        split=split_of_fold(fold),
        fold=fold,
        labels=labels,
    )
