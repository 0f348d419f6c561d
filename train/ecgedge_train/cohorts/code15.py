"""CODE-15 % (Zenodo 4916206): 345,779 12-lead ECGs of 233,770 patients at 400 Hz, 7 to 10 s long.

Ribeiro et al., "CODE-15%: a large scale annotated dataset of 12-lead ECGs", Zenodo (2021); Ribeiro et al.,
"Automatic diagnosis of the 12-lead ECG using a deep neural network", Nat Commun 11, 1760 (2020). Two layouts:
exams.csv with exams_part*.hdf5 as published, and WFDB records as the Challenge 2025 converts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError, missing_extra
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.recordings import (
    check_short,
    digest_of,
    find_headers,
    fit_window,
    read_comments,
    refuse_repeated,
)
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import age_years, number, read_table, sex, truth
from ecgedge_train.cohorts.wfdb16 import read_record

CLASSES: Final = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
RATE_HZ: Final = 400.0
_DEFAULTS: Final = {"seed": "0", "short": "refuse", "missing": "refuse"}
_LABELS: Final[Mapping[str, LabelKind]] = {
    **dict.fromkeys((*CLASSES, "chagas", "normal_ecg", "death", "timey", "age"), "float"),
    "sex": "text",
    "origin": "text",
}
_COLUMNS: Final = ("exam_id", "patient_id", "age", "is_male", "trace_file", *CLASSES)
_ATTRIBUTION: Final = (
    "CODE-15%, A. Ribeiro, G. Paixao, E. Lima, M. Horta Ribeiro, M. Pinto Filho, P. Gomes, D. Oliveira, "
    "W. Meira Jr, T. Schon, A. Ribeiro, Zenodo 4916206; Creative Commons Attribution 4.0 International (CC BY 4.0)"
)
_SAMITROP: Final = "; SaMi-Trop, A. Ribeiro et al., Zenodo 4905618; CC BY 4.0"
_NO_PATIENTS: Final = (
    ". The headers name no patient: each such record counts as a patient of its own, so records of one patient "
    "may stand in two splits"
)
_HINT: Final = (
    "--from must name the folder with exams.csv and exams_part*.hdf5, or with WFDB records of CODE-15"
)


@dataclass(frozen=True)
class Code15Unit:
    """One exam: its index row and where its samples are; `row` counts in an HDF5 file, None means WFDB."""

    entry: Entry
    path: Path
    row: int | None
    short: str

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def open_code15(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan CODE-15 from the published files, or from WFDB records if there is no exams_part*.hdf5.

    WFDB records may have exams.csv beside them, which then gives labels and patients; otherwise the header
    does ("Age", "Sex", "Chagas label", "Patient ID"). SaMi-Trop records of the Challenge may lie with them.
    A file code15_chagas_labels.csv (exam_id, chagas) is read if it is there.

    Options: `seed` of the split by patient, see `cohorts.split`. `short` is refuse or pad: most exams are
    7.3 s long, so that nothing but pad (see `recordings.fit_window`) takes them; the zeros around them in
    the HDF5 files are taken away first. `missing` is refuse or skip: what to do about
    exams of exams.csv whose file (or row in it) is not there.

    Raises
    ------
    UsageError
        On a wrong option, or if h5py is needed and not installed.
    RecordError
        If the folder is not CODE-15 or files are missing.
    """
    chosen = take_options("code15", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    check_short("code15", chosen["short"])
    if chosen["missing"] not in ("refuse", "skip"):
        raise UsageError(f"source 'code15': missing is refuse or skip, not {chosen['missing']!r}")
    if from_dir is None:
        raise UsageError(f"source 'code15' needs a folder: {_HINT}")
    exams = _read_exams(from_dir)
    published = sorted(from_dir.rglob("exams_part*.hdf5"))
    if published:
        units = _plan_hdf5(from_dir, published, exams, chosen, seed)
    else:
        units = _plan_wfdb(from_dir, exams, chosen, seed)
    refuse_repeated((unit.name for unit in units), where=from_dir)
    entries = [unit.entry for unit in units]
    known = {
        name for entry in entries for name in (*CLASSES, "chagas") if entry.labels[name] == entry.labels[name]
    }
    return Cohort(
        name="code15",
        simulated=False,
        attribution=_attribution(entries),
        labels=_LABELS,
        classes=tuple(name for name in (*CLASSES, "chagas") if name in known),
        identity={**chosen, "exams_sha256": digest_of(entries)},
        units=tuple(units),
        rows_per_unit=1,
        load=load_exam,
    )


def load_exam(unit: Code15Unit) -> Iterator[tuple[Entry, Recording]]:
    """Read one exam, without the zeros that fill it up."""
    if unit.row is None:
        recording = read_record(unit.path)
        samples_mv = strip_zeros(recording.samples_mv, source=str(unit.path))
        recording = Recording(samples_mv, recording.rate_hz, recording.leads, source=recording.source)
    else:
        recording = _read_trace(unit.path, unit.row, f"{unit.path.name} exam {unit.name}")
    yield unit.entry, fit_window(recording, unit.short)


def strip_zeros(samples_mv: NDArray[np.float32], *, source: str) -> NDArray[np.float32]:
    """Return (n_leads, n) without the samples at either end that are zero in all leads.

    Raises
    ------
    RecordError
        If nothing is left.
    """
    signal = np.flatnonzero((samples_mv != 0.0).any(axis=0))
    if signal.size == 0:
        raise RecordError(f"{source}: every sample is zero; there is no signal in this exam")
    return samples_mv[:, signal[0] : signal[-1] + 1]


def _read_trace(path: Path, row: int, source: str) -> Recording:
    # (4096, 12) float32 in mV: Challenge 2025 converts the numbers so, and they are as large as other ECGs.
    with _open_hdf5(path) as file:
        trace = np.asarray(file["tracings"][row], np.float32).T
    return Recording(
        np.ascontiguousarray(strip_zeros(trace, source=source)), RATE_HZ, STANDARD_LEADS, source=source
    )


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py  # noqa: PLC0415 - only the published layout needs it
    except ImportError as error:
        raise missing_extra(extra="train", package="h5py", purpose="Reading CODE-15's HDF5 files") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read as HDF5 ({error}); fetch the file again") from error


def _read_exams(from_dir: Path) -> dict[str, dict[str, str]]:
    """Return exams.csv by exam_id, with the Chagas labels if they are there; nothing if there is no such file."""
    path = from_dir / "exams.csv"
    if not path.is_file():
        return {}
    _, rows, _ = read_table(path, required=_COLUMNS, hint=_HINT)
    refuse_repeated((row["exam_id"] for row in rows), where=path)
    exams = {row["exam_id"]: row for row in rows}
    chagas = from_dir / "code15_chagas_labels.csv"
    if chagas.is_file():
        for row in read_table(chagas, required=("exam_id", "chagas"), hint=_HINT)[1]:
            if row["exam_id"] in exams:
                exams[row["exam_id"]]["chagas"] = row["chagas"]
    return exams


def _plan_hdf5(
    from_dir: Path,
    files: list[Path],
    exams: Mapping[str, Mapping[str, str]],
    chosen: Mapping[str, str],
    seed: int,
) -> list[Code15Unit]:
    """Plan in the order of the files, which are read fastest so."""
    if not exams:
        raise RecordError(
            f"{from_dir / 'exams.csv'}: not there, or empty; it tells the patients: fetch it too"
        )
    units = [
        Code15Unit(_entry(exam, exams[exam], {}, seed), path, row, chosen["short"])
        for path in files
        for row, exam in enumerate(_exam_ids(path))
        if exam in exams  # each file ends with a row of zeros, exam 0
    ]
    missing = len(exams) - len({unit.name for unit in units})
    if not units or (missing and chosen["missing"] == "refuse"):
        raise RecordError(
            f"{from_dir}: {missing} of {len(exams)} exams listed in exams.csv are in no exams_part*.hdf5 here; "
            "finish the download, or skip them with missing=skip"
        )
    return units


def _exam_ids(path: Path) -> list[str]:
    with _open_hdf5(path) as file:
        absent = [name for name in ("exam_id", "tracings") if name not in file]
        if absent:
            raise RecordError(f"{path}: has no dataset {', '.join(absent)}; is this a file of CODE-15?")
        ids, shape = np.asarray(file["exam_id"]).ravel(), file["tracings"].shape
    if len(shape) != 3 or shape[0] != len(ids) or shape[2] != len(STANDARD_LEADS):
        raise RecordError(f"{path}: tracings have shape {shape}, expected ({len(ids)}, samples, 12)")
    return [str(int(exam)) for exam in ids]


def _plan_wfdb(
    from_dir: Path, exams: Mapping[str, Mapping[str, str]], chosen: Mapping[str, str], seed: int
) -> list[Code15Unit]:
    units = []
    for header in find_headers(from_dir, what="a folder of CODE-15"):
        exam = header.stem
        if exams and exam not in exams and chosen["missing"] == "refuse":
            raise RecordError(
                f"{header}: exam {exam} is not in exams.csv; skip such records with missing=skip"
            )
        if exam in exams or not exams:
            entry = _entry(exam, exams.get(exam, {}), read_comments(header), seed)
            units.append(Code15Unit(entry, header, None, chosen["short"]))
    return units


def _entry(exam: str, row: Mapping[str, str], comments: Mapping[str, str], seed: int) -> Entry:
    """Make an index row from exams.csv or, where it says nothing, from the header's comments."""
    origin = comments.get("source", "CODE-15%")
    # The two sources number their exams independently.
    record = f"samitrop-{exam}" if origin.lower().startswith("sami") else exam
    patient = row.get("patient_id") or comments.get("patient id") or record
    fold = fold_of_patient(patient, seed=seed)
    told_sex = {1.0: "male", 0.0: "female"}.get(truth(row.get("is_male", "")), sex(comments.get("sex", "")))
    labels: dict[str, float | str] = {
        name: truth(row.get(name, "")) for name in (*CLASSES, "normal_ecg", "death")
    }
    labels |= {
        "chagas": truth(row.get("chagas") or comments.get("chagas label", "")),
        "timey": number(row.get("timey", "")),
        "age": age_years(row.get("age") or comments.get("age", "")),
        "sex": told_sex,
        "origin": origin,
    }
    return Entry(record, patient, "", split_of_fold(fold), fold, labels)


def _attribution(entries: list[Entry]) -> str:
    samitrop = any(entry.record_id.startswith("samitrop-") for entry in entries)
    unknown = any(entry.patient_id == entry.record_id for entry in entries)
    return _ATTRIBUTION + _SAMITROP * samitrop + _NO_PATIENTS * unknown
