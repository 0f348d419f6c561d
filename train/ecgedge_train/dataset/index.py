"""The index: one Parquet row a recording, and dataset.json that tells what the whole is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ecgedge.bundle import Envelope, FrontEndSpec
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.schema import SchemaError, from_plain, to_plain

FORMAT_VERSION: Final = 1
WINDOW_SAMPLES: Final = 2500
INDEX_FILE: Final = "index.parquet"
INFO_FILE: Final = "dataset.json"
SPLITS: Final = ("train", "tune", "test", "holdout")


@dataclass(frozen=True)
class ShardInfo:
    """One shard file."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class SplitCount:
    """How much a split holds."""

    records: int
    patients: int


@dataclass(frozen=True)
class Refused:
    """A record that could not be taken into the dataset, and why."""

    record_id: str
    reason: str


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset is (dataset.json).

    `labels` are all label columns of the index, `classes` those that are 0/1 classes. `sha256` covers the
    shards and the index. `envelope` is taken over the training split.
    """

    format_version: int
    name: str
    simulated: bool
    attribution: str
    build_sha256: str
    options: Mapping[str, str]
    front_end: FrontEndSpec
    window_samples: int
    labels: Mapping[str, str]
    classes: tuple[str, ...]
    records: int
    patients: int
    splits: Mapping[str, SplitCount]
    envelope: Envelope
    shards: tuple[ShardInfo, ...]
    index_sha256: str
    sha256: str
    refused: tuple[Refused, ...] = field(default=())

    def for_run(self) -> dict[str, Any]:
        """Return what a run directory keeps of its training data (data.json); it counts the training split."""
        train = self.splits.get("train", SplitCount(0, 0))
        return {
            "name": self.name,
            "sha256": self.sha256,
            "simulated": self.simulated,
            "attribution": self.attribution,
            "records": train.records,
            "patients": train.patients,
            "envelope": to_plain(self.envelope),
        }


def write_index(path: Path, rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> None:
    """Write the index; text columns are strings, label columns float32 or string."""
    types: dict[str, pa.DataType] = {
        **dict.fromkeys(("record_id", "patient_id", "time", "split"), pa.string()),
        "leads_present": pa.uint16(),
        "rate_hz": pa.float32(),
        **dict.fromkeys(("fold", "shard", "row"), pa.int32()),
        **{name: pa.float32() if kind == "float" else pa.string() for name, kind in labels.items()},
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_index(path: Path) -> dict[str, NDArray[Any]]:
    """Read the index as one numpy array a column (text columns as object arrays of str).

    Raises
    ------
    RecordError
        If it is missing or damaged.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RecordError(f"{path}: the index cannot be read ({error}); build the dataset again") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def read_info(directory: Path) -> DatasetInfo:
    """Read dataset.json.

    Raises
    ------
    RecordError
        If the folder is no finished dataset, or one of another format version.
    """
    path = directory / INFO_FILE
    if not path.is_file():
        unfinished = (directory / "build.json").is_file()
        hint = (
            "its build did not finish: run the same `ecgedge data build` again, it continues"
            if unfinished
            else ("make one with `ecgedge data build SOURCE --out DIR`")
        )
        raise RecordError(f"{directory}: no finished dataset here ({INFO_FILE} is missing); {hint}")
    try:
        plain = json.loads(path.read_text("utf-8"))
        if plain.get("format_version") != FORMAT_VERSION:
            raise RecordError(
                f"{path}: format version {plain.get('format_version')!r}, this ecgedge reads {FORMAT_VERSION}; "
                "build the dataset again"
            )
        return from_plain(DatasetInfo, plain)
    except (json.JSONDecodeError, AttributeError, SchemaError) as error:
        raise RecordError(f"{path}: damaged ({error}); build the dataset again") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def total_sha256(shards: Sequence[ShardInfo], index_sha256: str) -> str:
    """Return the hash over all content: the shards' hashes in order, then the index's."""
    return hashlib.sha256("\n".join([*(s.sha256 for s in shards), index_sha256]).encode()).hexdigest()


def lead_mask(leads: Sequence[str]) -> int:
    """Return the bitmask of measured leads; bit 0 is lead I, bit 11 is V6."""
    return sum(1 << STANDARD_LEADS.index(lead) for lead in leads)


def presence_of_masks(masks: NDArray[Any]) -> NDArray[np.float32]:
    """Return (n, 12) float32 with 1 where the lead of the bitmask was measured."""
    bits = np.asarray(masks, np.uint16)[:, None] >> np.arange(len(STANDARD_LEADS), dtype=np.uint16)
    return (bits & 1).astype(np.float32)


def count_splits(rows: Sequence[Mapping[str, Any]]) -> dict[str, SplitCount]:
    """Count records and patients per split, and refuse a patient that stands in two.

    Raises
    ------
    RecordError
        If a patient is in two splits: results on such data would be worthless.
    """
    split_of: dict[str, str] = {}
    for row in rows:
        first = split_of.setdefault(row["patient_id"], row["split"])
        if first != row["split"]:
            raise RecordError(
                f"patient {row['patient_id']} would be in both '{first}' and '{row['split']}'; "
                "the source's table gives one patient two folds"
            )
    counts = {}
    for split in SPLITS:
        records = sum(row["split"] == split for row in rows)
        if records:
            counts[split] = SplitCount(records, sum(s == split for s in split_of.values()))
    return counts


def split_rows(where: Path | str, splits: NDArray[Any], wanted: str) -> NDArray[np.int64]:
    """Return the rows of a split.

    Raises
    ------
    RecordError
        If it has none.
    """
    rows = np.flatnonzero(splits == wanted)
    if len(rows) == 0:
        has = ", ".join(s for s in SPLITS if (splits == s).any())
        raise RecordError(
            f"{where}: no records in split {wanted!r}; it has: {has} (patients are split by a hash of their id, "
            "which may leave a split of a small dataset empty; add patients, or a column `split` to the table)"
        )
    return rows


def refuse_other_labels(where: Path | str, kinds: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse names that are no labels, or labels that are no numbers.

    Raises
    ------
    RecordError
        If there is one.
    """
    has = ", ".join(n for n, kind in kinds.items() if kind == "float")
    for name in names:
        if kinds.get(name) == "text":
            raise RecordError(
                f"{where}: the label {name!r} is text, and only numbers can be learnt (in a table of your own every "
                f"cell of the column must be a number or empty); it has: {has}"
            )
        if name not in kinds:
            raise RecordError(f"{where}: no label {name!r} to learn; it has: {has}")
