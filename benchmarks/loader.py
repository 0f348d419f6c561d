"""How fast batches come out of the shards, from memory and from disk, against the limits and against files.

Run: OMP_NUM_THREADS=1 python benchmarks/loader.py [--records 20000] [--scratch DIR] [--out FILE]
     add --data PTBXL_DATASET --from PTBXL_FOLDER to measure a real dataset and its WFDB files too.

Shuffled batches of 64 windows of 12 x 2500, one process. The readers take turns; read the ratios.

Warm (page cache): `ram` is `X[rows]` on a numpy array in memory, the limit (`out`: into a buffer); `gather` is what
training does, as int16 counts or float32 mV; `memmap` is one fancy index a shard on a memory map; `npy` has one .npy
file a record, and `npy, collate` is the usual torch Dataset over them (scale each, then default_collate); `wfdb` one
WFDB record each (format 16, 250 Hz, wfdb.rdrecord: no filter, no resampling, reading alone).

Cold (page cache dropped before every turn): `disk N` reads 15 whole pages a window at random places with O_DIRECT
from N threads, and the fastest N is the limit; `gather` is alone, `gather, prefetch` has a thread that asks four
batches ahead.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import common
import numpy as np
import torch
import typer
import wfdb
from torch.utils.data import default_collate

from ecgedge_train.dataset import batches, open_dataset
from ecgedge_train.dataset.read import EcgDataset, Shard

BATCH = 64
DIRECT_BYTES = 15 * 4096
AHEAD = 4
DISK_THREADS = (4, 8, 16, 32)
NPY_FILES, WFDB_FILES = 4000, 256
Reader = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Files:
    """One file a record: the first NPY_FILES and WFDB_FILES records of the dataset."""

    npy: list[Path]
    wfdb: list[str]


def write_files(data: EcgDataset, folder: Path) -> Files:
    """Write some records as .npy and as WFDB files, flushed to disk."""
    npy, names = [], []
    windows = reopened(data).gather(np.arange(min(NPY_FILES, len(data))), np.int16)
    for i, window in enumerate(windows):
        npy.append(folder / f"{i}.npy")
        with npy[-1].open("wb") as file:
            np.save(file, window)
            file.flush()
            os.fsync(file.fileno())
    for i, window in enumerate(windows[:WFDB_FILES]):
        stem = folder / f"w{i}"
        window.T.astype("<i2").tofile(stem.with_suffix(".dat"))
        leads = "".join(f"w{i}.dat 16 4096(0)/mV 16 0 0 0 0 L{k}\n" for k in range(12))
        stem.with_suffix(".hea").write_text(f"w{i} 12 250 {window.shape[1]}\n{leads}", "utf-8")
        names.append(str(stem))
    return Files(npy, names)


def warm_readers(data: EcgDataset, files: Files) -> dict[str, Reader]:
    """Return every reader by name; each takes (B,) rows."""
    memory = data.gather(data.select(), np.int16)
    maps = [np.load(data.directory / s.file, mmap_mode="r") for s in data.info.shards]
    shard, row = data.index["shard"], data.index["row"]
    lsb = np.float32(data.info.front_end.lsb_mv)
    counts = np.empty((BATCH, *memory.shape[1:]), np.int16)

    def memmap(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *memory.shape[1:]), np.int16)
        for number in np.unique(shard[rows]):
            here = shard[rows] == number
            out[here] = maps[number][row[rows[here]]]
        return out

    return {
        "ram int16": lambda rows: memory[rows],
        "ram int16, out": lambda rows: np.take(memory, rows, axis=0, out=counts, mode="clip"),
        "gather int16": lambda rows: data.gather(rows, np.int16),
        "gather int16, out": lambda rows: data.gather(rows, np.int16, out=counts),
        "memmap int16": memmap,
        "npy int16": lambda rows: np.stack([np.load(files.npy[r % len(files.npy)]) for r in rows]),
        "ram float32": lambda rows: np.multiply(scratch := memory[rows].astype(np.float32), lsb, out=scratch),
        "gather float32": data.gather,
        "npy float32, collate": lambda rows: default_collate(
            [torch.from_numpy(np.load(files.npy[r % len(files.npy)]) * lsb) for r in rows]
        ),
        "wfdb float32": lambda rows: np.stack(
            [wfdb.rdrecord(files.wfdb[r % len(files.wfdb)]).p_signal.T.astype(np.float32) for r in rows]
        ),
    }


def speed(data: EcgDataset, read: Reader, *, n_batches: int, rng: np.random.Generator) -> float:
    """Return windows per second over shuffled batches."""
    order = batches(len(data), BATCH, seed=1, epoch=int(rng.integers(1 << 30)), drop_last=True)[:n_batches]

    def run() -> None:
        for rows in order:
            read(rows)

    return BATCH * len(order) / common.seconds(run)


def reopened(data: EcgDataset) -> EcgDataset:
    """Return the dataset with its shards opened anew."""
    shards = (Shard(data.directory / s.file, s, data.info.window_samples) for s in data.info.shards)
    return replace(data, shards=tuple(shards))


def warm(data: EcgDataset, files: Files, *, rounds: int) -> dict[str, list[float]]:
    """Windows per second of every reader from the page cache."""
    rng = np.random.default_rng(0)
    # Pages that were read, as in training; those just written lie in larger blocks, which are faster to copy.
    drop([data.directory / s.file for s in data.info.shards])
    for first in range(0, len(data), BATCH):
        data.gather(np.arange(first, min(first + BATCH, len(data))), np.int16)
    readers = warm_readers(data, files)
    probe = np.random.default_rng(1).integers(0, min(len(data), WFDB_FILES), BATCH)
    for name in ("gather int16", "gather int16, out", "memmap int16", "npy int16"):
        np.testing.assert_array_equal(readers[name](probe), readers["ram int16"](probe))
    np.testing.assert_array_equal(readers["gather float32"](probe), readers["ram float32"](probe))
    n_batches = {"wfdb float32": 1, "npy int16": 8, "npy float32, collate": 8}
    cases = {
        name: partial(speed, data, read, n_batches=n_batches.get(name, 40), rng=rng)
        for name, read in readers.items()
    }
    return common.take_turns(cases, rounds=rounds)


def drop(paths: list[Path]) -> None:
    """Throw files out of the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def direct(paths: list[Path], n: int, rng: np.random.Generator, *, threads: int) -> float:
    """Return windows per second of O_DIRECT reads at random places."""
    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    pages = [max(1, (path.stat().st_size - DIRECT_BYTES) // 4096) for path in paths]
    which = rng.integers(0, len(files), n)
    page = (rng.random(n) * np.array(pages)[which]).astype(np.int64)

    def work(part: np.ndarray) -> None:
        buffer = mmap.mmap(-1, DIRECT_BYTES)  # O_DIRECT wants a page-aligned one
        for i in part.tolist():
            os.preadv(files[which[i]], [buffer], int(page[i]) * 4096)

    try:
        with ThreadPoolExecutor(threads) as pool:
            return n / common.seconds(lambda: list(pool.map(work, np.array_split(np.arange(n), threads))))
    finally:
        for fd in files:
            os.close(fd)


def cold(data: EcgDataset, files: Files, *, rounds: int) -> dict[str, list[float]]:
    """Windows per second from the disk."""
    rng = np.random.default_rng(2)
    paths = [data.directory / s.file for s in data.info.shards]
    n = min(4000, len(data)) // BATCH * BATCH
    counts = np.empty((BATCH, 12, data.info.window_samples), np.int16)

    def gather(*, ahead: int) -> float:
        # Opened again: pages that are mapped stay in the page cache.
        fresh = reopened(data)
        drop(paths)
        probed = [fresh.shards[i % len(paths)].in_memory(i % 7) for i in range(2 * len(paths))]
        if any(probed):
            raise RuntimeError(
                f"{sum(probed)} of {len(probed)} records are still in the page cache; nothing is cold"
            )
        order = batches(len(data), BATCH, seed=2, epoch=int(rng.integers(1 << 30)), drop_last=True)[
            : n // BATCH
        ]

        def run() -> None:
            with ThreadPoolExecutor(1) as pool:
                for rows in order[:ahead]:
                    pool.submit(fresh.prefetch, rows)
                for i, rows in enumerate(order):
                    if ahead and i + ahead < len(order):
                        pool.submit(fresh.prefetch, order[i + ahead])
                    fresh.gather(rows, np.int16, out=counts)

        return n / common.seconds(run)

    def one_file_each() -> float:
        chosen = [files.npy[i] for i in rng.permutation(len(files.npy))[:1024]]
        drop(chosen)
        return len(chosen) / common.seconds(lambda: [np.load(path) for path in chosen])

    return common.take_turns(
        {
            **{f"disk {k}": partial(direct, paths, n, rng, threads=k) for k in DISK_THREADS},
            "gather": partial(gather, ahead=0),
            "gather, prefetch": partial(gather, ahead=AHEAD),
            "npy": one_file_each,
        },
        rounds=rounds,
    )


def report(name: str, said: dict[str, list[float]], over: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Print and return medians and the ratios that matter."""
    middle = common.medians(said)
    for case, value in middle.items():
        print(f"{name}  {case:<20} {value:>9.0f} ECG/s {value * 60e-6:>7.2f} GB/s")
    ratios = {what: common.ratio(said, a, b) for what, (a, b) in over.items()}
    for what, value in ratios.items():
        print(f"{name}  {what:<44} {value:8.3f}")
    return {"ecg_per_s": middle, "ratios": ratios, "rounds": said}


def measure_warm(data: EcgDataset, files: Files, *, rounds: int) -> dict[str, Any]:
    """Warm speeds of a dataset, and what they are of the limit."""
    return report(
        "warm",
        warm(data, files, rounds=rounds),
        {
            "gather int16 of a gather in memory": ("gather int16", "ram int16"),
            "gather int16 into a buffer, of the same into a buffer": ("gather int16, out", "ram int16, out"),
            "gather float32 of a gather in memory": ("gather float32", "ram float32"),
            "gather int16 over one .npy a record": ("gather int16", "npy int16"),
            "gather int16 into a buffer, over .npy files": ("gather int16, out", "npy int16"),
            "gather float32 over .npy files, collated": ("gather float32", "npy float32, collate"),
            "gather float32 over WFDB files": ("gather float32", "wfdb float32"),
        },
    )


def measure_cold(data: EcgDataset, files: Files, *, rounds: int) -> dict[str, Any]:
    """Cold speeds of a dataset, and what they are of the disk's random-read limit."""
    said = cold(data, files, rounds=rounds)
    middle = common.medians(said)
    best = max((f"disk {k}" for k in DISK_THREADS), key=lambda name: middle[name])
    return report(
        "cold",
        said,
        {
            f"gather of the random-read limit ({best})": ("gather", best),
            f"gather, prefetch of the limit ({best})": ("gather, prefetch", best),
            "gather, prefetch over one .npy a record": ("gather, prefetch", "npy"),
        },
    )


def real_files(data: EcgDataset, source: Path, folder: Path) -> Files:
    """Write .npy files of a real dataset; its WFDB files are those that it was built from."""
    made = write_files(data, folder)
    numbers = [int(name) for name in data.index["record_id"]]
    headers = [str(source / f"records100/{n // 1000 * 1000:05d}/{n:05d}_lr") for n in numbers]
    return Files(made.npy, headers)


def main(
    records: Annotated[int, typer.Option(help="Size of the synthetic dataset; 60 kB each.")] = 20_000,
    scratch: Annotated[Path | None, typer.Option(help="Where to put it: on the disk to measure.")] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset built from PTB-XL at 100 Hz.")] = None,
    from_dir: Annotated[Path | None, typer.Option("--from", help="The PTB-XL folder of --data.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    rounds: int = 7,
) -> None:
    """Measure, print the table, and write it."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        synthetic = common.synthetic_dataset(folder, records)
        files = write_files(synthetic, folder)
        result: dict[str, Any] = {
            **common.machine("numpy", "torch", "wfdb"),
            "batch": BATCH,
            "synthetic": {
                "records": records,
                # First, while nothing is mapped.
                "cold": measure_cold(synthetic, files, rounds=rounds),
                "warm": measure_warm(synthetic, files, rounds=rounds),
            },
        }
    if data is not None and from_dir is not None:
        real = open_dataset(data)
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            result["real"] = {
                "name": real.info.name,
                "records": len(real),
                "sha256": real.info.sha256,
                "warm": measure_warm(real, real_files(real, from_dir, Path(name)), rounds=rounds),
            }
    if out is not None:
        common.write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
