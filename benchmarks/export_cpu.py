"""INT8 against fp32 of every lead set of a bundle in ONNX Runtime: agreement, size, time.

Agreement is what the export measured on its tune split; times are medians of interleaved runs, batch 1, one thread.
With the data set, also on its test split: the centred cosine to fp32, least and median over the records, and the
macro AUROC of the bundle's classes in either precision.

    python benchmarks/export_cpu.py BUNDLE [--data DATASET] [--out benchmarks/results/export_cpu.json]
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

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.leads import format_lead_set, standard_rows
from ecgedge.runtime import OrtRunner, open_runner

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
    on_test = {}
    if "--data" in arguments:
        on_test = test_split(bundle, runners, arguments[arguments.index("--data") + 1])
    result = {
        "what": "ONNX Runtime against torch on the tune split of the bundle's data set; batch 1, one thread",
        "trained_on": bundle.manifest.provenance.trained_on,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}",
        "rows": rows,
        "test_split": on_test,
    }
    print(json.dumps(result, indent=1))
    if "--out" in arguments:
        Path(arguments[arguments.index("--out") + 1]).write_text(json.dumps(result, indent=1) + "\n")


def test_split(bundle: Bundle, runners: dict[str, OrtRunner], data: str) -> dict[str, dict[str, float]]:
    """Return, by lead set, how lower precisions do on the test split beside fp32."""
    from ecgedge_export.compare import centred_cosine, floored_cosine
    from ecgedge_train.dataset import open_dataset
    from ecgedge_train.evaluate.metrics import macro_auroc, point

    dataset = open_dataset(data)
    rows = dataset.select(split="test")
    rows = rows[dataset.presence(rows).all(axis=1)]
    classes = tuple(o.name[2:] for o in bundle.manifest.outputs if o.name[2:] in dataset.info.classes)
    truth, ecg_mv = dataset.labels(classes, rows), dataset.gather(rows)
    known = ~np.isnan(truth).any(axis=1)
    found: dict[str, dict[str, float]] = {}
    for variant in (v for v in bundle.manifest.variants if v.stream is None):
        leads = standard_rows(variant.leads)
        exact = runners[f"{format_lead_set(variant.leads)}/fp32"].run(ecg_mv[:, leads])
        outputs = runners[variant.name].run(ecg_mv[:, leads])
        cosines = centred_cosine(exact["embedding"], outputs["embedding"])
        gated = floored_cosine(exact["embedding"], outputs["embedding"])
        found[variant.name] = {
            "records": float(len(rows)),
            "centred_cosine_min": float(cosines.min()),
            "centred_cosine_gated": float(gated.min()),
            "centred_cosine_median": float(np.median(cosines)),
        }
        if classes:
            scores = np.stack([outputs[f"p_{label}"] for label in classes], axis=1)
            found[variant.name]["macro_auroc"] = float(point(macro_auroc, truth[known], scores[known]))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
