"""A bundle over whole recordings: one estimate a window, through the very code that serves a bed."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecgedge.bundle import Bundle
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.events import Estimate
from ecgedge.runtime import AUTO
from ecgedge.stream import Bed, Variants


@dataclass(frozen=True)
class Prediction:
    """One window of one recording."""

    source: str
    estimate: Estimate


def predict(
    bundle: Bundle, recordings: Iterable[Recording], *, runtime: str = AUTO, movement: bool = False
) -> list[Prediction]:
    """Return one row a window for each recording.

    Parameters
    ----------
    bundle, recordings
        What to run, and over what.
    runtime
        One of `ecgedge.runtime.RUNTIMES`.
    movement
        Say in `Estimate.outputs`, too, how far each output moves under small noise on the input.

    Raises
    ------
    RecordError
        If a recording is shorter than one window.
    BundleError
        If no variant agrees with the bundle's self-test here.
    UsageError
        If the runtime is unknown or not installed.
    """
    rows: list[Prediction] = []
    with Variants(bundle, runtime=runtime, movement=movement) as variants:
        for recording in recordings:
            bed = Bed(
                bundle,
                leads=recording.leads,
                rate_hz=recording.rate_hz,
                variants=variants,
                mode=recording.mode,
            )
            events = bed.push(recording.samples_mv, t_s=0.0)
            estimates = [event for event in events if isinstance(event, Estimate)]
            if not estimates:
                raise RecordError(
                    f"{recording.source}: {recording.duration_s:.2f} s is shorter than the model's window of "
                    f"{bundle.manifest.window_s:g} s; give a longer recording"
                )
            rows += [Prediction(recording.source, estimate) for estimate in estimates]
    return rows


def write_csv(path: Path, rows: Iterable[Prediction]) -> None:
    """Write predictions as CSV; every row says its mode, and absent numbers are empty."""
    rows = list(rows)
    others = sorted({name for row in rows for name in row.estimate.outputs})
    head = [
        "source",
        "t_s",
        "mpcwp_mmhg",
        "low_mmhg",
        "high_mmhg",
        "p_gt_15",
        "p_gt_18",
        "validity",
        "reason",
    ]
    head += ["sqi", "variant", "mode", *others, "use"]
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(head)
        for row in rows:
            e = row.estimate
            low, high = e.interval_mmhg or (None, None)
            numbers = [e.t_s, e.mpcwp_mmhg, low, high, e.p_gt_15, e.p_gt_18]
            state = [e.validity, e.reason, e.sqi, e.variant, e.mode]
            others_of_row = [e.outputs.get(name) for name in others]
            writer.writerow([row.source, *numbers, *state, *others_of_row, "research use only"])
