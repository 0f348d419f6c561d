"""How fast batches come off the disk: whole-batch gather against row by row and against reading WFDB files.

Run: python benchmarks/loader.py --data PTBXL_DATASET --from PTBXL_FOLDER [--out benchmarks/results/loader.json]

The readers take turns (A B C A B C ...), so that a busy machine slows all of them alike; read the ratios. The page
cache is warm. `gather` is what training does; `rows` indexes the same memory map record by record and collates as
a default data loader does; `plain` is one fancy index with neither read-ahead nor order; `npy` has one .npy file a
record; `wfdb` reads the source with wfdb.rdrecord (no filtering, no resampling: only the reading). `copy` is the
limit: the same bytes from memory.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import wfdb

from ecgedge_train.dataset import batches, open_dataset
from ecgedge_train.dataset.read import EcgDataset

BATCH = 64
Reader = Callable[[np.ndarray], np.ndarray]


def readers(data: EcgDataset, folder: Path, files: Path) -> dict[str, Reader]:
    """Return every reader by name; each gives (B, 12, samples) float32 mV."""
    maps = [np.load(data.directory / s.file, mmap_mode="r") for s in data.info.shards]
    shard, row = data.index["shard"], data.index["row"]
    lsb = np.float32(data.info.front_end.lsb_mv)
    memory = data.gather(data.select(), np.int16)
    numbers = [int(name) for name in data.index["record_id"]]
    headers = [str(folder / f"records100/{n // 1000 * 1000:05d}/{n:05d}_lr") for n in numbers]
    for i, window in enumerate(memory):
        np.save(files / f"{i}.npy", window)

    def one(r: int) -> np.ndarray:
        return np.array(maps[shard[r]][row[r]], np.float32) * lsb

    def plain(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), 12, data.info.window_samples), np.float32)
        for number in np.unique(shard[rows]):
            here = shard[rows] == number
            out[here] = maps[number][row[rows[here]]] * lsb
        return out

    return {
        "copy": lambda rows: np.multiply(scratch := memory[rows].astype(np.float32), lsb, out=scratch),
        "gather": data.gather,
        "plain": plain,
        "rows": lambda rows: np.stack([one(r) for r in rows]),
        "npy": lambda rows: np.stack([np.load(files / f"{r}.npy") * lsb for r in rows]),
        "wfdb": lambda rows: np.stack(
            [wfdb.rdrecord(headers[r]).p_signal.T.astype(np.float32) for r in rows]
        ),
    }


def measure(data: EcgDataset, made: dict[str, Reader], *, rounds: int) -> dict[str, list[float]]:
    """Return records per second of each reader in each round, interleaved."""
    speed: dict[str, list[float]] = {name: [] for name in made}
    for round_ in range(rounds + 1):
        order = batches(len(data), BATCH, seed=1, epoch=round_, drop_last=True)
        for name, read in made.items():
            chosen = order[: 2 if name == "wfdb" else 20]
            began = time.perf_counter()
            for rows in chosen:
                read(rows)
            if round_ > 0:  # the first round warms caches
                speed[name].append(BATCH * len(chosen) / (time.perf_counter() - began))
    return speed


def main(
    data: Annotated[Path, typer.Option(help="Dataset built from PTB-XL at 100 Hz.")],
    from_dir: Annotated[Path, typer.Option("--from", help="The PTB-XL folder it was built from.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    rounds: int = 7,
) -> None:
    """Measure, print the table, and write it."""
    dataset = open_dataset(data)
    with tempfile.TemporaryDirectory() as files:
        made = readers(dataset, from_dir, Path(files))
        probe = np.arange(BATCH)
        for name in ("gather", "plain", "rows", "npy"):
            np.testing.assert_array_equal(made[name](probe), made["copy"](probe))
        speed = measure(dataset, made, rounds=rounds)
    medians = {name: statistics.median(values) for name, values in speed.items()}
    for name, value in medians.items():
        ratios = f"{value / medians['copy']:.4f} of copy   gather is x{medians['gather'] / value:.2f}"
        print(f"{name:<8} {value:>10.0f} ECG/s   {ratios}")
    if out is not None:
        result = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "wfdb": wfdb.__version__,
            },
            "dataset": {"name": dataset.info.name, "records": len(dataset), "sha256": dataset.info.sha256},
            "batch": BATCH,
            "ecg_per_s": {
                name: {"median": medians[name], "rounds": values} for name, values in speed.items()
            },
        }
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
