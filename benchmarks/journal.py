"""What the journal costs: an estimate, an alarm that must be on the disk, the closing of a file, verifying.

The folder decides over all that waits for a disk; beside it stands one fsync of the same bytes without a journal.

    python benchmarks/journal.py [--folder /var/lib/ecgedge] [--rounds 7] [--out FILE.json]
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import common
import typer

from ecgedge.events import Alarm, Estimate, event_to_dict
from ecgedge.journal import Journal, verify_journal
from ecgedge.leads import STANDARD_LEADS

ESTIMATES = 5000
SYNCED = 50
ESTIMATE = event_to_dict(
    Estimate(
        t_s=1234.5,
        mpcwp_mmhg=17.123456789,
        interval_mmhg=(12.123456789, 22.123456789),
        p_gt_15=0.7123456789,
        p_gt_18=0.4123456789,
        validity="valid",
        reason=None,
        sqi=0.9312345678,
        leads=STANDARD_LEADS,
        variant="12/fp32",
        latency_ms=3.214,
    )
)
ALARM = event_to_dict(
    Alarm(1234.5, "MPCWP_ELEVATED", "physiological", "low", "on", "on", "mPCWP estimate elevated")
)


def main(
    folder: Annotated[
        Path | None, typer.Option(help="Where to write; the temporary folder if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Of which the medians count.")] = 7,
    out: Annotated[Path | None, typer.Option(help="Write the result here as JSON.")] = None,
) -> None:
    """Measure and print microseconds."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        cases = {
            "estimate": partial(append, Path(place), ESTIMATE, ESTIMATES, rotate_bytes=None),
            "alarm": partial(append, Path(place), ALARM, SYNCED, rotate_bytes=None),
            "an estimate that closes a file": partial(append, Path(place), ESTIMATE, SYNCED, rotate_bytes=1),
            "fsync alone": partial(sync, Path(place)),
            "verify an entry": partial(verify, Path(place)),
        }
        found = common.medians(common.take_turns(cases, rounds=rounds))
    for name, us in found.items():
        print(f"{name:32s}{us:10.1f} us")
    if out:
        common.write_json(out, {"benchmark": "journal", **common.machine(), "rounds": rounds, "us": found})


def append(folder: Path, event: dict[str, object], n: int, *, rotate_bytes: int | None) -> float:
    """Return microseconds an entry."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        journal = Journal(Path(place) / "j", rotate_bytes=rotate_bytes)
        taken_s = common.seconds(lambda: [journal.append(event) for _ in range(n)])
        journal.close()
    return taken_s / n * 1e6


def sync(folder: Path) -> float:
    """Return microseconds a write of 400 bytes with fsync takes."""
    with (folder / "plain").open("wb", buffering=0) as stream:

        def write() -> None:
            for _ in range(SYNCED):
                stream.write(bytes(400))
                os.fsync(stream.fileno())

        return common.seconds(write) / SYNCED * 1e6


def verify(folder: Path) -> float:
    """Return microseconds an entry."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "j"
        with Journal(path) as journal:
            for _ in range(ESTIMATES):
                journal.append(ESTIMATE)
        return common.seconds(lambda: verify_journal(path)) / ESTIMATES * 1e6


if __name__ == "__main__":
    typer.run(main)
