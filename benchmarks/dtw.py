"""DTW of whole batches against dtaidistance: time, neighbours, and what mining adds to training.

Run: OMP_NUM_THREADS=1 python benchmarks/dtw.py --data PTBXL_DATASET [--out benchmarks/results/dtw.json]

Windows are 12 leads x 2,500 samples, batches of 64, one thread; medians of interleaved rounds, since machines are
shared: read the ratios. A batch is 2,016 pairs; dtaidistance (its C code, full DTW) is timed on a few pairs of each
round and scaled. `full` is our own kernel without band and means; it is the reference of the ranking, after it was
checked against dtaidistance on those pairs. `top 5` is the share of ECGs whose true nearest neighbour (by `full`) is
among the five nearest by the approximation.

Mining: a thread gathers the next batch and computes its matrix while the main thread trains (forward and backward).
`added` compares that with the same loop without the matrix; `serial` is the matrix's time over the step's, what
it would add on a machine with a single core.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from dtaidistance import dtw_ndim
from torch import nn

from ecgedge_train.dataset import open_dataset
from ecgedge_train.distances import DISTANCES, dtw_matrix
from ecgedge_train.distances.dtw import band_radius
from ecgedge_train.encoders.edgenet import EdgeNet
from ecgedge_train.encoders.resnet18 import ResNet18

BATCH = 64
PAIRS = BATCH * (BATCH - 1) // 2
Floats = np.ndarray[Any, np.dtype[np.float32]]


def dtaidistance_full(a: Floats, b: Floats) -> float:
    """Return full DTW of (leads, samples); the library wants (time, leads)."""
    return float(dtw_ndim.distance_fast(a.T.astype(np.float64), b.T.astype(np.float64)))


def seconds_of(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def times(batch: Floats, *, rounds: int) -> dict[str, float]:
    """Return the median seconds a batch of each distance, and of dtaidistance scaled from two pairs a round."""
    measured: dict[str, list[float]] = {name: [] for name in ("dtaidistance", *DISTANCES)}
    presence = np.ones(batch.shape[:2], np.float32)
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for _ in range(2):
            a, b = rng.choice(BATCH, 2, replace=False)
            pair = seconds_of(lambda a=a, b=b: dtaidistance_full(batch[a], batch[b]))
            measured["dtaidistance"].append(PAIRS * pair)
        for name, distance in DISTANCES.items():
            measured[name].append(seconds_of(lambda d=distance: d(batch, presence)))
    return {name: statistics.median(values) for name, values in measured.items()}


def cells(samples: int, *, band_fraction: float, paa: int) -> int:
    """Return how many cells of D one batch fills."""
    n = -(-samples // paa)
    r = band_radius(n, band_fraction)
    return PAIRS * (n * (2 * r + 1) - r * (r + 1))


def ranking(batches: list[Floats], full: list[Floats]) -> dict[str, dict[str, float]]:
    """Compare each distance's nearest neighbours with those of full DTW."""
    found: dict[str, dict[str, float]] = {}
    for name, distance in DISTANCES.items():
        nearest, top5 = [], []
        for batch, reference in zip(batches, full, strict=True):
            alone = np.diag(np.full(BATCH, np.inf, np.float32))
            order = np.argsort(distance(batch, np.ones(batch.shape[:2], np.float32)) + alone, axis=1)
            true = np.argmin(reference + alone, axis=1)
            nearest.append(order[:, 0] == true)
            top5.append((order[:, :5] == true[:, None]).any(axis=1))
        found[name] = {"nearest": float(np.mean(nearest)), "top_5": float(np.mean(top5))}
    return found


def training(encoder: nn.Module, load: Callable[[int], Floats], *, steps: int) -> Iterator[float]:
    """Yield the seconds of each step; the next batch is loaded on a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(load, 0)
        for step in range(steps):
            began = time.perf_counter()
            x = torch.from_numpy(upcoming.result())
            upcoming = pool.submit(load, step + 1)
            encoder.zero_grad()
            encoder(x, torch.ones(x.shape[:2])).square().mean().backward()
            yield time.perf_counter() - began


def mining(gather: Callable[[int], Floats], *, rounds: int, matrix_s: float) -> dict[str, dict[str, float]]:
    """Return step times with and without the matrix in the loader thread, by encoder."""

    def with_matrix(step: int) -> Floats:
        windows = gather(step)
        dtw_matrix(windows)
        return windows

    results: dict[str, dict[str, float]] = {}
    for name, encoder, steps in (("edgenet", EdgeNet(128), 12), ("resnet18", ResNet18(128), 2)):
        plain: list[float] = []
        mined: list[float] = []
        for _ in range(rounds):
            # The first step of a loop waits for the first batch, as at the start of an epoch.
            plain += list(training(encoder, gather, steps=steps + 1))[1:]
            mined += list(training(encoder, with_matrix, steps=steps + 1))[1:]
        step_s = statistics.median(plain)
        results[name] = {
            "step_s": step_s,
            "with_mining_s": statistics.median(mined),
            "added": statistics.median(mined) / step_s - 1,
            "serial": matrix_s / step_s,
        }
    return results


def main(
    data: Annotated[Path, typer.Option(help="Dataset built from PTB-XL.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    rounds: int = 5,
    batches: Annotated[int, typer.Option(help="Batches for the ranking; full DTW takes ~10 s each.")] = 2,
) -> None:
    """Measure, print the table, and write it."""
    torch.set_num_threads(1)
    dataset = open_dataset(data)
    order = np.random.default_rng(1).permutation(len(dataset))

    def gather(k: int) -> Floats:
        windows: Floats = dataset.gather(order[k * BATCH % (len(order) - BATCH) :][:BATCH])
        return windows

    chosen = [gather(k) for k in range(batches)]
    samples = chosen[0].shape[2]
    dtw_matrix(chosen[0][:2])  # compile
    full: list[Floats] = []
    full_s = statistics.median(
        seconds_of(lambda w=w: full.append(dtw_matrix(w, band_fraction=1.0, paa=1))) for w in chosen
    )
    for a, b in ((0, 1), (10, 40), (63, 5)):
        np.testing.assert_allclose(full[0][a, b], dtaidistance_full(chosen[0][a], chosen[0][b]), rtol=1e-5)
    seconds = times(chosen[0], rounds=rounds)
    speed = {
        "dtw": cells(samples, band_fraction=0.05, paa=4) / seconds["dtw"],
        "dtw_exact": cells(samples, band_fraction=0.10, paa=1) / seconds["dtw_exact"],
        "full": cells(samples, band_fraction=1.0, paa=1) / full_s,
    }
    neighbours = ranking(chosen, full)
    added = mining(gather, rounds=3, matrix_s=seconds["dtw"])
    seconds["full"] = full_s

    for name, value in seconds.items():
        ratio = seconds["dtaidistance"] / value
        rate = f"{speed[name] / 1e9:5.2f} G cells/s" if name in speed else ""
        print(f"{name:<13} {1000 * value:>10.1f} ms a batch   x{ratio:<8.1f} {rate}")
    for name, share in neighbours.items():
        print(f"{name:<13} nearest {share['nearest']:.2f}   top 5 {share['top_5']:.3f}")
    for name, row in added.items():
        print(f"{name:<13} step {1000 * row['step_s']:.0f} ms, mining adds {row['added']:+.1%}", end="")
        print(f" (on a single core {row['serial']:+.1%})")
    if out is not None:
        result = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("numpy", "numba", "torch", "dtaidistance")},
            "dataset": {"name": dataset.info.name, "records": len(dataset), "sha256": dataset.info.sha256},
            "batch": BATCH,
            "seconds_a_batch": seconds,
            "times_dtaidistance": {name: seconds["dtaidistance"] / value for name, value in seconds.items()},
            "cells_per_s": speed,
            "neighbours_of_full_dtw": neighbours,
            "mining_in_the_loader_thread": added,
        }
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
