"""A bed's cost against the straightforward pipeline, side by side.

Straightforward: each hop, take the last 10 s of raw samples, resample and filter them with scipy, run the fp32
model in ONNX Runtime. The bed: streaming front end, quality check, model, alarm rules. 12 leads at 500 Hz of a
SIMULATED patient, chunks of 1 s, the embedded bundle, one thread. Prints medians of interleaved rounds.

    python benchmarks/bed.py [--out benchmarks/results/bed.json]
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly, sosfilt

from ecgedge import __version__
from ecgedge.bundle import Bundle, load_bundle
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal.front_end import filter_cascade
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants

RATE_HZ = 500.0
SECONDS = 300
HOPS_S = (5.0, 1.0)
ROUNDS = 5


def straightforward(samples_mv: NDArray[np.float32], bundle: Bundle, variants: Variants) -> None:
    """Filter and run each window on its own."""
    manifest = bundle.manifest
    sections, _ = filter_cascade(manifest.front_end)
    choice = variants.choose(STANDARD_LEADS)
    if choice is None:
        raise SystemExit("the bundle has no 12-lead variant")
    window, hop = round(manifest.window_s * RATE_HZ), round(manifest.hop_s * RATE_HZ)
    for end in range(window, samples_mv.shape[1] + 1, hop):
        raw = samples_mv[:, end - window : end].astype(np.float64)
        at_250 = resample_poly(raw, 1, 2, axis=1)
        filtered = sosfilt(sections, at_250, axis=1).clip(-5.0, 5.0)
        choice[1].run(filtered[np.newaxis].astype(np.float32))


def streaming(samples_mv: NDArray[np.float32], bundle: Bundle, variants: Variants) -> None:
    """Push the same samples through a bed, a second at a time."""
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants)
    step = round(RATE_HZ)
    for start in range(0, samples_mv.shape[1], step):
        bed.push(samples_mv[:, start : start + step], t_s=start / RATE_HZ)


def timed(work: Callable[[], None]) -> float:
    """Return the CPU seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(
    samples_mv: NDArray[np.float32], bundle: Bundle, variants: Variants, hop_s: float
) -> dict[str, float]:
    """Return how many times real time each pipeline runs, and the median ratio of interleaved rounds."""
    at_hop = replace(bundle, manifest=replace(bundle.manifest, hop_s=hop_s))
    cases: dict[str, Callable[[], None]] = {
        "straightforward": lambda: straightforward(samples_mv, at_hop, variants),
        "bed": lambda: streaming(samples_mv, at_hop, variants),
    }
    rounds = [{name: timed(case) for name, case in cases.items()} for _ in range(ROUNDS)]
    speeds = {f"{name}_times_real_time": round(SECONDS / median(r[name] for r in rounds)) for name in cases}
    ratio = median(r["straightforward"] / r["bed"] for r in rounds)
    return {**speeds, "bed_against_straightforward": round(ratio, 2)}


def main(arguments: list[str]) -> None:
    """Measure, print, and write JSON if asked."""
    bundle = load_bundle("embedded")
    samples_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    with Variants(bundle, precision="fp32") as variants:
        hops = {f"hop {hop_s:g} s": compare(samples_mv, bundle, variants, hop_s) for hop_s in HOPS_S}
    result = {
        "what": f"{SECONDS} s of 12 leads at 500 Hz, SIMULATED, chunks of 1 s, fp32, one thread",
        **hops,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "ecgedge": __version__,
        "bundle": bundle.id,
    }
    print(json.dumps(result, indent=1))
    if "--out" in arguments:
        Path(arguments[arguments.index("--out") + 1]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
