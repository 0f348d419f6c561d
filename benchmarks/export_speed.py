"""How fast exported graphs are on a CPU, as ratios: batch 1, one thread, everything measured in turns in one run.

For ResNet18 and the students (EdgeNet S and M), 12 leads, 2,500 samples, in ONNX Runtime as the device runs it:

- fp32 as exported (rank 4), as a share of the sgemm measured between the runs;
- the same network as Conv1d (rank 3): how much the rank-4 form gains;
- INT8 of the CPU flavour: how much faster than fp32, and as a share of the 8-bit product measured between the runs.

Time is the processor time of the one thread that works: a busy machine takes it off the core, but is not charged.

Weights are random with shaken norms: speed does not depend on them. The products are 1024 x 1024 x 1024, the largest
that stays in the caches of one core.

    python benchmarks/export_speed.py [--rounds 60] [--profile] [--out benchmarks/results/export_speed.json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from common import machine, medians, ratio, take_turns, write_json
from onnx import TensorProto, helper, numpy_helper

from ecgedge.leads import STANDARD_LEADS
from ecgedge_export.calibration import tensor_ranges
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.quant_plan import make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_train.model import EcgModel, build_encoder
from ecgedge_train.recipe import load_recipe

SAMPLES = 2500
GEMM = 1024
NETWORKS = {
    "resnet18": ("jeong2023", []),
    "edgenet_s": ("ptbxl_pclr_rlm", ["encoder.size=s", "encoder.embedding_size=128"]),
    "edgenet_m": ("ptbxl_pclr_rlm", ["encoder.size=m", "encoder.embedding_size=128"]),
}
CALLS = {"resnet18": 1, "edgenet_m": 15, "edgenet_s": 50}
"""A turn is about as long for each as one of the product, so that fetching weights anew counts alike."""
WANTED = {
    "fp32 by sgemm": {"resnet18": 0.85, "edgenet_s": 0.75, "edgenet_m": 0.75},
    "fp32 by Conv1d": {"edgenet_s": 1.7, "edgenet_m": 1.7},
    "int8 by fp32": {"resnet18": 3.5, "edgenet_s": 2.5, "edgenet_m": 2.5},
}


def rank4(recipe: str, settings: list[str]) -> onnx.ModelProto:
    """Return the encoder of a recipe as the exporter writes it; random weights, norms that are no identity."""
    torch.manual_seed(0)
    model = EcgModel(build_encoder(load_recipe(recipe, settings).encoder), {})
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    network = fold_lead_set(model, STANDARD_LEADS, None)
    return export_onnx(
        network, n_leads=12, window_samples=SAMPLES, output_names=network.output_names, metadata={}
    )


def as_conv1d(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network in rank 3: what torch exports from Conv1d."""
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    dims = flat.graph.input[0].type.tensor_type.shape.dim
    del dims[2]
    convolutions = {node.input[1] for node in flat.graph.node if node.op_type == "Conv"}
    for tensor in flat.graph.initializer:
        if tensor.name in convolutions:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :, 0], tensor.name))
    for node in flat.graph.node:
        for attribute in node.attribute if node.op_type in ("Conv", "MaxPool") else ():
            if attribute.name in ("kernel_shape", "strides", "dilations", "pads"):
                values = list(attribute.ints)
                attribute.ints[:] = values[1::2] if attribute.name == "pads" else values[1:]
    onnx.checker.check_model(flat, full_check=True)
    return flat


def ecg_like_mv(windows: int) -> np.ndarray:
    """Return (windows, 12, SAMPLES) of slow noise with a spike a second."""
    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.normal(0, 0.02, (windows, 12, SAMPLES)), axis=2)
    noise -= noise.mean(axis=2, keepdims=True)
    noise[:, :, ::250] += 1.0
    return noise.astype(np.float32)


def session(model: onnx.ModelProto, *, profile: str | None = None) -> onnxruntime.InferenceSession:
    """Open a model as the device's runner does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of a call that works in this thread."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def timed(model: onnx.ModelProto, ecg_mv: np.ndarray, calls: int) -> Callable[[], float]:
    """Return a case: seconds a call."""
    opened = session(model)
    ecg = np.ascontiguousarray(ecg_mv[:, :, None] if len(opened.get_inputs()[0].shape) == 4 else ecg_mv)

    def run() -> None:
        for _ in range(calls):
            opened.run(None, {"ecg_mv": ecg})

    return lambda: cpu_seconds(run) / calls


def product(*, int8: bool) -> Callable[[], float]:
    """Return a case: seconds of one matrix product in ONNX Runtime."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, GEMM, GEMM)).astype(np.float32)
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT)
    if int8:
        a, b = (a * 30 + 128).clip(0, 255).astype(np.uint8), (b * 30).clip(-127, 127).astype(np.int8)
        kinds = (TensorProto.UINT8, TensorProto.INT32)
    node = helper.make_node("MatMulInteger" if int8 else "MatMul", ["a", "b"], ["y"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "product",
        [value("a", kinds[0], [GEMM, GEMM])],
        [value("y", kinds[1], [GEMM, GEMM])],
        [numpy_helper.from_array(b, "b")],
    )
    opened = session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    return lambda: cpu_seconds(lambda: opened.run(None, {"a": a}))


def print_profile(name: str, model: onnx.ModelProto, ecg_mv: np.ndarray) -> None:
    """Print where one network's time goes, operator by operator."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(model, profile=f"{folder}/p")
        for _ in range(100):
            opened.run(None, {"ecg_mv": ecg_mv[:, :, None]})
        events = json.loads(Path(opened.end_profiling()).read_text("utf-8"))
    spent: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent.setdefault(f"{event['args']['op_name']:<20} {event['name']}", []).append(event["dur"])
    for label, values in spent.items():
        print(f"{name:<16} {np.median(values):8.1f} us  {label}")


def main(arguments: list[str]) -> None:
    """Measure, print, and write JSON if asked."""
    given = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    torch.set_num_threads(1)
    window_mv, calibration_mv = ecg_like_mv(1), ecg_like_mv(16)
    cases: dict[str, Callable[[], float]] = {"sgemm": product(int8=False), "gemm8": product(int8=True)}
    macs: dict[str, int] = {}
    for name, (recipe, settings) in NETWORKS.items():
        exact = rank4(recipe, settings)
        plan = make_plan(exact, tensor_ranges(exact, calibration_mv, leads=STANDARD_LEADS), flavour="cpu")
        forms = {"fp32": exact, "conv1d": as_conv1d(exact), "int8": quantized_file(exact, plan)}
        macs[name] = graph_cost(exact).macs
        for form, model in forms.items():
            cases[f"{name} {form}"] = timed(model, window_mv, CALLS[name])
            if "--profile" in given and form != "conv1d":
                print_profile(f"{name} {form}", model, window_mv)
    said = take_turns(cases, rounds=int(given.get("--rounds", "60")), warm_up=3)
    result = {
        "what": "ONNX Runtime, batch 1, one thread, 12 leads, 2,500 samples; medians over rounds of turns",
        **machine("onnxruntime", "torch", "numpy"),
        "median_ms": {name: round(value * 1e3, 4) for name, value in medians(said).items()},
        "ratios": {name: _ratios(said, name, macs[name]) for name in NETWORKS},
        "wanted": WANTED,
    }
    print(json.dumps(result, indent=1))
    if "--out" in given:
        write_json(Path(given["--out"]), result)


def _ratios(said: dict[str, list[float]], name: str, macs: int) -> dict[str, Any]:
    share = macs / GEMM**3
    found = {
        "fp32 by sgemm": share * ratio(said, "sgemm", f"{name} fp32"),
        "fp32 by Conv1d": ratio(said, f"{name} conv1d", f"{name} fp32"),
        "int8 by fp32": ratio(said, f"{name} fp32", f"{name} int8"),
        "int8 by 8-bit product": share * ratio(said, "gemm8", f"{name} int8"),
    }
    return {key: round(value, 3) for key, value in found.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
