"""Read a dataset: whole batches straight from the shards, by way of the page cache.

A batch that is in memory is copied out of a memory map. One that is not is first asked for as a whole, so that the
disk has a deep queue, and then read record by record as it comes: that keeps pace with the random-read limit of a
disk, where a memory map alone gets a tenth of it (a fault reads a little, and waits). Which of the two it is, a few
one-byte reads tell that refuse to wait (RWF_NOWAIT); asking for every record would cost a third of a warm copy.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.dataset.index import (
    INDEX_FILE,
    DatasetInfo,
    ShardInfo,
    file_sha256,
    presence_of_masks,
    read_index,
    read_info,
    refuse_other_labels,
    split_rows,
    total_sha256,
)

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)  # Linux only
_REBUILD: Final = "the folder was changed after it was built; build the dataset again"
_SPARE_FILES: Final = 256
"""Open files that are left to the rest of the process."""
_PROBES: Final = 4
"""Records that are looked at to tell whether a batch is in memory."""


class Shard:
    """An open .npy file of int16 (rows, 12, samples)."""

    def __init__(self, path: Path, info: ShardInfo, window_samples: int) -> None:
        shape = (info.rows, len(STANDARD_LEADS), window_samples)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0(file)
                self._offset = file.tell()
                self._map = _map(file.fileno())
                self._fd = os.dup(file.fileno())
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: the shard cannot be read ({error}); {_REBUILD}") from error
        weakref.finalize(self, os.close, self._fd)
        self.path = path
        self.row_bytes = 2 * shape[1] * shape[2]
        self._lock = threading.Lock()
        n_bytes = os.fstat(self._fd).st_size
        expected = self._offset + info.rows * self.row_bytes
        if header != (shape, False, np.dtype(np.int16)) or n_bytes != expected:
            raise RecordError(f"{path}: is {header} in {n_bytes} bytes, expected int16 {shape}; {_REBUILD}")
        self.rows: NDArray[np.int16] = np.frombuffer(
            self._map, np.int16, count=shape[0] * shape[1] * shape[2], offset=self._offset
        ).reshape(shape)
        if hasattr(os, "posix_fadvise"):
            # Read what is asked for and no more: the neighbours of a shuffled record are not wanted soon.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def will_need(self, first: int, stop: int) -> None:
        """Ask the system to read rows first..stop-1 now; this does not wait."""
        if hasattr(os, "posix_fadvise"):
            start, length = self._offset + first * self.row_bytes, (stop - first) * self.row_bytes
            os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_WILLNEED)

    def in_memory(self, row: int) -> bool:
        """Tell whether the middle of a row is in memory; False also where the system does not say."""
        if not _NOWAIT:
            return False
        # The middle: the first and last pages of a row are its neighbours' too.
        middle = self._offset + row * self.row_bytes + self.row_bytes // 2
        try:
            return os.preadv(self._fd, [bytearray(1)], middle, _NOWAIT) == 1
        except OSError:  # EAGAIN: not in memory; otherwise the read that follows meets the error again
            return False

    def read(self, row: int, into: memoryview) -> None:
        """Copy a row, waiting for the disk.

        Raises
        ------
        RecordError
            If the file was cut after it was opened, or the disk fails.
        """
        start, done = self._offset + row * self.row_bytes, 0
        while done < self.row_bytes:
            try:
                got = self._read_some(start + done, into[done:])
            except OSError as error:
                raise RecordError(f"{self.path}: row {row} cannot be read ({error})") from error
            if got == 0:
                raise RecordError(f"{self.path}: ends inside row {row}; {_REBUILD}")
            done += got

    def _read_some(self, position: int, into: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [into], position)
        with self._lock:  # Windows: place and reading are two calls
            os.lseek(self._fd, position, os.SEEK_SET)
            block = os.read(self._fd, len(into))
        into[: len(block)] = block
        return len(block)


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
    shards: tuple[Shard, ...]

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
        return split_rows(self.directory, self.index["split"], split)

    @property
    def lsb_mv(self) -> float:
        """Millivolts of one stored count."""
        return self.info.front_end.lsb_mv

    def gather(
        self, rows: ArrayLike, dtype: DTypeLike = np.float32, *, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return the windows of `rows`, in the order asked for. Threads may call this at the same time.

        Parameters
        ----------
        rows
            (B,) row numbers; any order, repeats allowed.
        dtype
            float32 gives millivolts, int16 the stored counts. For a GPU take the counts and scale them there:
            half the bytes to copy.
        out
            C-contiguous (B, 12, window_samples) array of `dtype` to fill and return; the numpy view of a pinned
            tensor, say.

        Returns
        -------
        (B, 12, window_samples) array

        Raises
        ------
        RecordError
            If a shard cannot be read.
        """
        wanted = np.asarray(rows, np.int64)
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float32), np.dtype(np.int16)):
            raise ValueError(f"gather gives float32 (mV) or int16 (counts), not {kind}")
        shape = (len(wanted), len(STANDARD_LEADS), self.info.window_samples)
        if out is None:
            out = np.empty(shape, kind)
        elif out.shape != shape or out.dtype != kind or not out.flags.c_contiguous:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, expected {kind} {shape}, its elements side by side"
            )
        self._fill(wanted, out)
        return out

    def prefetch(self, rows: ArrayLike) -> None:
        """Ask the system to read the windows of `rows` into memory; this does not wait for the disk.

        A loader calls it for the batches after the next, so that a cold disk works while a model trains.
        """
        shard_of, row_of, _ = self._on_disk(np.asarray(rows, np.int64))
        # Rows that follow one another make one request.
        breaks = np.flatnonzero((np.diff(shard_of) != 0) | (np.diff(row_of) > 1)) + 1
        firsts, lasts = np.append(0, breaks), np.append(breaks - 1, len(row_of) - 1)
        if len(row_of):
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                self.shards[shard_of[first]].will_need(int(row_of[first]), int(row_of[last]) + 1)

    def _on_disk(self, wanted: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Return the shard, the row in it and the place in `wanted` of every window, ascending on disk."""
        shard_of, row_of = self.index["shard"][wanted], self.index["row"][wanted]
        order = np.lexsort((row_of, shard_of))
        return shard_of[order], row_of[order], order

    def _fill(self, wanted: NDArray[np.int64], out: NDArray[Any]) -> None:
        shard_of, row_of, places = (x.tolist() for x in self._on_disk(wanted))
        found = list(zip(shard_of, row_of, places, strict=True))
        probed = found[:: max(1, -(-len(found) // _PROBES))]
        copy = np.copyto if out.dtype == np.int16 else partial(_copy_mv, lsb_mv=np.float32(self.lsb_mv))
        if all(self.shards[shard].in_memory(row) for shard, row, _ in probed):
            for shard, row, place in found:
                copy(out[place], self.shards[shard].rows[row])
            return
        self.prefetch(wanted)
        counts = np.empty(out.shape[1:], np.int16)
        for shard, row, place in found:
            self.shards[shard].read(row, counts.data.cast("B"))
            copy(out[place], counts)

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
        refuse_other_labels(self.directory, self.info.labels, names)
        chosen = np.asarray(rows, np.int64)
        return np.stack([self.index[name][chosen] for name in names], axis=1).astype(np.float32)


def open_dataset(directory: Path | str, *, verify: bool = False) -> EcgDataset:
    """Open a dataset; with `verify`, check the SHA-256 of every file first.

    Raises
    ------
    RecordError
        If the folder is no finished dataset, was changed, or has more shards than files may be open.
    """
    path = Path(directory)
    info = read_info(path)
    if verify:
        _verify(path, info)
    index = read_index(path / INDEX_FILE)
    if any(len(column) != info.records for column in index.values()):
        raise RecordError(f"{path / INDEX_FILE}: does not hold {info.records} records; {_REBUILD}")
    _allow_open_files(len(info.shards), path)
    shards = tuple(Shard(path / shard.file, shard, info.window_samples) for shard in info.shards)
    return EcgDataset(path, info, index, shards)


def _copy_mv(out: NDArray[np.float32], counts: NDArray[np.int16], *, lsb_mv: np.float32) -> None:
    np.copyto(out, counts)
    # Apart from the copy: a multiplication that also converts is half as fast (numpy buffers it). A window fits into
    # the cache of a core, so going over it twice costs little.
    np.multiply(out, lsb_mv, out=out)


def _verify(path: Path, info: DatasetInfo) -> None:
    expected = {shard.file: shard.sha256 for shard in info.shards} | {INDEX_FILE: info.index_sha256}
    for file, sha256 in expected.items():
        if not (path / file).is_file() or file_sha256(path / file) != sha256:
            raise RecordError(
                f"{path / file}: is missing or its SHA-256 differs from dataset.json; {_REBUILD}"
            )
    if total_sha256(info.shards, info.index_sha256) != info.sha256:
        raise RecordError(f"{path}: the SHA-256 in dataset.json does not follow from its files; {_REBUILD}")


def _map(fd: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # before, a map keeps a file descriptor of its own
        return mmap.mmap(fd, 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)


def _allow_open_files(n_shards: int, path: Path) -> None:
    """Raise this process's limit of open files if need be: many systems start at 1,024."""
    try:
        import resource  # noqa: PLC0415 - POSIX only
    except ImportError:
        return
    needed = n_shards * (1 if sys.version_info >= (3, 13) else 2) + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise RecordError(
                f"{path}: has {n_shards} shards, and this process may open {hard} files; raise the hard limit "
                "(`ulimit -Hn`), or build the dataset with a larger shard_rows"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
