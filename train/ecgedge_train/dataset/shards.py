"""One shard: an .npy file of int16 counts (N, 12, 2500) and, while building, a part file with its rows.

A shard is the unit of work: it depends on nothing but its task, is written under another name, flushed and
renamed, and a finished one is recognised by its hash. So a build may die at any instant and be run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition
from ecgedge_train.cohorts.base import Entry, Unit
from ecgedge_train.dataset.index import WINDOW_SAMPLES, file_sha256, lead_mask
from ecgedge_train.dataset.quick import quick_counts

SHARD_ROWS: Final = 1024
"""1024 x 60,000 bytes = 61 MB: large enough for sequential reads, small enough to redo."""
WORTH_COMPILING: Final = 256
"""From so many units in a shard the compiled front end saves more than the second its compiling takes."""
MAX_PAD_SAMPLES: Final = 25
"""A recording may be this much (0.1 s) shorter than the window; its last sample is then held."""


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to write one shard."""

    number: int
    directory: Path
    units: tuple[Unit, ...]
    load: Callable[[Any], Iterable[tuple[Entry, Recording]]]
    spec: FrontEndSpec

    @property
    def array_path(self) -> Path:
        """Where the samples go."""
        return self.directory / f"shard-{self.number:05d}.npy"

    @property
    def part_path(self) -> Path:
        """Where the rows wait until the index is written."""
        return self.directory / "parts" / f"shard-{self.number:05d}.json"


def write_shard(task: ShardTask, *, report: Callable[[int], None]) -> None:
    """Write a shard unless it is there already; `report` is called with the number of units just done.

    A record that cannot be read is left out and listed in the part file with the reason.
    """
    if finished(task):
        report(len(task.units))
        return
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    windows: list[NDArray[np.int16]] = []
    quick = len(task.units) >= WORTH_COMPILING
    for unit in task.units:
        try:
            for entry, recording in task.load(unit):
                counts = window_counts(recording, task.spec, quick=quick)
                rows.append(_row(entry, recording, counts, task, len(windows)))
                windows.append(counts)
        except RecordError as error:
            refused.append({"record_id": unit.name, "reason": str(error)})
        report(1)
    array = np.stack(windows) if windows else np.zeros((0, len(STANDARD_LEADS), WINDOW_SAMPLES), np.int16)
    write_atomically(task.array_path, lambda path: _save(path, array))
    part = {"sha256": file_sha256(task.array_path), "rows": rows, "refused": refused}
    text = json.dumps(part)
    write_atomically(task.part_path, lambda path: path.write_text(text, "utf-8"))


def finished(task: ShardTask) -> bool:
    """Say whether the shard is on disk, whole."""
    try:
        part = json.loads(task.part_path.read_text("utf-8"))
        return bool(file_sha256(task.array_path) == part["sha256"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return False


def window_counts(recording: Recording, spec: FrontEndSpec, *, quick: bool = False) -> NDArray[np.int16]:
    """Condition a recording and return its last 10 s as (12, 2500) counts; unmeasured leads are zero.

    The last, since the front end has settled most there. `quick` takes the compiled pass, which gives the
    same bits sooner but must be compiled first, once in a process.

    Raises
    ------
    RecordError
        If the recording is shorter than the window.
    """
    counts = quick_counts(recording, spec) if quick else condition(recording, spec).counts
    short = WINDOW_SAMPLES - counts.shape[1]
    if short > MAX_PAD_SAMPLES:
        raise RecordError(
            f"{recording.source}: {recording.duration_s:.2f} s long; a window needs "
            f"{WINDOW_SAMPLES / spec.rate_hz:g} s"
        )
    if short > 0:
        counts = np.pad(counts, ((0, 0), (0, short)), mode="edge")
    window = np.zeros((len(STANDARD_LEADS), WINDOW_SAMPLES), np.int16)
    for i, lead in enumerate(recording.leads):
        window[STANDARD_LEADS.index(lead)] = counts[i, -WINDOW_SAMPLES:]
    return window


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file under another name, flush it to disk, then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Flush a directory, without which a rename may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(path: Path, array: NDArray[np.int16]) -> None:
    with path.open("wb") as file:  # np.save would add .npy to the temporary name
        np.save(file, array, allow_pickle=False)


def _row(
    entry: Entry, recording: Recording, counts: NDArray[np.int16], task: ShardTask, row: int
) -> dict[str, Any]:
    measured = [lead for i, lead in enumerate(recording.leads) if not np.isnan(recording.samples_mv[i]).all()]
    sd_mv = counts.std(axis=1) * task.spec.lsb_mv
    return {
        "record_id": entry.record_id,
        "patient_id": entry.patient_id,
        "time": entry.time,
        "leads_present": lead_mask(measured),
        "rate_hz": recording.rate_hz,
        "split": entry.split,
        "fold": entry.fold,
        "shard": task.number,
        "row": row,
        **entry.labels,
        "sd_mv": [float(value) for value in sd_mv],
    }
