"""Several datasets as one: more records to train on, while one of them alone is tuned and tested on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ecgedge.bundle import Envelope
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.schema import to_plain
from ecgedge_train.dataset.index import refuse_other_labels, split_rows
from ecgedge_train.dataset.read import EcgDataset

Exclude = Callable[[EcgDataset, EcgDataset], NDArray[np.bool_]]
"""(part, other) to one bool a record of `other`: True leaves it out because of what `part` holds."""

_PLACE: Final = ("shard", "row")
"""Index columns that mean something inside one dataset only."""
_INSIDE_CINC2021: Final = {
    "ptbxl": re.compile(r"HR0*(\d+)"),
    "ptbdb": re.compile(r"S(\d{4})"),
}
"""Datasets that Challenge 2021 holds too, and how it names their records; PTB-XL's by ecg_id."""


@dataclass(frozen=True)
class UnionInfo:
    """What a union is.

    Attributes
    ----------
    names, sha256s
        Of the datasets, the primary first.
    left_out
        How many records of each were left out since their patients stand, or may stand, in another part.
    sha256
        Over the datasets' hashes and the choice of records.
    labels, classes
        All label columns with their kinds, and all classes.
    records, patients
        Counts of the training split; patients of different datasets count as different.
    """

    names: tuple[str, ...]
    sha256s: tuple[str, ...]
    left_out: tuple[int, ...]
    sha256: str
    simulated: bool
    attribution: str
    labels: Mapping[str, str]
    classes: tuple[str, ...]
    records: int
    patients: int
    envelope: Envelope

    def for_run(self) -> dict[str, Any]:
        """Return data.json, as `DatasetInfo.for_run` does; name and attribution tell all datasets."""
        return {
            "name": "+".join(self.names),
            "sha256": self.sha256,
            "simulated": self.simulated,
            "attribution": self.attribution,
            "records": self.records,
            "patients": self.patients,
            "envelope": to_plain(self.envelope),
            "primary_sha256": self.sha256s[0],
        }


def same_people(part: EcgDataset, other: EcgDataset) -> NDArray[np.bool_]:
    """Say which records of `other` show, or may show, a patient of whom `part` holds a recording.

    Known overlaps are PTB-XL and PTB Diagnostic inside Challenge 2021, whatever split the records are in: a
    held-out patient must not train, and a training patient under a second name would be a false negative.
    Where the patient of a record is not told (Challenge 2021 built without `ptbxl_csv`, and all of its PTB
    records), it is left out as soon as `part` holds any record of the same origin.
    """
    bad = np.zeros(len(other), np.bool_)
    for origin in _INSIDE_CINC2021:
        bad |= _overlap(_people(part, origin), _people(other, origin))
    return bad


class UnionDataset:
    """Datasets behind the interface of one; a `TrainingData`.

    Rows of the primary come first, with their row numbers, then those of the others that are not excluded,
    all in the training split whatever split they had. So tune and test are the primary's alone. Record and
    patient ids are prefixed by the dataset's name and never collide.

    Parameters
    ----------
    primary
        Gives the tune, test and holdout splits.
    others
        Give training records; any order, which decides the row numbers.
    exclude
        Called with each earlier part and the dataset to be added; records that it names are left out.

    Attributes
    ----------
    info, index
        What it is; index columns of all datasets, NaN or "" where a dataset lacks one, and `dataset`.

    Raises
    ------
    RecordError
        If two datasets have the same name, front ends differ, or a column is a number here and text there.
    """

    def __init__(
        self, primary: EcgDataset, others: Sequence[EcgDataset], *, exclude: Exclude = same_people
    ) -> None:
        self._parts = (primary, *others)
        _check_alike(self._parts)
        kept = [np.arange(len(primary), dtype=np.int64)]
        for place, other in enumerate(others, 1):
            bad = np.zeros(len(other), np.bool_)
            for part in self._parts[:place]:
                bad |= exclude(part, other)
            kept.append(np.flatnonzero(~bad))
        self._part = np.repeat(np.arange(len(kept)), [len(rows) for rows in kept])
        self._row = np.concatenate(kept)
        self.index: Mapping[str, NDArray[Any]] = _join_index(self._parts, kept)
        self.info = _describe(self._parts, kept, self.index)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._row)

    def select(self, *, split: str | None = None) -> NDArray[np.int64]:
        """Return the row numbers of a split, or of all records.

        Raises
        ------
        RecordError
            If the split has no records.
        """
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        return split_rows("+".join(self.info.names), self.index["split"], split)

    @property
    def lsb_mv(self) -> float:
        """Millivolts of one stored count; all parts have one front end."""
        return self._parts[0].lsb_mv

    def gather(self, rows: ArrayLike, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the (B, 12, window_samples) windows of `rows`, as `EcgDataset.gather` does."""
        wanted = np.asarray(rows, np.int64)
        out = np.empty((len(wanted), len(STANDARD_LEADS), self._parts[0].info.window_samples), dtype)
        for part, members, local in self._by_part(wanted):
            out[members] = part.gather(local, dtype)
        return out

    def presence(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, 12): 1 where the lead was measured."""
        wanted = np.asarray(rows, np.int64)
        out = np.empty((len(wanted), len(STANDARD_LEADS)), np.float32)
        for part, members, local in self._by_part(wanted):
            out[members] = part.presence(local)
        return out

    def labels(self, names: tuple[str, ...], rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, len(names)) float32 label columns; NaN where unknown or not in that dataset.

        Raises
        ------
        RecordError
            If no dataset has such a number column.
        """
        refuse_other_labels("+".join(self.info.names), self.info.labels, names)
        chosen = np.asarray(rows, np.int64)
        return np.stack([self.index[name][chosen] for name in names], axis=1).astype(np.float32)

    def _by_part(
        self, wanted: NDArray[np.int64]
    ) -> Iterator[tuple[EcgDataset, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield each dataset with the places in `wanted` that are its own, and its row numbers there."""
        part_of, row_of = self._part[wanted], self._row[wanted]
        for number in np.unique(part_of):
            members = np.flatnonzero(part_of == number)
            yield self._parts[number], members, row_of[members]


def _check_alike(parts: Sequence[EcgDataset]) -> None:
    names = [part.info.name for part in parts]
    if len(set(names)) != len(names):
        raise RecordError(
            f"a union of {', '.join(names)}: two datasets have one name, so their patients cannot be told apart; "
            "leave one out, or build it under another name (source 'folder': name=...)"
        )
    first = parts[0].info
    for part in parts[1:]:
        info = part.info
        if (info.front_end, info.window_samples) != (first.front_end, first.window_samples):
            raise RecordError(
                f"{info.name} and {first.name} were built with different front ends or windows; build both again"
            )


def _join_index(parts: Sequence[EcgDataset], kept: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys(name for part in parts for name in part.index if name not in _PLACE)
    index = {name: _join_column(name, parts, kept) for name in names}
    index["dataset"] = _concatenate(
        [np.full(len(k), p.info.name, object) for p, k in zip(parts, kept, strict=True)]
    )
    for name in ("record_id", "patient_id"):
        index[name] = index["dataset"] + ":" + index[name]
    index["split"][len(kept[0]) :] = "train"
    return index


def _join_column(name: str, parts: Sequence[EcgDataset], kept: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return one column of all parts; text is an array of objects, all else keeps its type."""
    text = {part.info.name: part.index[name].dtype == object for part in parts if name in part.index}
    if len(set(text.values())) > 1:
        told = ", ".join(f"{'text' if is_text else 'number'} in {part}" for part, is_text in text.items())
        raise RecordError(f"the column {name!r} is {told}; rename it in one of them")
    blank: Any = "" if True in text.values() else np.float32(np.nan)
    return _concatenate(
        [
            part.index[name][rows] if name in part.index else np.full(len(rows), blank)
            for part, rows in zip(parts, kept, strict=True)
        ]
    )


def _concatenate(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if any(column.dtype == object for column in columns):
        columns = [column.astype(object) for column in columns]
    return np.concatenate(columns)


def _describe(
    parts: Sequence[EcgDataset], kept: Sequence[NDArray[np.int64]], index: Mapping[str, NDArray[Any]]
) -> UnionInfo:
    infos = [part.info for part in parts]
    left_out = tuple(len(part) - len(rows) for part, rows in zip(parts, kept, strict=True))
    digest = hashlib.sha256()
    for info, rows in zip(infos, kept, strict=True):
        digest.update(f"{info.name}:{info.sha256}:{len(rows)}\n".encode() + rows.astype("<i8").tobytes())
    training = index["split"] == "train"
    return UnionInfo(
        names=tuple(info.name for info in infos),
        sha256s=tuple(info.sha256 for info in infos),
        left_out=left_out,
        sha256=digest.hexdigest(),
        simulated=any(info.simulated for info in infos),
        attribution=" | ".join(
            f"{info.name} (SHA-256 {info.sha256}{f', {n} records left out' if n else ''}): {info.attribution}"
            for info, n in zip(infos, left_out, strict=True)
        ),
        labels={name: kind for info in infos for name, kind in info.labels.items()},
        classes=tuple(dict.fromkeys(name for info in infos for name in info.classes)),
        records=int(training.sum()),
        patients=len(set(index["patient_id"][training])),
        envelope=_hull([info.envelope for info in infos]),
    )


def _hull(envelopes: Sequence[Envelope]) -> Envelope:
    """Return the widest range of each lead: what is inside one dataset's range was seen in training."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for each in envelopes:
        for lead, least, most in zip(each.leads, each.sd_low_mv, each.sd_high_mv, strict=True):
            low[lead] = min(least, low.get(lead, least))
            high[lead] = max(most, high.get(lead, most))
    leads = tuple(lead for lead in STANDARD_LEADS if lead in low)
    return Envelope(leads, tuple(low[lead] for lead in leads), tuple(high[lead] for lead in leads))


@dataclass(frozen=True)
class _People:
    """Of each record of a dataset: its id at the origin and its patient there; "" if not of it, or not told."""

    record: NDArray[Any]
    patient: NDArray[Any]

    @property
    def untold(self) -> NDArray[np.bool_]:
        """Records of the origin whose patient is not told."""
        untold: NDArray[np.bool_] = (self.record != "") & (self.patient == "")
        return untold


def _people(data: EcgDataset, origin: str) -> _People:
    nothing = np.full(len(data), "", object)
    records, patients = data.index["record_id"], data.index["patient_id"]
    if data.info.name == origin:
        return _People(records, patients)
    if data.info.name != "cinc2021":
        return _People(nothing, nothing)
    matches = [_INSIDE_CINC2021[origin].fullmatch(record) for record in records]
    known = [m is not None and p != r for m, r, p in zip(matches, records, patients, strict=True)]
    return _People(
        np.array([m[1] if m else "" for m in matches], object), np.where(known, patients, "").astype(object)
    )


def _overlap(part: _People, other: _People) -> NDArray[np.bool_]:
    of_origin: NDArray[np.bool_] = other.record != ""
    if not (of_origin.any() and (part.record != "").any()):
        return np.zeros(len(of_origin), np.bool_)
    # A patient of `part` who is not told is known if `other` tells the patient of the same record.
    told = set(other.record[~other.untold])
    if (part.untold & ~_among(part.record, told)).any():
        return of_origin
    same = of_origin & _among(other.record, set(part.record))
    named = _among(other.patient, set(part.patient) | set(other.patient[same]))
    return of_origin & (same | other.untold | named)


def _among(values: NDArray[Any], wanted: set[Any]) -> NDArray[np.bool_]:
    """Return `np.isin`, which compares arrays of objects pair by pair."""
    return np.fromiter((value in wanted for value in values), np.bool_, len(values))
