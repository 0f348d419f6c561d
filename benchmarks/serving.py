"""ONNX Runtime serving a model against torch serving the same model: cold start and memory of a fresh process.

The torch side is the leanest that there is: a traced module, which needs torch alone and none of our training code;
it is not verified and not self-tested. Ours is `OrtRunner` on the exported file; "bundle" is what a device really
does: every byte checked, self-test passed, first answer (the embedded bundle, EdgeNet with other weights). "imports
alone" is numpy and onnxruntime without a model: no cold start here can be shorter.

Weights are random: what is measured does not depend on them. 12 leads, 10 s at 250 Hz, one thread, interleaved. Both
sides find their Python modules compiled (`ecgedge.bench.children`): without, every import costs more, and torch has
most of them. "cpu" is the process's own CPU time until its answer, which a busy machine changes less.

    python benchmarks/serving.py [--rounds 7] [--out benchmarks/results/serving.json]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, ratio, write_json

from ecgedge.bench.children import Children
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.quantize import quantize
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe

SAMPLES = 2500
RECIPES = {"edgenet": "ptbxl_supervised", "resnet18": "jeong2023"}

TAIL = """
import json, time
cpu_s = time.process_time()
with open("/proc/self/status") as status:
    said = dict(line.split(":", 1) for line in status)
mb = {name: int(said[key].split()[0]) * 1024 / 1e6 for name, key in (("rss_mb", "VmRSS"), ("peak_rss_mb", "VmHWM"))}
print(json.dumps({**mb, "cpu_s": cpu_s}), flush=True)
"""
"""Nothing of ours is imported here: every case would pay for it."""
TORCH = """
import sys, torch
torch.set_num_threads(1)
with torch.inference_mode():
    model = torch.jit.load(sys.argv[1])
    model(torch.zeros(1, 12, 1, 2500))
"""
ORT = """
import sys
import numpy as np
from pathlib import Path
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime import OrtRunner
runner = OrtRunner(Path(sys.argv[1]).read_bytes(), leads=STANDARD_LEADS, precision=sys.argv[2])
runner.run(np.zeros((1, 12, 2500), np.float32))
"""
IMPORTS = """
import numpy, onnxruntime
"""
BUNDLE = """
import numpy as np
from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
bundle = load_bundle("embedded")
runner = open_runner(bundle, bundle.manifest.variants[0])
runner.run(np.zeros((1, 12, 2500), np.float32))
"""


@dataclass(frozen=True)
class Files:
    """One model as files."""

    traced: Path
    fp32: Path
    int8: Path


def make_files(name: str, folder: Path) -> Files:
    """Build, trace, export and quantize one encoder with its heads."""
    torch.manual_seed(0)
    network = fold_lead_set(build_model(load_recipe(RECIPES[name])).eval(), STANDARD_LEADS, None)
    files = Files(folder / f"{name}.pt", folder / f"{name}.onnx", folder / f"{name}-int8.onnx")
    with torch.inference_mode():
        torch.jit.trace(network, torch.zeros(1, 12, 1, SAMPLES), check_trace=False).save(str(files.traced))
    exact = export_onnx(
        network,
        n_leads=12,
        window_samples=SAMPLES,
        output_names=network.output_names,
        metadata={"leads": "12", "precision": "fp32"},
    )
    files.fp32.write_bytes(exact.SerializeToString())
    ecg_mv = Simulator("stable", seed=1, rate_hz=250.0).read(16 * SAMPLES)
    windows_mv = np.ascontiguousarray(ecg_mv.reshape(12, 16, SAMPLES).swapaxes(0, 1))
    int8 = quantize(exact, windows_mv, leads=STANDARD_LEADS, flavour="cpu")
    files.int8.write_bytes(int8.SerializeToString())
    return files


def commands(name: str, files: Files) -> dict[str, tuple[str, ...]]:
    """Return what each case runs."""
    cases = {
        "torch": ("-c", TORCH + TAIL, str(files.traced)),
        "ort fp32": ("-c", ORT + TAIL, str(files.fp32), "fp32"),
        "ort int8": ("-c", ORT + TAIL, str(files.int8), "int8"),
        "imports alone": ("-c", IMPORTS + TAIL),
    }
    return {**cases, "bundle": ("-c", BUNDLE + TAIL)} if name == "edgenet" else cases


def measure(name: str, folder: Path, *, rounds: int) -> list[dict[str, Any]]:
    """Return each case's medians, and its ratios to torch."""
    cases = commands(name, make_files(name, folder))
    figures = ("cold_start_s", "cpu_s", "rss_mb", "peak_rss_mb")
    seen: dict[str, dict[str, list[float]]] = {figure: {case: [] for case in cases} for figure in figures}
    with Children() as children:
        for _ in range(rounds):
            for case, command in cases.items():
                answer = children.first_line(command, kind=(case,))
                seen["cold_start_s"][case].append(answer.seconds)
                for figure in figures[1:]:
                    seen[figure][case].append(answer.said[figure])
    return [
        {
            "model": name,
            "case": case,
            **{figure: round(statistics.median(said[case]), 4) for figure, said in seen.items()},
            "against_torch": {figure: round(ratio(said, case, "torch"), 3) for figure, said in seen.items()},
        }
        for case in cases
    ]


def main(arguments: list[str]) -> None:
    """Measure, print, and write JSON if asked."""
    rounds = int(arguments[arguments.index("--rounds") + 1]) if "--rounds" in arguments else 7
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in RECIPES for row in measure(name, Path(folder), rounds=rounds)]
    result = {
        "what": "a fresh process until its first answer, 12x2500, batch 1, one thread; random weights",
        "rounds": rounds,
        "rows": rows,
        **machine("ecgedge", "torch", "onnxruntime", "numpy"),
    }
    print(json.dumps(result, indent=1))
    if "--out" in arguments:
        write_json(Path(arguments[arguments.index("--out") + 1]), result)


if __name__ == "__main__":
    main(sys.argv[1:])
