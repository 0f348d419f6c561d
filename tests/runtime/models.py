"""Hand-made models whose answers are known, for every engine."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from ecgedge.bundle import (
    SCHEMA_VERSION,
    Envelope,
    FrontEndSpec,
    Manifest,
    OutputSpec,
    Provenance,
    VariantSpec,
    load_bundle,
    write_bundle,
)
from ecgedge.policy import AlarmPolicy
from ecgedge.runtime.selftest import Expected, SelfTest, write_self_test

T = 40
COUNTS = np.random.default_rng(0).integers(-4096, 4096, (3, 12, T)).astype(np.int16)
LSB_MV = FrontEndSpec().lsb_mv


def mean_model(n_leads=2, *, name="ecg_mv", rank=4, scale=1.0):
    """p = scale * mean over leads and time (B,), embedding = mean over time (B, n_leads)."""
    shape = {4: ["batch", n_leads, 1, T], 3: ["batch", n_leads, T]}[rank]
    axes = helper.make_tensor("axes", TensorProto.INT64, [rank - 2], list(range(2, rank)))
    all_axes = helper.make_tensor("all", TensorProto.INT64, [rank - 1], list(range(1, rank)))
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [], [scale])
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], ["embedding"], keepdims=0),
        helper.make_node("ReduceMean", [name, "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["p_gt_18"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("p_gt_18", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", n_leads]),
        ],
        [axes, all_axes, factor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def reference(rows):
    ecg = COUNTS[:, rows].astype(np.float32) * np.float32(LSB_MV)
    return {"p_gt_18": ecg.mean(axis=(1, 2)), "embedding": ecg.mean(axis=2)}


def make_bundle(path, *, scale=1.0, tolerance=1e-5, drop=(), variant_name="I,II/fp32"):
    variant = VariantSpec(("I", "II"), "fp32", "variants/I_II/fp32/model.onnx", 0, 0, tolerance)
    expected = {k: v for k, v in reference([0, 1]).items() if k not in drop}
    test = SelfTest(COUNTS, {variant_name: Expected(expected, dict.fromkeys(expected, tolerance))})
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="mean",
        target="cpu",
        window_s=T / 250,
        hop_s=5.0,
        front_end=FrontEndSpec(),
        outputs=(OutputSpec("p_gt_18", "probability", 1, "mean"),),
        variants=(variant,),
        alarm_policy=AlarmPolicy(),
        envelope=Envelope(),
        results=(),
        provenance=Provenance("nothing", simulated=True, recipe_toml="", dataset_sha256="", versions={}),
        intended_use="test",
        files={},
    )
    files = {variant.file: mean_model(scale=scale), "selftest.npz": write_self_test(test)}
    write_bundle(path, manifest=manifest, files=files)
    return load_bundle(path), variant
