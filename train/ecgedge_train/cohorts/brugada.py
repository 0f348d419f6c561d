"""Brugada-HUCA (PhysioNet): 12 leads, 12 s at 100 Hz, one record a patient, with the diagnosis of the syndrome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.recordings import FileUnit, digest_of, load_wfdb, refuse_repeated
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import number, read_table, truth

CLASSES: Final = ("BRUGADA",)
_COLUMNS: Final = ("brugada", "basal_pattern", "sudden_death")
_DEFAULTS: Final = {"seed": "0"}
_LABELS: Final[Mapping[str, LabelKind]] = dict.fromkeys((*CLASSES, *_COLUMNS), "float")
_ATTRIBUTION: Final = (
    "Brugada-HUCA, PhysioNet; Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0)"
)
_HINT: Final = "--from must name the folder of Brugada-HUCA that holds metadata.csv and files/"


def open_brugada(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan Brugada-HUCA from its folder (metadata.csv and files/ID/ID.hea).

    BRUGADA is 1 or 0 where the table's `brugada` is; its third value, 2, is neither and becomes NaN. The
    three columns of the table are kept as they are. Patients are split by hash, see `cohorts.split`.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder is not Brugada-HUCA or files are missing.
    """
    chosen = take_options("brugada", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    if from_dir is None:
        raise UsageError(f"source 'brugada' needs a folder: {_HINT}")
    table = from_dir / "metadata.csv"
    _, rows, table_sha256 = read_table(table, required=("patient_id", *_COLUMNS), hint=_HINT)
    refuse_repeated((row["patient_id"] for row in rows), where=table)
    units = tuple(_unit(row, from_dir, seed) for row in rows)
    missing = [unit.path.name for unit in units if not unit.path.is_file()]
    if missing:
        raise RecordError(
            f"{from_dir}: {len(missing)} of {len(units)} records listed in metadata.csv have no header below "
            f"files/, the first is {missing[0]}; finish the download"
        )
    return Cohort(
        name="brugada",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=CLASSES,
        identity={
            **chosen,
            "table_sha256": table_sha256,
            "files_sha256": digest_of(u.path.name for u in units),
        },
        units=units,
        rows_per_unit=1,
        load=load_wfdb,
    )


def _unit(row: Mapping[str, str], from_dir: Path, seed: int) -> FileUnit:
    patient = row["patient_id"]
    fold = fold_of_patient(patient, seed=seed)
    labels: dict[str, float | str] = {"BRUGADA": truth(row["brugada"])}
    labels.update({name: number(row[name]) for name in _COLUMNS})
    entry = Entry(patient, patient, "", split_of_fold(fold), fold, labels)
    return FileUnit(entry, from_dir / "files" / patient / f"{patient}.hea")
