"""Your own recordings: a folder of files in any format that `ecgedge.records` reads, and a table (CSV) of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, Split, take_options, whole_number
from ecgedge_train.cohorts.recordings import check_short, digest_of, fit_window, refuse_repeated
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import number, read_table

_DEFAULTS: Final = {
    "csv": "labels.csv",
    "classes": "",
    "seed": "0",
    "short": "refuse",
    "simulated": "no",
    "name": "folder",
    "attribution": "recordings of a local folder, licence not told",
}
_SPLITS: Final[Mapping[str, Split]] = {
    "train": "train",
    "tune": "tune",
    "test": "test",
    "holdout": "holdout",
}
_OWN: Final = ("file", "patient_id", "record_id", "time", "split")
_TAKEN: Final = ("leads_present", "rate_hz", "fold", "shard", "row", "sd_mv", "dataset")
"""Columns that the index of a dataset, or of a union, has of itself; no label may be called so."""
_HINT: Final = (
    "csv= must name a table with the columns file, patient_id and, if you like, split, time and labels"
)
_UNKNOWN: Final = ("", "nan", "na", "n/a", "null")
"""Cells that tell nothing, in a column of numbers."""
_SLIPS: Final = 0.1
"""Below this share, text among numbers is taken for a slip."""


@dataclass(frozen=True)
class FolderUnit:
    """One file of the table with its index row."""

    entry: Entry
    path: Path
    short: str
    simulated: bool

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def open_folder(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan the recordings that a table lists.

    The table has the columns `file` (relative to the folder), `patient_id`, and may have `record_id` (the
    file by default), `time`, and `split` (train, tune, test, holdout). Every other column is a label: a
    number where all its cells are numbers, empty, nan, na, n/a or null, text otherwise; a column of numbers with
    less than one cell of text in ten is refused. Unit and rate come from the files; a
    file that does not declare them is refused by its reader.

    Options: `csv` names the table (relative to the folder), `classes` the 0/1 columns that are classes
    (A,B,C). Without a split column patients are split by a hash of their id and `seed`, see `cohorts.split`.
    `short` is refuse or pad, see `recordings.fit_window`. `simulated` is yes or no; a recording that says it
    is no real one is taken only with yes. `name` and `attribution` go into everything made from the data.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the table is not as above, a file is missing, a record stands twice, or a patient in two splits.
    """
    chosen = take_options("folder", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    check_short("folder", chosen["short"])
    if chosen["simulated"] not in ("yes", "no"):
        raise UsageError(f"source 'folder': simulated is yes or no, not {chosen['simulated']!r}")
    if from_dir is None:
        raise UsageError("source 'folder' needs --from DIR, the folder that holds the recordings")
    table = from_dir / chosen["csv"]
    columns, rows, table_sha256 = read_table(table, required=("file", "patient_id"), hint=_HINT)
    _check_rows(table, rows)
    labels = _label_kinds(table, columns, rows)
    classes = _classes(table, chosen["classes"], labels, rows)
    entries = [_entry(row, labels, seed) for row in rows]
    _check_splits(table, entries)
    refuse_repeated((entry.record_id for entry in entries), where=table)
    simulated = chosen["simulated"] == "yes"
    paths = _paths(from_dir, table, rows)
    return Cohort(
        name=chosen["name"],
        simulated=simulated,
        attribution=chosen["attribution"],
        labels=labels,
        classes=classes,
        identity={
            **chosen,
            "csv": Path(chosen["csv"]).name,
            "table_sha256": table_sha256,
            "files_sha256": digest_of(
                (row["file"], path.stat().st_size) for row, path in zip(rows, paths, strict=True)
            ),
        },
        units=tuple(
            FolderUnit(entry, path, chosen["short"], simulated)
            for entry, path in zip(entries, paths, strict=True)
        ),
        rows_per_unit=1,
        load=load_recording,
    )


def load_recording(unit: FolderUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read one recording, refusing a simulated one unless the cohort is declared so."""
    recording = records.read(unit.path, gaps="keep")
    if recording.mode != "real" and not unit.simulated:
        raise RecordError(
            f"{unit.path}: says that it is no recording of a person (mode {recording.mode!r}); "
            "take it out, or declare the whole dataset with simulated=yes"
        )
    yield unit.entry, fit_window(recording, unit.short)


def _check_rows(table: Path, rows: Sequence[Mapping[str, str]]) -> None:
    if not rows:
        raise RecordError(f"{table}: lists no recording; {_HINT}")
    for line, row in enumerate(rows, 2):
        if not row["file"] or not row["patient_id"]:
            raise RecordError(f"{table}: row {line} leaves file or patient_id empty; both are needed")
        if "split" in row and row["split"] not in _SPLITS:
            raise RecordError(
                f"{table}: row {line} has split {row['split']!r}; expected {', '.join(_SPLITS)} "
                "(without the column, patients are split by hash)"
            )


def _label_kinds(
    table: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> dict[str, LabelKind]:
    wrong = [name for name in columns if name in _TAKEN or not name]
    if wrong:
        raise RecordError(
            f"{table}: a label cannot be called {wrong[0]!r}, as the dataset has such a column itself; rename it"
        )
    return {
        name: _label_kind(table, name, [row[name] for row in rows]) for name in columns if name not in _OWN
    }


def _label_kind(table: Path, name: str, cells: Sequence[str]) -> LabelKind:
    """Tell numbers from text; a few cells of text among numbers are a slip, which would cost the label."""
    odd = [line for line, cell in enumerate(cells, 2) if not _is_number(cell)]
    if not odd:
        return "float"
    told = sum(cell.lower() not in _UNKNOWN for cell in cells)
    if len(odd) < _SLIPS * told:
        raise RecordError(
            f"{table}: row {odd[0]} has {cells[odd[0] - 2]!r} in {name}, where {told - len(odd)} of {told} cells are "
            "numbers; write a number with a point, or leave the cell empty (is the column text, put a letter into "
            "every cell)"
        )
    return "text"


def _is_number(cell: str) -> bool:
    return cell.lower() in _UNKNOWN or not math.isnan(number(cell))


def _classes(
    table: Path, option: str, labels: Mapping[str, LabelKind], rows: Sequence[Mapping[str, str]]
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in option.split(",") if name.strip()))
    for name in names:
        if name not in labels:
            raise RecordError(f"{table}: has no label {name!r} (option classes); it has: {', '.join(labels)}")
        seen = sorted({row[name] for row in rows if row[name].lower() not in _UNKNOWN})
        if labels[name] != "float" or {number(cell) for cell in seen} - {0.0, 1.0}:
            raise RecordError(
                f"{table}: {name} is no class, whose cells are 0, 1 or empty; it holds {', '.join(seen[:5])}"
            )
    return names


def _entry(row: Mapping[str, str], labels: Mapping[str, LabelKind], seed: int) -> Entry:
    # A split that the table gives has no folds behind it.
    fold = 0 if "split" in row else fold_of_patient(row["patient_id"], seed=seed)
    return Entry(
        record_id=row.get("record_id") or PurePosixPath(row["file"]).as_posix(),
        patient_id=row["patient_id"],
        time=row.get("time", ""),
        split=_SPLITS[row["split"]] if "split" in row else split_of_fold(fold),
        fold=fold,
        labels={name: number(row[name]) if kind == "float" else row[name] for name, kind in labels.items()},
    )


def _check_splits(table: Path, entries: Sequence[Entry]) -> None:
    split_of: dict[str, Split] = {}
    for entry in entries:
        first = split_of.setdefault(entry.patient_id, entry.split)
        if first != entry.split:
            raise RecordError(
                f"{table}: patient {entry.patient_id} is in both '{first}' and '{entry.split}'; "
                "give all records of a patient one split"
            )


def _paths(from_dir: Path, table: Path, rows: Sequence[Mapping[str, str]]) -> list[Path]:
    paths = [from_dir / row["file"] for row in rows]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise RecordError(
            f"{table}: {len(missing)} of {len(rows)} files are not there, the first is {missing[0]}; "
            "name them relative to the folder of --from, with their suffix"
        )
    return paths
