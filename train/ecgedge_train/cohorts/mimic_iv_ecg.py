"""MIMIC-IV-ECG (PhysioNet): 800,000 twelve-lead ECGs of 160,000 patients, with wedge pressures of MIMIC-IV.

Gow et al., "MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset" 1.0 (2023), open: record_list.csv with
subject_id, study_id, file_name, ecg_time, path; WFDB, 500 Hz, 10 s, format 16. The pressures stand in
`icu/chartevents.csv.gz` of MIMIC-IV (credentialed): over 300 million rows, so it is streamed in blocks of which
only the few wanted rows are kept. Items: mimic-code's table of concepts.

An ECG and a value belong together if they are of one subject and near in time; both clocks of MIMIC-IV are
shifted by the same days for a subject, so their distance is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.pressure import PLAUSIBLE
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.wfdb16 import read_record

ITEMS: Final[Mapping[str, tuple[int, ...]]] = {
    "mpcwp_mmhg": (223771,),
    "mpap_mmhg": (220061,),
    "co_l_min": (220088, 224842),
}
"""Label to item ids of chartevents: PCWP, mean PA pressure, cardiac output (thermodilution, continuous)."""
PA_SYSTOLIC: Final = 220059
PA_DIASTOLIC: Final = 220060
_LABELS: Final[Mapping[str, LabelKind]] = {**dict.fromkeys(ITEMS, "float"), "hours_apart": "float"}
_DEFAULTS: Final = {"window_h": "24", "labelled": "0", "limit": "", "chartevents": "", "seed": "0"}
_CHARTEVENTS: Final = ("chartevents.csv.gz", "chartevents.csv")
_FOLDERS: Final = ("", "icu", "hosp/icu", "mimiciv/icu")
_LIST: Final = {
    "subject_id": pa.int64(),
    "study_id": pa.int64(),
    "ecg_time": pa.timestamp("s"),
    "path": pa.string(),
}
_EVENT: Final = {
    "subject_id": pa.int64(),
    "charttime": pa.timestamp("s"),
    "itemid": pa.int64(),
    "valuenum": pa.float64(),
}
_SUBJECT_S: Final = 2**34
"""Seconds from one subject to the next on the joined axis: 544 years, so that no window reaches across."""
_NEVER: Final = pa.scalar(0, pa.timestamp("s"))
"""Stands for an ECG without a time: 1970 is a century before every shifted date."""
_ATTRIBUTION: Final = (
    "MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset, B. Gow et al., PhysioNet; Open Database License "
    "v1.0. Pressures: MIMIC-IV, A. Johnson et al., PhysioNet Credentialed Health Data License"
)


@dataclass(frozen=True)
class MimicUnit:
    """One record, kept small because there are 800,000: `values` in the order of the labels."""

    study_id: str
    patient_id: str
    time: str
    header: str
    seed: int
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.study_id


@dataclass(frozen=True, eq=False)
class Events:
    """Measurements of one kind, sorted by subject and time.

    Attributes
    ----------
    key
        (n,) int64: subject_id * 2**34 + seconds since 1970.
    value
        (n,) float64.
    """

    key: NDArray[np.int64]
    value: NDArray[np.float64]


def open_mimic(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan MIMIC-IV-ECG from its folder (record_list.csv, files/), with pressures if chartevents is there.

    Options
    -------
    chartevents
        The file of MIMIC-IV, gzipped or not, whole or cut down to the wanted items; by default
        chartevents.csv.gz or .csv in the folder itself, in icu/ or in hosp/icu/. Without it every label is NaN.
    window_h
        A value counts if it was charted at most so many hours before or after the ECG; the nearest is taken.
        24 by default (chosen: the day of the ECG, as when a catheter report is paired with that day's ECG).
        `hours_apart` is the wedge pressure's charting time minus the ECG's, for a stricter choice later.
    labelled
        1 keeps only records with a wedge pressure.
    limit
        Only the first N records of record_list.csv.
    seed
        Of the split, which is a hash of the subject_id; see `cohorts.split`.

    Values outside of `pressure.PLAUSIBLE` are dropped and counted in the dataset's options
    (`values_dropped`). A mean PA pressure that was not charted follows from systolic and diastolic of the same
    minute, (S + 2 D) / 3.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If the folder is not MIMIC-IV-ECG, or a table is damaged.
    """
    chosen = take_options("mimic-iv-ecg", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    window_h = whole_number("window_h", chosen["window_h"])
    if chosen["labelled"] not in ("0", "1"):
        raise UsageError(f"mimic-iv-ecg: labelled is 0 or 1; seen: {chosen['labelled']!r}")
    if from_dir is None:
        raise UsageError("source 'mimic-iv-ecg' needs a folder: --from DIR with record_list.csv in it")
    table = _read_list(from_dir / "record_list.csv")
    if chosen["limit"]:
        table = table.slice(0, whole_number("limit", chosen["limit"]))
    labels, dropped = _join(table, _find_chartevents(from_dir, chosen["chartevents"]), window_h)
    if chosen["labelled"] == "1":
        keep = ~np.isnan(labels[:, 0])
        table, labels = table.filter(pa.array(keep)), labels[keep]
    if not len(labels):
        raise RecordError(
            f"{from_dir}: no record has a wedge pressure within window_h={window_h}; name the file with "
            "chartevents=PATH, widen the window, or take unlabelled records too with labelled=0"
        )
    # The path of a private file goes into no dataset; what came out of it does, as a hash.
    found = {"chartevents": "", "values_dropped": str(dropped), "records_sha256": _digest(table, labels)}
    return Cohort(
        name="mimic-iv-ecg",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=(),
        identity={**chosen, **found},
        units=_units(table, labels, from_dir, seed),
        rows_per_unit=1,
        load=load_record,
    )


def load_record(unit: MimicUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read one record."""
    fold = fold_of_patient(unit.patient_id, seed=unit.seed)
    labels: dict[str, float | str] = dict(zip(_LABELS, unit.values, strict=True))
    entry = Entry(unit.study_id, unit.patient_id, unit.time, split_of_fold(fold), fold, labels)
    yield entry, read_record(Path(unit.header))


def read_events(path: Path, *, subjects: NDArray[np.int64]) -> tuple[dict[str, Events], int]:
    """Stream chartevents and keep the wanted items of the wanted subjects.

    Parameters
    ----------
    path
        chartevents.csv or chartevents.csv.gz.
    subjects
        (n,) int64 subject ids.

    Returns
    -------
    dict
        Events by label.
    int
        How many values were dropped because no heart has them.

    Raises
    ------
    RecordError
        If the file cannot be read as chartevents.
    """
    wanted = pa.array(
        [*(i for items in ITEMS.values() for i in items), PA_SYSTOLIC, PA_DIASTOLIC], pa.int64()
    )
    known = pa.array(np.unique(subjects))
    kept: list[Any] = []
    for batch in _blocks(path):
        # The items first: a few in a thousand rows are left for the costlier question of the subject.
        rows = batch.filter(pc.is_in(batch["itemid"], value_set=wanted))
        rows = rows.filter(
            pc.and_(pc.is_valid(rows["valuenum"]), pc.is_in(rows["subject_id"], value_set=known))
        )
        if rows.num_rows:
            kept.append(rows)
    table = pa.Table.from_batches(kept, schema=pa.schema(_EVENT))
    key = _key(table["subject_id"], table["charttime"])
    item, value = table["itemid"].to_numpy(), table["valuenum"].to_numpy()
    events, dropped = {}, 0
    for name, items in ITEMS.items():
        chosen = np.isin(item, items)
        keys, values = key[chosen], value[chosen]
        if name == "mpap_mmhg":
            keys, values = _with_derived_means(keys, values, key, item, value)
        low, high = PLAUSIBLE[name]
        fine = (values >= low) & (values <= high)
        dropped += int((~fine).sum())
        order = np.argsort(keys[fine], kind="stable")
        events[name] = Events(keys[fine][order], values[fine][order])
    return events, dropped


def nearest(events: Events, key: NDArray[np.int64], *, window_s: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return for each key the value nearest in time and its time minus the key's in seconds; NaN beyond.

    Of two that are equally far the earlier is taken.
    """
    value, apart = np.full(len(key), np.nan), np.full(len(key), np.nan)
    if not len(events.key):
        return value, apart
    after = np.searchsorted(events.key, key)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(events.key) - 1)
    gap_before, gap_after = events.key[before] - key, events.key[after] - key
    earlier = np.abs(gap_before) <= np.abs(gap_after)
    gap = np.where(earlier, gap_before, gap_after)
    near = np.abs(gap) <= window_s
    value[near] = events.value[np.where(earlier, before, after)][near]
    apart[near] = gap[near]
    return value, apart


def _join(table: Any, chartevents: Path | None, window_h: int) -> tuple[NDArray[np.float64], int]:
    """Return (n, labels) float64 and the number of values dropped."""
    labels = np.full((table.num_rows, len(_LABELS)), np.nan)
    if chartevents is None:
        return labels, 0
    events, dropped = read_events(chartevents, subjects=table["subject_id"].to_numpy())
    key = _key(table["subject_id"], pc.fill_null(table["ecg_time"], _NEVER))
    for column, name in enumerate(ITEMS):
        labels[:, column], apart_s = nearest(events[name], key, window_s=window_h * 3600.0)
        if name == "mpcwp_mmhg":
            labels[:, -1] = apart_s / 3600.0
    return labels, dropped


def _with_derived_means(
    keys: NDArray[np.int64],
    values: NDArray[np.float64],
    key: NDArray[np.int64],
    item: NDArray[np.int64],
    value: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Add (S + 2 D) / 3 at the times that have systolic and diastolic but no mean."""
    systolic_at, s_first = np.unique(key[item == PA_SYSTOLIC], return_index=True)
    diastolic_at, d_first = np.unique(key[item == PA_DIASTOLIC], return_index=True)
    both, s, d = np.intersect1d(systolic_at, diastolic_at, assume_unique=True, return_indices=True)
    systolic = value[item == PA_SYSTOLIC][s_first][s]
    diastolic = value[item == PA_DIASTOLIC][d_first][d]
    new = ~np.isin(both, keys) & (systolic >= diastolic)
    mean = (systolic + 2.0 * diastolic) / 3.0
    return np.concatenate([keys, both[new]]), np.concatenate([values, mean[new]])


def _read_list(path: Path) -> Any:
    try:
        return csv.read_csv(
            path,
            convert_options=csv.ConvertOptions(include_columns=list(_LIST), column_types=_LIST),
        )
    except (OSError, pa.ArrowException) as error:
        raise RecordError(
            f"{path}: cannot be read ({error}); --from must name the folder of MIMIC-IV-ECG 1.0 that holds "
            f"record_list.csv (columns {', '.join(_LIST)}) and files/"
        ) from error


def _find_chartevents(from_dir: Path, option: str) -> Path | None:
    if option:
        path = Path(option)
        if not path.is_file():
            raise UsageError(f"chartevents={option}: no such file; name icu/chartevents.csv.gz of MIMIC-IV")
        return path
    candidates = (from_dir / folder / name for folder in _FOLDERS for name in _CHARTEVENTS)
    return next((path for path in candidates if path.is_file()), None)


def _blocks(path: Path) -> Iterator[Any]:
    """Read the file in blocks of some megabytes: memory stays the same for any length."""
    try:
        with (
            pa.input_stream(str(path), compression="detect") as stream,
            csv.open_csv(
                stream,
                read_options=csv.ReadOptions(block_size=1 << 24),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(include_columns=list(_EVENT), column_types=_EVENT),
            ) as reader,
        ):
            yield from reader
    except (OSError, pa.ArrowException) as error:
        raise RecordError(
            f"{path}: cannot be read as MIMIC-IV's chartevents ({error}); it needs the columns "
            f"{', '.join(_EVENT)}: fetch the file again"
        ) from error


def _key(subject_id: Any, time: Any) -> NDArray[np.int64]:
    seconds = time.to_numpy().astype("datetime64[s]").astype(np.int64)
    key: NDArray[np.int64] = subject_id.to_numpy().astype(np.int64) * _SUBJECT_S + seconds
    return key


def _digest(table: Any, labels: NDArray[np.float64]) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(labels, "<f8").tobytes())
    digest.update(np.ascontiguousarray(table["study_id"].to_numpy(), "<i8").tobytes())
    return digest.hexdigest()


def _units(table: Any, labels: NDArray[np.float64], from_dir: Path, seed: int) -> tuple[MimicUnit, ...]:
    columns = (
        table["study_id"].to_pylist(),
        table["subject_id"].to_pylist(),
        pc.strftime(table["ecg_time"], "%Y-%m-%d %H:%M:%S").to_pylist(),
        table["path"].to_pylist(),
        labels.tolist(),
    )
    return tuple(
        MimicUnit(str(study), str(subject), time or "", str(from_dir / f"{path}.hea"), seed, tuple(values))
        for study, subject, time, path, values in zip(*columns, strict=True)
    )
