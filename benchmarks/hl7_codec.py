"""What a message costs: ORU^R01 with a second of 12 leads at 500 Hz, read by ecgedge, hl7 and hl7apy.

All take turns in one process. The packages hl7 and hl7apy take the message apart, into the text of every component;
ecgedge splits it into fields ("split"), and from there gives millivolts ("read").
(hl7.py would be the package's own name.)

    python benchmarks/hl7_codec.py [--rounds 15] [--out benchmarks/results/hl7.json]
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Annotated

import common
import hl7
import numpy as np
import typer
from hl7apy.parser import parse_message

from ecgedge.hl7.header import Envelope
from ecgedge.hl7.message import Segment, parse
from ecgedge.hl7.mllp import MllpDecoder, frame
from ecgedge.hl7.waveforms import Waveforms, read_waveforms, write_waveforms
from ecgedge.leads import STANDARD_LEADS

SAMPLES = 500
OURS = "ecgedge, read"
SPLIT = "ecgedge, split"
TIMES = {
    SPLIT: 20,
    OURS: 20,
    "ecgedge, frame and read": 20,
    "ecgedge, write": 5,
    "hl7.parse": 1,
    "hl7apy parse_message": 1,
}
"""How often a case runs in its turn, so that all turns are long enough to be timed."""


def main(
    rounds: Annotated[int, typer.Option(help="Of which the medians count.")] = 15,
    out: Annotated[Path | None, typer.Option(help="Write the result here as JSON.")] = None,
) -> None:
    """Measure and print microseconds and ratios."""
    waveforms = a_second()
    envelope = Envelope(waveforms.start, "1")
    message = write_waveforms(waveforms, envelope)
    text = message.decode()
    cases: dict[str, Callable[[], object]] = {
        SPLIT: lambda: take_apart(message),
        OURS: lambda: read_waveforms(parse(message)),
        "ecgedge, frame and read": lambda: through_frames(message),
        "ecgedge, write": lambda: write_waveforms(waveforms, envelope),
        "hl7.parse": lambda: hl7.parse(text),
        "hl7apy parse_message": lambda: parse_message(text),
    }
    turns = {name: partial(microseconds, run, TIMES[name]) for name, run in cases.items()}
    said = common.take_turns(turns, rounds=rounds)
    found = common.medians(said)
    ratios = {name: common.ratio(said, name, OURS) for name in cases if name.startswith("hl7")}
    split = {name: common.ratio(said, name, SPLIT) for name in ratios}
    for name, us in found.items():
        print(
            f"{name:26s}{us:12.1f} us"
            + (f"{ratios[name]:9.1f} times, {split[name]:.1f} split" if name in ratios else "")
        )
    if out:
        facts = common.machine("numpy", "hl7", "hl7apy")
        sizes = {"leads": len(STANDARD_LEADS), "samples": SAMPLES, "bytes": len(message)}
        common.write_json(
            out,
            {
                "benchmark": "hl7",
                **facts,
                **sizes,
                "rounds": rounds,
                "us": found,
                "times_ours": ratios,
                "times_split": split,
            },
        )


def a_second() -> Waveforms:
    """Return a second of noise of an ECG's size, in steps of a microvolt."""
    samples_mv = np.random.default_rng(0).normal(0.0, 0.5, (12, SAMPLES)).astype(np.float32)
    return Waveforms(
        datetime(2026, 1, 1, tzinfo=timezone.utc), 500.0, STANDARD_LEADS, samples_mv, "1", "demo"
    )


def take_apart(message: bytes) -> list[Segment]:
    """Split a message into segments and their fields."""
    return list(parse(message).segments("MSH", "PID", "PV1", "OBR", "OBX", "NTE"))


def through_frames(message: bytes) -> None:
    """Take a message out of its frame and read it."""
    for found in MllpDecoder().push(frame(message)):
        read_waveforms(parse(found))


def microseconds(run: Callable[[], object], times: int) -> float:
    """Return how long one of several calls takes."""
    return common.seconds(lambda: [run() for _ in range(times)]) / times * 1e6


if __name__ == "__main__":
    typer.run(main)
