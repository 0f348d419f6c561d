"""What the benchmark scripts share: taking turns, a synthetic dataset on disk, the facts that go with numbers."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ecgedge_train.dataset import EcgDataset

SAMPLES = 2500
SHARD_ROWS = 1024


def take_turns(
    cases: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Run the cases A B C A B C ..., so that a busy machine slows all alike; return what each said per round."""
    said: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + warm_up):
        for name, run in cases.items():
            value = run()
            if round_ >= warm_up:
                said[name].append(value)
    return said


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def medians(said: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each case."""
    return {name: statistics.median(values) for name, values in said.items()}


def ratio(said: Mapping[str, list[float]], over: str, under: str) -> float:
    """Return the median over rounds of one case by another; the two of a round met the same load."""
    return statistics.median(a / b for a, b in zip(said[over], said[under], strict=True))


def machine(*packages: str) -> dict[str, Any]:
    """Return date, processor, versions: what a number means nothing without."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "processor": _processor(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result."""
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def synthetic_dataset(folder: Path, records: int) -> EcgDataset:
    """Write shards of random counts, flushed to disk, and open them as a dataset without labels."""
    # Here, not above: a machine with a GPU and no pyarrow can still measure everything else.
    from ecgedge.bundle import Envelope, FrontEndSpec
    from ecgedge_train.dataset.index import DatasetInfo, ShardInfo
    from ecgedge_train.dataset.read import EcgDataset, Shard

    rng = np.random.default_rng(0)
    noise = rng.integers(-4000, 4000, (SHARD_ROWS, 12, SAMPLES), dtype=np.int16)
    shards = []
    for number, start in enumerate(range(0, records, SHARD_ROWS)):
        rows = min(SHARD_ROWS, records - start)
        shards.append(ShardInfo(f"shard-{number:05d}.npy", rows, ""))
        with (folder / shards[-1].file).open("wb") as file:
            # Another value in every row, so that a row in the wrong place is seen.
            np.save(file, noise[:rows] + (start + np.arange(rows, dtype=np.int16) % 8191)[:, None, None])
            file.flush()
            os.fsync(file.fileno())
    info = DatasetInfo(
        format_version=1, name="synthetic", simulated=True, attribution="", build_sha256="", options={},
        front_end=FrontEndSpec(), window_samples=SAMPLES, labels={}, classes=(), records=records,
        patients=records, splits={}, envelope=Envelope(), shards=tuple(shards), index_sha256="", sha256="",
    )  # fmt: skip
    record = np.arange(records)
    index: dict[str, NDArray[Any]] = {
        "shard": record // SHARD_ROWS,
        "row": record % SHARD_ROWS,
        "leads_present": np.full(records, 0xFFF, np.uint16),
    }
    return EcgDataset(folder, info, index, tuple(Shard(folder / s.file, s, SAMPLES) for s in shards))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.processor()
    )
