"""INT8 against fp32 of every lead set of a bundle in ONNX Runtime: agreement, size, time.

Agreement is what the export measured on its tune split; times are medians of interleaved runs, batch 1, one thread.

    python benchmarks/export_cpu.py BUNDLE [--out benchmarks/results/export_cpu.json]
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime

from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner

ROUNDS = 400


def main(arguments: list[str]) -> None:
    """Measure, print, and write JSON if asked."""
    bundle = load_bundle(arguments[0])
    variants = [v for v in bundle.manifest.variants if v.stream is None]
    runners = {v.name: open_runner(bundle, v) for v in variants}
    rng = np.random.default_rng(0)
    window_mv = {
        name: rng.normal(0, 0.2, (1, len(r.leads), 2500)).astype(np.float32) for name, r in runners.items()
    }
    times_ms: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.run(window_mv[name])
            times_ms[name].append((time.perf_counter() - started) * 1e3)
    rows = [
        {
            "variant": v.name,
            "bytes": len(bundle.contents[v.file]),
            "median_ms": round(statistics.median(times_ms[v.name]), 3),
            **{name: float(f"{value:.6g}") for name, value in v.results.items()},
        }
        for v in variants
    ]
    result = {
        "what": "ONNX Runtime against torch on the tune split of the bundle's data set; batch 1, one thread",
        "trained_on": bundle.manifest.provenance.trained_on,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}",
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    if "--out" in arguments:
        Path(arguments[arguments.index("--out") + 1]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
