"""A dataset in words."""

from __future__ import annotations

from ecgedge_train.dataset.index import DatasetInfo


def describe_dataset(info: DatasetInfo) -> str:
    """Return a few lines that tell what a dataset holds."""
    lines = [
        f"{info.name}{' (SIMULATED DATA)' if info.simulated else ''}: {_count(info.records, info.patients)}"
    ]
    lines += [f"  {split:<8} {_count(count.records, count.patients)}" for split, count in info.splits.items()]
    seconds = info.window_samples / info.front_end.rate_hz
    lines += [
        f"  windows  {len(info.shards)} shards, 12 leads x {seconds:g} s at {info.front_end.rate_hz:g} Hz",
        f"  labels   {', '.join(info.labels)}",
        f"  options  {', '.join(f'{k}={v}' for k, v in info.options.items() if v and not k.endswith('sha256'))}",
        f"  sha256   {info.sha256}",
        f"  source   {info.attribution}",
    ]
    if info.refused:
        first = info.refused[0]
        lines.append(f"  left out {len(info.refused)} records; the first: {first.record_id}: {first.reason}")
    return "\n".join(lines)


def _count(records: int, patients: int) -> str:
    return f"{records} records of {patients} patients"
