"""Read a dataset: whole batches straight from memory-mapped shards."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.dataset.index import (
    INDEX_FILE,
    SPLITS,
    DatasetInfo,
    ShardInfo,
    file_sha256,
    presence_of_masks,
    read_index,
    read_info,
    total_sha256,
)

_WILLNEED: Final = getattr(mmap, "MADV_WILLNEED", None)  # absent outside POSIX; it is an optimisation only
_REBUILD: Final = "the folder was changed after it was built; build the dataset again"


class _Shard:
    """A memory-mapped .npy file of int16 (rows, 12, samples)."""

    def __init__(self, path: Path, info: ShardInfo, window_samples: int) -> None:
        shape = (info.rows, len(STANDARD_LEADS), window_samples)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0(file)
                self._offset = file.tell()
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: the shard cannot be read ({error}); {_REBUILD}") from error
        self._row_bytes = 2 * shape[1] * shape[2]
        size = self._offset + info.rows * self._row_bytes
        if header != (shape, False, np.dtype(np.int16)) or len(self._map) != size:
            raise RecordError(
                f"{path}: is {header} in {len(self._map)} bytes, expected int16 {shape}; {_REBUILD}"
            )
        self.rows: NDArray[np.int16] = np.frombuffer(
            self._map, np.int16, count=shape[0] * shape[1] * shape[2], offset=self._offset
        ).reshape(shape)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Ask the system to read these ascending rows now, all at once, not fault by fault."""
        if _WILLNEED is None or len(rows) == 0:
            return
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        for run in np.split(rows, breaks):
            start = self._offset + int(run[0]) * self._row_bytes
            stop = self._offset + (int(run[-1]) + 1) * self._row_bytes
            start -= start % mmap.PAGESIZE
            self._map.madvise(_WILLNEED, start, stop - start)


@dataclass(frozen=True)
class EcgDataset:
    """A dataset on disk, opened for reading.

    Attributes
    ----------
    directory, info
        Where it is; what dataset.json says.
    index
        Column name to a numpy array with one value a record. Row numbers below are positions in these.
    """

    directory: Path
    info: DatasetInfo
    index: Mapping[str, NDArray[Any]]
    shards: tuple[_Shard, ...]

    def __len__(self) -> int:
        """Return the number of records."""
        return self.info.records

    def select(self, *, split: str | None = None) -> NDArray[np.int64]:
        """Return the row numbers of a split ("train", "tune", "test", "holdout"), or of all records.

        Raises
        ------
        RecordError
            If the split has no records.
        """
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        rows = np.flatnonzero(self.index["split"] == split)
        if len(rows) == 0:
            has = ", ".join(s for s in SPLITS if s in self.info.splits)
            raise RecordError(f"{self.directory}: no records in split {split!r}; it has: {has}")
        return rows

    def gather(self, rows: ArrayLike, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the windows of `rows`, in the order asked for.

        Parameters
        ----------
        rows
            (B,) row numbers; any order, repeats allowed.
        dtype
            float32 gives millivolts, int16 the stored counts.

        Returns
        -------
        (B, 12, window_samples) array
        """
        wanted = np.asarray(rows, np.int64)
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float32), np.dtype(np.int16)):
            raise ValueError(f"gather gives float32 (mV) or int16 (counts), not {kind}")
        out = np.empty((len(wanted), len(STANDARD_LEADS), self.info.window_samples), kind)
        shard_of, row_of = self.index["shard"][wanted], self.index["row"][wanted].astype(np.int64)
        # Ascending order on disk: the read-ahead sees runs, and each page is touched once.
        order = np.lexsort((row_of, shard_of))
        for number in np.unique(shard_of):
            members = order[shard_of[order] == number]
            self.shards[number].prefetch(row_of[members])
            source = self.shards[number].rows
            for place, row in zip(members.tolist(), row_of[members].tolist(), strict=True):
                np.copyto(out[place], source[row])
        if kind == np.float32:
            # Apart from the copy: a multiplication that also converts is half as fast (numpy buffers it).
            np.multiply(out, np.float32(self.info.front_end.lsb_mv), out=out)
        return out

    def presence(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, 12): 1 where the lead was measured."""
        return presence_of_masks(self.index["leads_present"][np.asarray(rows, np.int64)])

    def labels(self, names: tuple[str, ...], rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, len(names)) float32 label columns; NaN where unknown.

        Raises
        ------
        RecordError
            If there is no such number column.
        """
        for name in names:
            if self.info.labels.get(name) != "float":
                has = ", ".join(n for n, kind in self.info.labels.items() if kind == "float")
                raise RecordError(f"{self.directory}: no label {name!r} to learn; it has: {has}")
        chosen = np.asarray(rows, np.int64)
        return np.stack([self.index[name][chosen] for name in names], axis=1).astype(np.float32)


def open_dataset(directory: Path | str, *, verify: bool = False) -> EcgDataset:
    """Open a dataset; with `verify`, check the SHA-256 of every file first.

    Raises
    ------
    RecordError
        If the folder is no finished dataset, or was changed.
    """
    path = Path(directory)
    info = read_info(path)
    if verify:
        _verify(path, info)
    index = read_index(path / INDEX_FILE)
    if any(len(column) != info.records for column in index.values()):
        raise RecordError(f"{path / INDEX_FILE}: does not hold {info.records} records; {_REBUILD}")
    shards = tuple(_Shard(path / shard.file, shard, info.window_samples) for shard in info.shards)
    return EcgDataset(path, info, index, shards)


def _verify(path: Path, info: DatasetInfo) -> None:
    expected = {shard.file: shard.sha256 for shard in info.shards} | {INDEX_FILE: info.index_sha256}
    for file, sha256 in expected.items():
        if not (path / file).is_file() or file_sha256(path / file) != sha256:
            raise RecordError(
                f"{path / file}: is missing or its SHA-256 differs from dataset.json; {_REBUILD}"
            )
    if total_sha256(info.shards, info.index_sha256) != info.sha256:
        raise RecordError(f"{path}: the SHA-256 in dataset.json does not follow from its files; {_REBUILD}")
