"""What signal quality objects to in recordings of other sources and rates, on none of which a threshold was chosen.

    ECGEDGE_DATA=... OMP_NUM_THREADS=1 python benchmarks/quality_elsewhere.py [--out FILE.json]

As recorded, window by window of 10 s, the first 3 s mirrored ahead; records shorter than a window are mirrored ahead to
fill it. PTB-XL's 100 Hz records, whose 500 Hz originals chose thresholds, are there for their rate.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, write_json
from numpy.typing import NDArray
from quality import SECOND, SPEC, WINDOW, raw_seconds

from ecgedge.signal import FrontEnd, Window, assess
from ecgedge.signal.doubts import DOUBTS, doubtful, measure_window

SOURCES = {
    "PTB-XL, 100 Hz": "ptbxl/records100/*/*.hea",
    "CODE-15, 400 Hz": "code15_samitrop/code15/*.hea",
    "Georgia, 500 Hz": "cinc2021/georgia/*.hea",
    "Chapman-Shaoxing, 500 Hz": "cinc2021/chapman_shaoxing/*.hea",
    "PTB Diagnostic, 1000 Hz": "ptbdb_15lead/*.hea",
    "MIT-BIH 100, 360 Hz": "long_2lead/mitdb/100.hea",
    "MIT-BIH 105 (noisy), 360 Hz": "long_2lead/mitdb/105.hea",
    "SVDB 800, 128 Hz": "long_2lead/svdb/800.hea",
    "STDB 300, 360 Hz": "long_2lead/stdb/300.hea",
}
COLUMNS = ("fault", "rails", *DOUBTS, "any")


def windows(path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int16], float]]:
    """Yield the raw samples and the counts of each 10 s of a record, and its rate."""
    import wfdb  # not our reader: Holter leads have names that are no standard ones

    record = wfdb.rdrecord(str(path.with_suffix("")))
    rate_hz = float(record.fs)
    samples = np.ascontiguousarray(record.p_signal.T, np.float32)
    length, ahead = round(10 * rate_hz), round(3 * rate_hz)
    short = max(0, length - samples.shape[1])
    samples = np.pad(samples, ((0, 0), (ahead + short, 0)), mode="reflect")
    counts = FrontEnd(SPEC, n_leads=len(samples), rate_hz=rate_hz).push(samples).counts
    for start in range(ahead, samples.shape[1] - length + 1, length):
        end = min(round((start + length) / rate_hz * SPEC.rate_hz), counts.shape[1])
        raw = np.ascontiguousarray(samples[:, start : start + length])
        yield raw, np.ascontiguousarray(counts[:, end - WINDOW : end]), rate_hz


def objections(raw_mv: NDArray[np.float32], counts: NDArray[np.int16], rate_hz: float) -> dict[str, int]:
    """Return of how many leads there is which objection; doubts and rails of those without a fault."""
    rms = np.sqrt(np.square(np.diff(counts.astype(np.float64))).mean(axis=1))
    measures = measure_window(counts, rms, raw_seconds(raw_mv, rate_hz), second_samples=SECOND, spec=SPEC)
    usable = np.array(assess(Window(WINDOW, counts, np.zeros(counts.shape, np.uint8)), SPEC).usable)
    doubts = doubtful(measures, counts.std(axis=1) * SPEC.lsb_mv) & usable
    rails = measures.railed & usable
    found = {"fault": ~usable, "rails": rails, **dict(zip(DOUBTS, doubts, strict=True))}
    found["any"] = ~usable | rails | doubts.any(axis=0)
    return {name: int(held.sum()) for name, held in found.items()}


def measure(data: Path, *, every: int = 1) -> list[dict[str, Any]]:
    """Return one row a source; of every so many records."""
    rows = []
    for source, pattern in SOURCES.items():
        held: Counter[str] = Counter()
        leads = 0
        for path in sorted(data.glob(pattern))[::every]:
            for raw_mv, counts, rate_hz in windows(path):
                held.update(objections(raw_mv, counts, rate_hz))
                leads += len(counts)
        row = {"source": source, "leads": leads, **{name: held[name] / max(1, leads) for name in COLUMNS}}
        print(row, flush=True)
        rows.append(row)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Return the table of docs/quality.md."""
    lines = [f"| recorded by | leads x windows | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for row in result["rows"]:
        shares = " | ".join(f"{100 * row[name]:.1f}" for name in COLUMNS)
        lines.append(f"| {row['source']} | {row['leads']} | {shares} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure; write it where `--out FILE` is given."""
    if arguments and (arguments[0] != "--out" or len(arguments) != 2):
        raise SystemExit("usage: quality_elsewhere.py [--out FILE.json]")
    rows = measure(Path(os.environ["ECGEDGE_DATA"]))
    result = {"benchmark": "quality_elsewhere", **machine("ecgedge", "numpy", "scipy", "wfdb"), "rows": rows}
    print(markdown(result))
    if arguments:
        write_json(Path(arguments[1]), result)


if __name__ == "__main__":
    main(sys.argv[1:])
