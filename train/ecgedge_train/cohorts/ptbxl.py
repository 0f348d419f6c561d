"""PTB-XL (PhysioNet): 12 leads, 10 s, at 100 and 500 Hz, with SCP-ECG statements and ten folds by patient.

Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", Sci Data 7, 154 (2020).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, Split, take_options, whole_number
from ecgedge_train.cohorts.wfdb16 import read_record

CLASSES: Final = ("NORM", "MI", "STTC", "CD", "HYP")
"""The five diagnostic superclasses of scp_statements.csv."""

_DEFAULTS: Final = {
    "rate": "100",
    "tune": "7",
    "test": "9",
    "holdout": "10",
    "limit": "",
    "missing": "refuse",
}
FOLDS: Final = 10
_SPLITS: Final[tuple[Split, ...]] = ("tune", "test", "holdout")
_OLD_AGE: Final = 90.0
_ATTRIBUTION: Final = (
    "PTB-XL, P. Wagner, N. Strodthoff, R. Bousseljot, W. Samek, T. Schaeffter, PhysioNet; "
    "Creative Commons Attribution 4.0 International (CC BY 4.0)"
)
_FILE_COLUMN: Final = {"100": "filename_lr", "500": "filename_hr"}


@dataclass(frozen=True)
class PtbXlUnit:
    """One record: its index row and its header."""

    entry: Entry
    header: Path

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def open_ptbxl(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan PTB-XL from its folder (ptbxl_database.csv, scp_statements.csv, records100 and/or records500).

    Options: `rate` 100, 500 or best (500 where the file is there); 100 by default, because the front end
    passes 0.5 to 40 Hz, which 100 Hz carries, every mirror of PTB-XL holds the 100 Hz files, and one rate
    for all records leaves no trace of the rate for a model to learn. `limit` takes the first N records.
    `missing` is refuse or skip: what to do about listed records whose files are not there. `tune`, `test`
    and `holdout` name folds (the ten folds are by patient); all others train. The defaults leave fold 10,
    the published test fold, untouched for a last comparison; the published split is tune=9 test=10 holdout=.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder is not PTB-XL or files are missing.
    """
    chosen = take_options("ptbxl", options, _DEFAULTS)
    if chosen["rate"] not in ("100", "500", "best") or chosen["missing"] not in ("refuse", "skip"):
        raise UsageError("ptbxl: rate is 100, 500 or best; missing is refuse or skip")
    _check_folds(chosen)
    if from_dir is None:
        raise UsageError("source 'ptbxl' needs a folder: --from DIR with ptbxl_database.csv in it")
    rows, digest = _read_table(from_dir / "ptbxl_database.csv")
    superclass = superclasses(from_dir / "scp_statements.csv")
    if chosen["limit"]:
        rows = rows[: whole_number("limit", chosen["limit"])]
    units = [unit for unit in (_unit(row, from_dir, chosen, superclass) for row in rows) if unit]
    _check_missing(len(units), len(rows), from_dir, chosen)
    files = hashlib.sha256("\n".join(unit.header.name for unit in units).encode()).hexdigest()
    labels: dict[str, LabelKind] = {**dict.fromkeys(CLASSES, "float"), "age": "float", "sex": "text"}
    return Cohort(
        name="ptbxl",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=labels,
        classes=CLASSES,
        identity={**chosen, "table_sha256": digest, "files_sha256": files},
        units=tuple(units),
        rows_per_unit=1,
        load=load_record,
    )


def load_record(unit: PtbXlUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read one record."""
    yield unit.entry, read_record(unit.header)


def superclasses(path: Path) -> dict[str, str]:
    """Map each diagnostic SCP statement to its superclass, from scp_statements.csv."""
    rows, _ = _read_table(path)
    return {row[""]: row["diagnostic_class"] for row in rows if row["diagnostic"] and row["diagnostic_class"]}


def class_labels(scp_codes: str, superclass: Mapping[str, str]) -> dict[str, float]:
    """Return 0/1 for each superclass from one record's `scp_codes` ("{'NORM': 100.0, 'SR': 0.0}").

    As in the example code that comes with PTB-XL, a statement counts whatever likelihood stands beside it:
    0 there means "not given", not "absent". A record without any diagnostic statement is unlabelled (NaN):
    it serves pretraining but no class can be scored on it.
    """
    found = {superclass[code] for code in ast.literal_eval(scp_codes) if code in superclass}
    return {name: float(name in found) if found else float("nan") for name in CLASSES}


def split_of_fold(fold: int, options: Mapping[str, str]) -> Split:
    """Return the split that `options` (tune, test, holdout: comma-separated folds) give a fold; else train.

    Raises
    ------
    RecordError
        If the fold is not in 1..10.
    """
    if not 1 <= fold <= FOLDS:
        raise RecordError(f"ptbxl_database.csv: strat_fold {fold} is not in 1..{FOLDS}; is this PTB-XL 1.0?")
    for split in _SPLITS:
        if str(fold) in options[split].split(","):
            return split
    return "train"


def _check_folds(options: Mapping[str, str]) -> None:
    named = [fold for split in _SPLITS for fold in options[split].split(",") if fold]
    if len(set(named)) != len(named) or not {*named} <= {str(n) for n in range(1, FOLDS + 1)}:
        raise UsageError(f"ptbxl: tune, test and holdout name folds 1 to {FOLDS}, each once; seen: {named}")


def _unit(
    row: Mapping[str, str], from_dir: Path, options: Mapping[str, str], superclass: Mapping[str, str]
) -> PtbXlUnit | None:
    rate = options["rate"]
    for each in ("500", "100") if rate == "best" else (rate,):
        header = from_dir / (row[_FILE_COLUMN[each]] + ".hea")
        if header.is_file():
            return PtbXlUnit(_entry(row, options, superclass), header)
    return None


def _entry(row: Mapping[str, str], options: Mapping[str, str], superclass: Mapping[str, str]) -> Entry:
    fold = int(row["strat_fold"])
    age = float(row["age"] or "nan")
    # Ages above 89 are written 300 in PTB-XL, so that nobody can be told apart by age.
    labels: dict[str, float | str] = {
        **class_labels(row["scp_codes"], superclass),
        "age": _OLD_AGE if age > _OLD_AGE else age,
        "sex": {"0": "male", "1": "female"}.get(row["sex"], ""),
    }
    return Entry(
        record_id=row["ecg_id"],
        patient_id=str(int(float(row["patient_id"]))),
        time=row["recording_date"],
        split=split_of_fold(fold, options),
        fold=fold,
        labels=labels,
    )


def _read_table(path: Path) -> tuple[list[dict[str, str]], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be read ({error.strerror}); --from must name the folder of PTB-XL that holds "
            "ptbxl_database.csv, scp_statements.csv and records100"
        ) from error
    text = io.StringIO(data.decode("utf-8"), newline="")  # a report may hold line breaks
    return list(csv.DictReader(text)), hashlib.sha256(data).hexdigest()


def _check_missing(found: int, listed: int, from_dir: Path, options: Mapping[str, str]) -> None:
    if found == listed:
        return
    if options["missing"] == "skip" and found:
        return
    raise RecordError(
        f"{from_dir}: {listed - found} of {listed} records listed in ptbxl_database.csv have no file at "
        f"rate={options['rate']}; finish the download, choose another rate, or skip them with missing=skip"
    )
