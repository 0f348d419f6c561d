"""What one catheter value is worth: errors of estimates before and after it, on SIMULATED patients.

The embedded bundle (trained on simulated patients, other seeds) estimates a stable patient for an hour of stream time.
After ten minutes the bed is told the true pressure as a catheter would read it, +-2 mmHg. Errors are those of the valid
estimates of the rest of the hour, with and without; intervals resample patients.

    python benchmarks/one_point.py [--patients 60] [--out benchmarks/results/one_point.json]
"""

from __future__ import annotations

import json
from pathlib import Path

import common
import numpy as np
import typer
from numpy.typing import NDArray

from ecgedge.alarms import Reading
from ecgedge.bundle import Bundle, load_bundle
from ecgedge.errors import UsageError
from ecgedge.events import Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants

RATE_HZ = 250.0
AT_S, END_S, CHUNK_S = 600.0, 1800.0, 60.0
FIRST_SEED = 3000
"""Seeds below took part in training, in choosing the policy, or in the cohort of alarms."""


def errors(seed: int, bundle: Bundle, variants: Variants) -> NDArray[np.float64] | None:
    """Return, of each estimate after the reading: its error as said and as shown, and whether its interval holds.

    (n, 3); None for a patient whose signal allows no calibration.
    """
    simulator, rng = Simulator("stable", seed=seed, rate_hz=RATE_HZ), np.random.default_rng(seed)
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants)
    rows: list[tuple[float, float, bool]] = []
    offset_mmhg = 0.0
    for k in range(round(END_S / CHUNK_S)):
        t_s = k * CHUNK_S
        if t_s == AT_S:
            read = simulator.mpcwp_mmhg(t_s) + rng.normal(0.0, 2.0)
            try:
                (event,) = bed.calibrate(t_s, reading=Reading(float(np.clip(read, 1.0, 60.0)), "script"))
            except UsageError:
                return None
            offset_mmhg = event.calibration.offset_mmhg
        for event in bed.push(simulator.read(round(CHUNK_S * RATE_HZ)), t_s=t_s):
            if isinstance(event, Estimate) and event.validity == "valid" and event.t_s > AT_S + 10.0:
                truth, shown = simulator.mpcwp_mmhg(event.t_s), event.mpcwp_mmhg
                low, high = event.interval_mmhg
                rows.append((shown + offset_mmhg - truth, shown - truth, low <= truth <= high))
    return np.array(rows, np.float64) if rows else None


def figures(patients: list[NDArray[np.float64]]) -> dict[str, float]:
    """Return RMSE as said and as shown, and the share of intervals that hold; every patient weighs the same."""
    squares = np.mean([np.mean(p[:, :2] ** 2, axis=0) for p in patients], axis=0)
    rmse = np.sqrt(squares)
    return {
        "rmse as said": float(rmse[0]),
        "rmse as shown": float(rmse[1]),
        "ratio": float(rmse[1] / rmse[0]),
        "coverage as shown": float(np.mean([p[:, 2].mean() for p in patients])),
    }


def main(patients: int = 60, out: Path | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    bundle = load_bundle("embedded")
    with Variants(bundle) as variants:
        found = [errors(FIRST_SEED + k, bundle, variants) for k in range(patients)]
    served = [p for p in found if p is not None]
    rng = np.random.default_rng(0)
    drawn = [figures([served[k] for k in rng.integers(len(served), size=len(served))]) for _ in range(1000)]
    result = {
        "benchmark": "one_point",
        **common.machine("numpy", "onnxruntime", "ecgedge"),
        "simulated": True,
        "bundle": bundle.id,
        "patients": len(served),
        "not calibrated": patients - len(served),
        "reading sd, mmHg": 2.0,
        "figures": {
            name: [value, *np.percentile([d[name] for d in drawn], [2.5, 97.5]).tolist()]
            for name, value in figures(served).items()
        },
    }
    print(json.dumps(result, indent=1))
    if out:
        common.write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
