"""Build a dataset: plan the cohort, write its shards on all cores, then the index, then dataset.json."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecgedge.bundle import Envelope, FrontEndSpec
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.progress import progress as progress_bar
from ecgedge.schema import to_plain
from ecgedge_train.cohorts import Cohort, open_cohort
from ecgedge_train.cohorts.base import whole_number
from ecgedge_train.dataset.index import (
    FORMAT_VERSION,
    INDEX_FILE,
    INFO_FILE,
    WINDOW_SAMPLES,
    DatasetInfo,
    Refused,
    ShardInfo,
    count_splits,
    file_sha256,
    presence_of_masks,
    read_info,
    total_sha256,
    write_index,
)
from ecgedge_train.dataset.ray_build import build_with_ray
from ecgedge_train.dataset.shards import SHARD_ROWS, ShardTask, write_atomically, write_shard

ProgressReport = Callable[[int, int], None]
"""Called with (units done, units in all)."""

MAX_REFUSED_FRACTION: Final = 0.05
BUILD_FILE: Final = "build.json"
_report_queue: Any = None


def build_dataset(
    source: str,
    *,
    out: Path,
    from_dir: Path | None = None,
    options: Mapping[str, str] | None = None,
    progress: ProgressReport | None = None,
) -> DatasetInfo:
    """Build the dataset `source` in the folder `out`, or finish a build that was interrupted there.

    Parameters
    ----------
    source
        A cohort by name: "ptbxl", "sim".
    out
        New or empty folder, or one with an unfinished build of the same source and options.
    from_dir
        Folder of the cohort's files.
    options
        Options of the source, and for every source `jobs` (worker processes; all cores by default), `shard_rows`,
        and `engine`: "pool" for this machine, "ray" for a cluster.
    progress
        Called as the work goes on; by default a bar is drawn if standard error is a terminal.

    Raises
    ------
    UsageError
        On an unknown source or option.
    RecordError
        If `out` holds something else, the source is not what it should be, or over 5 % of its records
        cannot be read.
    """
    chosen = dict(options or {})
    jobs = whole_number("jobs", chosen.pop("jobs", str(os.cpu_count() or 1)))
    engine = chosen.pop("engine", "pool")
    if engine not in ("pool", "ray"):
        raise UsageError(f"option engine={engine!r} is unknown; it is pool (this machine) or ray (a cluster)")
    shard_rows = whole_number("shard_rows", chosen.pop("shard_rows", str(SHARD_ROWS)))
    cohort = open_cohort(source, from_dir=from_dir, options=chosen)
    spec = FrontEndSpec()
    plan = {
        "format_version": FORMAT_VERSION,
        "source": source,
        "options": dict(cohort.identity),
        "shard_rows": shard_rows,
        "front_end": to_plain(spec),
    }
    if _claim(out, plan):
        return read_info(out)
    tasks = shard_tasks(cohort, out, shard_rows=shard_rows, spec=spec)
    with nullcontext(progress) if progress else progress_bar(f"building {source}") as report:
        if engine == "ray":
            _run_on_ray(tasks, total=len(cohort.units), report=report)
        else:
            _run(tasks, jobs=jobs, total=len(cohort.units), report=report)
    return _finish(tasks, cohort, out, plan, spec)


def shard_tasks(cohort: Cohort, out: Path, *, shard_rows: int, spec: FrontEndSpec) -> list[ShardTask]:
    """Cut a cohort into shards; all rows of a unit are in one shard."""
    per_shard = max(1, shard_rows // cohort.rows_per_unit)
    starts = range(0, len(cohort.units), per_shard)
    return [
        ShardTask(number, out, cohort.units[start : start + per_shard], cohort.load, spec)
        for number, start in enumerate(starts)
    ]


def _claim(out: Path, plan: Mapping[str, Any]) -> bool:
    """Take `out` for this plan; return True if the dataset is there already."""
    text = json.dumps(plan, indent=1, sort_keys=True)
    known = out / BUILD_FILE
    if known.is_file():
        _refuse_other_plan(out, json.loads(known.read_text("utf-8")), json.loads(text))
        return (out / INFO_FILE).is_file()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecordError(f"{out}: is not empty and no dataset build; choose a new folder with --out")
    (out / "parts").mkdir(parents=True, exist_ok=True)
    write_atomically(known, lambda path: path.write_text(text, "utf-8"))
    return False


def _refuse_other_plan(out: Path, old: Any, new: Any) -> None:
    if old == new:
        return
    flat_old, flat_new = ({**p, **p["options"]} for p in (old, new))
    names = sorted({*flat_old, *flat_new} - {"options"})
    changes = [
        f"{name} {flat_old.get(name)!r} -> {flat_new.get(name)!r}"
        for name in names
        if flat_old.get(name) != flat_new.get(name)
    ]
    raise RecordError(
        f"{out}: holds a dataset built with other options ({'; '.join(changes)}); "
        "choose another --out, or remove that folder first"
    )


def _run_on_ray(tasks: Sequence[ShardTask], *, total: int, report: ProgressReport) -> None:
    done = 0

    def count(units: int) -> None:
        nonlocal done
        done += units
        report(done, total)

    build_with_ray(tasks, report=count)


def _run(tasks: Sequence[ShardTask], *, jobs: int, total: int, report: ProgressReport) -> None:
    done = 0

    def count(units: int) -> None:
        nonlocal done
        done += units
        report(done, total)

    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            write_shard(task, report=count)
        return
    try:
        _run_in_processes(tasks, min(jobs, len(tasks)), count)
    except BrokenProcessPool as error:
        raise RecordError(
            "a worker process of the build died; finished shards are kept, so run it again (jobs=1 needs "
            "least memory). A script that builds needs the guard: if __name__ == '__main__':"
        ) from error


def _run_in_processes(tasks: Sequence[ShardTask], workers: int, count: Callable[[int], None]) -> None:
    # spawn: a fork would copy the locks of whatever threads the caller runs.
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(messages,)) as pool:
        pending: set[Future[None]] = {pool.submit(_work, task) for task in tasks}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for units in _drain(messages):
                    count(units)
                for future in finished:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for units in _drain(messages):
        count(units)


def _start_worker(messages: Any) -> None:
    global _report_queue
    _report_queue = messages


def _work(task: ShardTask) -> None:
    write_shard(task, report=_report_queue.put)


def _drain(messages: Any) -> Iterator[int]:
    while True:
        try:
            yield messages.get_nowait()
        except queue.Empty:
            return


def _finish(
    tasks: Sequence[ShardTask], cohort: Cohort, out: Path, plan: Mapping[str, Any], spec: FrontEndSpec
) -> DatasetInfo:
    parts = [json.loads(task.part_path.read_text("utf-8")) for task in tasks]
    rows = [row for part in parts for row in part["rows"]]
    refused = tuple(Refused(**r) for part in parts for r in part["refused"])
    _check_refused(refused, len(cohort.units))
    splits = count_splits(rows)
    write_atomically(out / INDEX_FILE, lambda path: write_index(path, rows, cohort.labels))
    shards = tuple(
        ShardInfo(task.array_path.name, len(part["rows"]), part["sha256"])
        for task, part in zip(tasks, parts, strict=True)
    )
    index_sha256 = file_sha256(out / INDEX_FILE)
    info = DatasetInfo(
        format_version=FORMAT_VERSION,
        name=cohort.name,
        simulated=cohort.simulated,
        attribution=cohort.attribution,
        build_sha256=hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest(),
        options=cohort.identity,
        front_end=spec,
        window_samples=WINDOW_SAMPLES,
        labels=dict(cohort.labels),
        classes=cohort.classes,
        records=len(rows),
        patients=sum(count.patients for count in splits.values()),
        splits=splits,
        envelope=envelope([row for row in rows if row["split"] == "train"]),
        shards=shards,
        index_sha256=index_sha256,
        sha256=total_sha256(shards, index_sha256),
        refused=refused,
    )
    text = json.dumps(to_plain(info), indent=1)
    # dataset.json comes last: a folder that has it is whole.
    write_atomically(out / INFO_FILE, lambda path: path.write_text(text, "utf-8"))
    shutil.rmtree(out / "parts")
    return info


def _check_refused(refused: Sequence[Refused], units: int) -> None:
    if len(refused) > MAX_REFUSED_FRACTION * units:
        raise RecordError(
            f"{len(refused)} of {units} records cannot be used, over {MAX_REFUSED_FRACTION:.0%}; "
            f"the first: {refused[0].reason}"
        )


def envelope(rows: Sequence[Mapping[str, Any]]) -> Envelope:
    """Return the range (0.5th to 99.5th percentile) of each lead's window SD over index rows."""
    if not rows:
        return Envelope()
    sd_mv = np.array([row["sd_mv"] for row in rows])
    present = presence_of_masks(np.array([row["leads_present"] for row in rows])) > 0
    leads = [i for i in range(len(STANDARD_LEADS)) if present[:, i].any()]
    ranges = [np.percentile(sd_mv[present[:, i], i], (0.5, 99.5)) for i in leads]
    return Envelope(
        leads=tuple(STANDARD_LEADS[i] for i in leads),
        sd_low_mv=tuple(float(low) for low, _ in ranges),
        sd_high_mv=tuple(float(high) for _, high in ranges),
    )
