"""Shards written on many machines: Ray Data as a front end over the same `write_shard`. Needs the extra `ray`.

For one machine the process pool of `ecgedge_train.dataset.build` is faster: Ray's start costs more than the
shards of a whole PTB-XL. A shard is the unit of work here too, so what one engine began another may finish,
and the bytes are the same. The folder must be one that every machine sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ecgedge.errors import RecordError, missing_extra
from ecgedge_train.dataset.shards import ShardTask, finished, write_shard


def build_with_ray(tasks: Sequence[ShardTask], *, report: Callable[[int], None]) -> None:
    """Write all shards on the Ray cluster that this process belongs to, or on this machine if there is none.

    Parameters
    ----------
    tasks
        Every shard of the dataset; finished ones are recognised and left.
    report
        Called with the number of units of each shard that is done, in no particular order.

    Raises
    ------
    UsageError
        If Ray is not installed.
    RecordError
        If a worker failed, or wrote where this machine sees nothing.
    """
    ray = _import_ray()
    if not tasks:
        return
    items = [{"task": task} for task in tasks]
    # One block a shard: blocks are what Ray hands out, and what it repeats when a machine is lost.
    rows = ray.data.from_items(items, override_num_blocks=len(items)).map(write_row, num_cpus=1)
    try:
        for row in rows.iter_rows():
            report(int(row["units"]))
    except ray.exceptions.RayError as error:
        raise RecordError(
            f"a Ray worker failed ({error}); finished shards are kept, so run the same build again"
        ) from error
    unseen = [task for task in tasks if not finished(task)]
    if unseen:
        raise RecordError(
            f"{unseen[0].directory}: {len(unseen)} of {len(tasks)} shards that Ray's workers wrote are not here; "
            "--out must be a folder that every machine of the cluster shares"
        )


def write_row(row: Mapping[str, Any]) -> dict[str, int]:
    """Write the shard of one row {"task": ShardTask}; runs on a worker."""
    task: ShardTask = row["task"]
    write_shard(task, report=lambda _units: None)
    return {"number": task.number, "units": len(task.units)}


def _import_ray() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
        import ray.data  # noqa: PLC0415 - the same
    except ImportError as error:
        raise missing_extra(
            extra="ray", package="ray[data]", purpose="Building on several machines"
        ) from error
    return ray
