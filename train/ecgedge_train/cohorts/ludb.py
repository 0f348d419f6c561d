"""LUDB (PhysioNet): 200 patients, one 12-lead ECG each, 10 s at 500 Hz, with the cardiologists' statements.

Kalyakulina et al., "LUDB: a new open-access validation tool for electrocardiogram delineation algorithms",
IEEE Access 8, 186181-186190 (2020).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.recordings import FileUnit, digest_of, load_wfdb, refuse_repeated
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import age_years, read_table, sex

_RHYTHMS: Final = "Rhythms"
_AXIS: Final = "Electric axis of the heart"
_CONDUCTION: Final = "Conduction abnormalities"
_ECTOPY: Final = "Extrasystolies"

STATEMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "NSR": (_RHYTHMS, "sinus rhythm"),
    "SB": (_RHYTHMS, "sinus bradycardia"),
    "STach": (_RHYTHMS, "sinus tachycardia"),
    "SA": (_RHYTHMS, "sinus arrhythmia|irregular sinus rhythm"),
    "AF": (_RHYTHMS, "atrial fibrillation"),
    "AFL": (_RHYTHMS, "atrial flutter.*"),
    "LAD": (_AXIS, ".*: left axis deviation"),
    "RAD": (_AXIS, ".*: right axis deviation"),
    "IAVB": (_CONDUCTION, "i degree av.block"),
    "CHB": (_CONDUCTION, "iii degree av.block"),
    "IRBBB": (_CONDUCTION, "incomplete right bundle branch block"),
    "CRBBB|RBBB": (_CONDUCTION, "complete right bundle branch block"),
    "ILBBB": (_CONDUCTION, "incomplete left bundle branch block"),
    "CLBBB|LBBB": (_CONDUCTION, "complete left bundle branch block"),
    "LAnFB": (_CONDUCTION, "left anterior hemiblock"),
    "NSIVCB": (_CONDUCTION, "non-specific intravintricular conduction delay"),  # spelled so in the table
    "PAC|SVPB": (_ECTOPY, "atrial extrasystole.*"),
    "PVC|VPB": (_ECTOPY, "ventricular extrasystole.*"),
    "PR": ("Cardiac pacing", ".+"),
    "LVH": ("Hypertrophies", "left ventricular hypertrophy"),
}
"""Class to the column of ludb.csv and the pattern that one of its statements must match as a whole.

The names are the Challenge 2021 abbreviations, so that equal labels of two cohorts have equal names.
"""
_DEFAULTS: Final = {"seed": "0"}
_LABELS: Final[Mapping[str, LabelKind]] = {
    **dict.fromkeys(STATEMENTS, "float"),
    "age": "float",
    "sex": "text",
    "rhythm": "text",
}
_ATTRIBUTION: Final = (
    "Lobachevsky University Electrocardiography Database (LUDB), A. Kalyakulina, I. Yusipov, V. Moskalenko, "
    "A. Nikolskiy, A. Kozlov, PhysioNet; Open Data Commons Attribution License v1.0"
)
_HINT: Final = "--from must name the folder of LUDB that holds ludb.csv and data/"


def open_ludb(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan LUDB from its folder (ludb.csv and data/N.hea).

    The source publishes no split; patients (one record each) are split by a hash of their number and the
    option `seed`, see `cohorts.split`. A statement that is not in the table counts as absent, since the
    cardiologists were asked for all of them; only a record without any rhythm is unlabelled (NaN).

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder is not LUDB or files are missing.
    """
    chosen = take_options("ludb", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    if from_dir is None:
        raise UsageError(f"source 'ludb' needs a folder: {_HINT}")
    columns = dict.fromkeys(["ID", "Sex", "Age", *(column for column, _ in STATEMENTS.values())])
    _, rows, table_sha256 = read_table(from_dir / "ludb.csv", required=list(columns), hint=_HINT)
    refuse_repeated((row["ID"] for row in rows), where=from_dir / "ludb.csv")
    units = tuple(FileUnit(_entry(row, seed), from_dir / "data" / f"{row['ID']}.hea") for row in rows)
    missing = [unit.path.name for unit in units if not unit.path.is_file()]
    if missing:
        raise RecordError(
            f"{from_dir}: {len(missing)} of {len(units)} records listed in ludb.csv have no header in data/, "
            f"the first is {missing[0]}; finish the download"
        )
    return Cohort(
        name="ludb",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=tuple(STATEMENTS),
        identity={
            **chosen,
            "table_sha256": table_sha256,
            "files_sha256": digest_of(u.path.name for u in units),
        },
        units=units,
        rows_per_unit=1,
        load=load_wfdb,
    )


def class_labels(row: Mapping[str, str]) -> dict[str, float]:
    """Return 0/1 for each class from one row of ludb.csv; NaN if the row tells no rhythm."""
    if not row[_RHYTHMS].strip():
        return dict.fromkeys(STATEMENTS, float("nan"))
    return {
        name: float(any(re.fullmatch(pattern, statement) for statement in _statements(row[column])))
        for name, (column, pattern) in STATEMENTS.items()
    }


def _statements(cell: str) -> list[str]:
    """Split a cell: one statement a line."""
    return [line.strip(" .").lower() for line in cell.splitlines() if line.strip()]


def _entry(row: Mapping[str, str], seed: int) -> Entry:
    fold = fold_of_patient(row["ID"], seed=seed)
    rhythm = ", ".join(_statements(row[_RHYTHMS]))
    labels: dict[str, float | str] = {
        **class_labels(row),
        "age": age_years(row["Age"]),
        "sex": sex(row["Sex"]),
        "rhythm": rhythm,
    }
    return Entry(row["ID"], row["ID"], "", split_of_fold(fold), fold, labels)
