"""The streaming step against running the whole window again each 1.024 s, fp32 and INT8, side by side in one run.

Two leads, random weights (time does not depend on them), INT8 calibrated on a SIMULATED patient; ONNX Runtime, one
thread. A step is a call of StepRunner: states in and out of its pool included. All cases take turns, so a busy machine
slows all alike; ratios are medians over rounds. With `--clock cpu` the thread's own time counts, for machines on which
others run, too; such figures are no latencies.

Beside them stands the time of reading as many bytes as the step's fp32 weights once, by one thread: a
step of one bed cannot be faster than that while they do not fit into the cache.

The weights of ResNet18 lie in pages of 2 MB (`ecgedge.runtime.memory.large_pages`): a step of one bed reads all of
them once, and with pages of 4 KB it would wait for address translation. Those of EdgeNet fit into the cache.

    python benchmarks/stream_step.py [--rounds 30] [--beds 1,4,16,64] [--clock wall|cpu]
        [--networks "resnet18,edgenet s"] [--out FILE.json]
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.bundle import VariantSpec
from ecgedge.runtime import OrtRunner, StepRunner
from ecgedge.sim import Simulator
from ecgedge_export.calibration import tensor_ranges
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, export_step_onnx
from ecgedge_export.quant_plan import make_plan
from ecgedge_export.quantize import quantize, quantized_file
from ecgedge_export.step_network import CHUNK_SAMPLES, step_network
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe

LEADS = ("I", "II")
WINDOW = 2500
RATE_HZ = 250.0
HOP_S = CHUNK_SAMPLES / RATE_HZ
NETWORKS = {
    "resnet18": ("jeong2023", []),
    "edgenet m": ("sim_mpcwp", ["encoder.size=m"]),
    "edgenet s": ("sim_mpcwp", []),
}
PRECISIONS = ("fp32", "int8")
READING = "reading the weights"
CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


@dataclass(frozen=True)
class Forms:
    """One network's files by precision: the window form, the streaming form and its specification."""

    window: dict[str, bytes]
    stream: dict[str, bytes]
    variant: VariantSpec


def forms(recipe: str, settings: list[str]) -> Forms:
    """Export both forms of a causal network in both precisions."""
    model = build_model(load_recipe(recipe, [*settings, "encoder.causal=true"])).eval()
    folded = fold_lead_set(model, LEADS, None)
    window = export_onnx(
        folded, n_leads=len(LEADS), window_samples=WINDOW, output_names=folded.output_names, metadata={}
    )
    network = step_network(model, LEADS, None, window_samples=WINDOW)
    stream = export_step_onnx(network, metadata={})
    ecg_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(16 * WINDOW).astype(np.float32)
    windows = np.ascontiguousarray(ecg_mv.reshape(12, 16, WINDOW).transpose(1, 0, 2))
    window8 = quantize(window, windows, leads=LEADS, flavour="cpu")
    ranges = tensor_ranges(stream, windows, leads=LEADS, stream=network.spec)
    stream8 = quantized_file(stream, make_plan(stream, ranges, flavour="cpu"))
    return Forms(
        {"fp32": _bytes(window), "int8": _bytes(window8)},
        {"fp32": _bytes(stream), "int8": _bytes(stream8)},
        VariantSpec(LEADS, "fp32", "", 0, 0, 0.0, stream=network.spec),
    )


def _bytes(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString()
    return data


def timed(call: Callable[[], Any], clock: Callable[[], float]) -> Callable[[], float]:
    """Return a case for `take_turns`."""

    def run() -> float:
        began = clock()
        call()
        return clock() - began

    return run


def measure(made: Forms, beds: int, *, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Return seconds a round of each case, for all beds together."""
    rng = np.random.default_rng(0)
    chunk = _noise(rng, beds, CHUNK_SAMPLES)
    window = _noise(rng, beds, WINDOW)
    cases: dict[str, Callable[[], float]] = {}
    for precision in PRECISIONS:
        whole = OrtRunner(made.window[precision], leads=LEADS, precision=precision)
        step = StepRunner(made.stream[precision], made.variant, beds=beds)
        cases[f"window {precision}"] = timed(lambda r=whole: r.run(window), clock)
        cases[f"step {precision}"] = timed(lambda r=step: r.step(range(beds), chunk), clock)
    weights = rng.normal(size=len(made.stream["fp32"]) // 4).astype(np.float32)
    # A device holds no exporter: a search for cycles of dead objects through its graphs would stop some step.
    gc.collect()
    gc.freeze()
    cases[READING] = timed(lambda: weights.dot(weights), clock)
    return common.take_turns(cases, rounds=rounds, warm_up=3)


def _noise(rng: np.random.Generator, beds: int, n: int) -> NDArray[np.float32]:
    return rng.normal(0, 0.2, (beds, len(LEADS), n)).astype(np.float32)


def summary(said: dict[str, list[float]], beds: int) -> dict[str, float]:
    """Return ratios, beds a core, and how steady the step is."""
    row = {
        "window over step, fp32": common.ratio(said, "window fp32", "step fp32"),
        "window over step, int8": common.ratio(said, "window int8", "step int8"),
        "step fp32 over step int8": common.ratio(said, "step fp32", "step int8"),
        "window fp32 over step int8": common.ratio(said, "window fp32", "step int8"),
    }
    row["step fp32 over reading the weights"] = common.ratio(said, "step fp32", READING)
    for name, seconds in said.items():
        if name == READING:
            continue
        row[f"{name}, ms a bed"] = statistics.median(seconds) * 1e3 / beds
        row[f"{name}, beds a core"] = HOP_S * beds / statistics.median(seconds)
    for precision in PRECISIONS:
        p50, p99 = np.percentile(said[f"step {precision}"], [50, 99])
        row[f"step {precision}, p99 over p50"] = float(p99 / p50)
    return {name: float(f"{value:.4g}") for name, value in row.items()}


def main(arguments: list[str]) -> None:
    """Measure, print, and write JSON if asked."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    clock = CLOCKS[options.get("--clock", "wall")]
    counts = [int(n) for n in options.get("--beds", "1,4,16,64").split(",")]
    chosen = options.get("--networks", ",".join(NETWORKS)).split(",")
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in chosen:
        made = forms(*NETWORKS[name])
        rows[name] = {}
        for beds in counts:
            said = measure(made, beds, rounds=int(options.get("--rounds", "30")), clock=clock)
            rows[name][f"{beds} beds"] = summary(said, beds)
            print(json.dumps({name: {f"{beds} beds": rows[name][f"{beds} beds"]}}, indent=1), flush=True)
    result = {
        "what": "streaming step against the whole window each 1.024 s; 2 leads, one thread, random weights",
        "clock": options.get("--clock", "wall"),
        **common.machine("numpy", "onnxruntime", "torch"),
        "rows": rows,
    }
    if "--out" in options:
        common.write_json(Path(options["--out"]), result)


if __name__ == "__main__":
    main(sys.argv[1:])
