"""What two machines said, compared: words and times must be equal, numbers lie within the bundle's tolerance.

Every comparison returns the largest difference of each number, beside what is allowed of it, and complaints.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLOCK = frozenset({"latency_ms"})
"""Fields that the clock fills; an emulator's say nothing."""

_OUTPUT = {
    "mpcwp_mmhg": "mpcwp_mmhg",
    "interval_mmhg": "mpcwp_mmhg",
    "p_gt_15": "p_gt_15",
    "p_gt_18": "p_gt_18",
}
"""Field to the model output whose tolerance holds for it: an interval is the estimate and a constant."""

_SQI_ALLOWED = 1e-9
"""The quality index has no tolerance of its own: the same counts, summed in another order."""

Tolerances = Mapping[str, Mapping[str, float]]
"""Variant to output to largest absolute difference allowed, from the bundle's self-test."""


@dataclass(frozen=True)
class Gap:
    """The largest difference of one number, and what was allowed where it came closest to it."""

    name: str
    compared: int
    largest: float
    allowed: float


@dataclass(frozen=True)
class Comparison:
    """Gaps by number; without complaints the two agree."""

    gaps: tuple[Gap, ...]
    complaints: tuple[str, ...]


def read_events(text: str) -> list[dict[str, Any]]:
    """Read the lines of `ecgedge stream --format jsonl`."""
    return [json.loads(line) for line in text.splitlines()]


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Read the table of `ecgedge predict` as rows that look like estimates."""
    with path.open(newline="") as handle:
        return [_as_estimate(row) for row in csv.DictReader(handle)]


def _as_estimate(row: dict[str, str]) -> dict[str, Any]:
    numbers = {name: float(row[name]) for name in ("mpcwp_mmhg", "p_gt_15", "p_gt_18", "sqi") if row[name]}
    interval = [float(row[name]) for name in ("low_mmhg", "high_mmhg") if row[name]]
    words = {name: value for name, value in row.items() if name not in {*numbers, "low_mmhg", "high_mmhg"}}
    return {**words, **numbers, "interval_mmhg": interval}


def compare_rows(
    here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]], tolerances: Tolerances
) -> Comparison:
    """Compare events, or rows of a table, one by one in their order."""
    complaints: list[str] = []
    if len(here) != len(there):
        complaints.append(f"{len(here)} rows here, {len(there)} there")
    found: list[Gap] = []
    for number, (ours, theirs) in enumerate(zip(here, there, strict=False)):
        place = f"row {number} ({ours.get('type', 'row')} at {ours.get('t_s')} s)"
        for name in sorted({*ours, *theirs} - CLOCK):
            a, b = ours.get(name), theirs.get(name)
            gap = _gap(name, a, b, _allowed(name, ours, tolerances))
            if gap is not None:
                found.append(gap)
            elif a != b:
                complaints.append(f"{place}: {name} is {a!r} here and {b!r} there")
    gaps = _largest(found)
    return Comparison(gaps, (*complaints, *_too_large(gaps)))


def _allowed(name: str, row: Mapping[str, Any], tolerances: Tolerances) -> float | None:
    """Return the tolerance of a number, None for what must be equal."""
    if name == "sqi":
        return _SQI_ALLOWED
    variant = row.get("variant")
    return tolerances[variant][_OUTPUT[name]] if name in _OUTPUT and variant else None


def _gap(name: str, a: object, b: object, allowed: float | None) -> Gap | None:
    """Return the difference where both are numbers (or lists of as many) that may differ."""
    if allowed is None or a is None or b is None:
        return None
    first, second = np.atleast_1d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
    if first.shape != second.shape:
        return None
    largest = float(np.abs(first - second).max(initial=0.0))
    return Gap(name, 1, largest if np.isfinite(largest) else np.inf, allowed)


def _largest(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Keep, of each number, the gap that is closest to its limit (or furthest beyond)."""
    kept: dict[str, Gap] = {}
    for gap in gaps:
        known = kept.get(gap.name, Gap(gap.name, 0, -1.0, 1.0))
        worse = gap if gap.largest / gap.allowed > known.largest / known.allowed else known
        kept[gap.name] = Gap(gap.name, known.compared + 1, worse.largest, worse.allowed)
    return tuple(kept.values())


def _too_large(gaps: Iterable[Gap]) -> Iterator[str]:
    for gap in gaps:
        if not gap.largest <= gap.allowed:
            yield f"{gap.name} differs by {gap.largest:.3g}, allowed is {gap.allowed:.3g}"


def tolerances_of(measured: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """Return the self-test's tolerances out of what `arm64_probe.py measure` wrote."""
    found: dict[str, dict[str, float]] = {}
    for key, value in measured.items():
        kind, _, rest = key.partition("/")
        variant, _, output = rest.rpartition("/")
        if kind == "tolerance":
            found.setdefault(variant, {})[output] = float(value)
    return found


def compare_measured(here: Mapping[str, NDArray[Any]], there: Mapping[str, NDArray[Any]]) -> Comparison:
    """Compare two files of `arm64_probe.py measure`: outputs of the same windows, counts of the same samples.

    Counts may differ by one where a value lies on the edge between two (see `ecgedge.signal.front_end`);
    how many do is printed, and more than one in a thousand is no edge any more.
    """
    if set(here) != set(there):
        return Comparison((), (f"not the same arrays: {sorted(set(here) ^ set(there))}",))
    other = [key for key in here if here[key].shape != there[key].shape]
    if other:
        return Comparison((), tuple(f"{k} is {here[k].shape} here and {there[k].shape} there" for k in other))
    found: list[Gap] = []
    for key, allowed in (
        (key, float(here[f"tolerance{key[6:]}"])) for key in here if key.startswith("output/")
    ):
        found.append(Gap(key, 1, float(np.abs(here[key] - there[key]).max()), allowed))
    for key in (key for key in here if key.startswith(("counts/", "simulated/"))):
        difference = np.abs(here[key].astype(np.float64) - there[key].astype(np.float64))
        share = float((difference != 0).mean())
        if key.startswith("counts/"):
            found += [Gap(f"{key} (counts)", 1, float(difference.max()), 1.0)]
            found += [Gap(f"{key} (share that differs)", 1, share, 1e-3)]
        else:
            # Two units in the last place of a sample of 5 mV; the models see counts of 2.4e-4 mV.
            found += [Gap(f"{key} (mV)", 1, float(difference.max()), 1e-6)]
    gaps = tuple(found)
    return Comparison(gaps, tuple(_too_large(gaps)))
