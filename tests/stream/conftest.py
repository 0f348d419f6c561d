"""A bundle whose model is a formula, so that every number a bed says can be computed by hand.

mpcwp_mmhg = 300 * mean |ecg| over the variant's leads; p_gt_18 = min(1, mpcwp / 40); p_gt_15 = min(1, mpcwp / 30).
It runs on the real engine: a real ONNX file in ONNX Runtime.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ecgedge.bundle import (
    RESEARCH_USE_ONLY,
    Envelope,
    FrontEndSpec,
    Manifest,
    OutputSpec,
    Provenance,
    VariantSpec,
    load_bundle,
    write_bundle,
)
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.runtime.selftest import Expected, SelfTest, write_self_test

OUTPUTS = ("mpcwp_mmhg", "p_gt_15", "p_gt_18")
LEAD_SETS = (STANDARD_LEADS, ("I", "II"), ("II",))


def _formula(ecg_mv):
    mpcwp = 300.0 * np.abs(ecg_mv).mean(axis=(1, 2))
    return {
        "mpcwp_mmhg": mpcwp.astype(np.float32),
        "p_gt_15": np.minimum(1.0, mpcwp / 30.0).astype(np.float32),
        "p_gt_18": np.minimum(1.0, mpcwp / 40.0).astype(np.float32),
    }


@pytest.fixture(scope="session")
def formula():
    """What the model computes, in numpy: (B, K, T) to outputs by name."""
    return _formula


def _model(n_leads):
    def constant(name, values):
        return numpy_helper.from_array(np.asarray(values), name)

    nodes = [
        helper.make_node("Abs", ["ecg_mv"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["mpcwp_mmhg"]),
        helper.make_node("Div", ["mpcwp_mmhg", "thirty"], ["ratio_15"]),
        helper.make_node("Min", ["ratio_15", "one"], ["p_gt_15"]),
        helper.make_node("Div", ["mpcwp_mmhg", "forty"], ["ratio_18"]),
        helper.make_node("Min", ["ratio_18", "one"], ["p_gt_18"]),
    ]
    numbers = {"factor": 300.0, "thirty": 30.0, "forty": 40.0, "one": 1.0}
    graph = helper.make_graph(
        nodes,
        "formula",
        [helper.make_tensor_value_info("ecg_mv", TensorProto.FLOAT, ["batch", n_leads, 1, 2500])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in OUTPUTS],
        [constant(name, np.float32(value)) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def formula_bundle(tmp_path_factory):
    counts = np.random.default_rng(0).integers(-4000, 4000, (3, 12, 2500)).astype(np.int16)
    variants, expected, files = [], {}, {"card.md": b"# formula\n"}
    for leads in LEAD_SETS:
        folder = "12" if len(leads) == 12 else "_".join(leads)
        variant = VariantSpec(leads, "fp32", f"variants/{folder}/fp32/model.onnx", 1, 1, 1e-3, 8.0, 0.9)
        rows = [STANDARD_LEADS.index(lead) for lead in leads]
        reference = _formula(counts[:, rows].astype(np.float32) * np.float32(2.0**-12))
        expected[variant.name] = Expected(reference, dict.fromkeys(reference, 1e-3))
        files[variant.file] = _model(len(leads))
        variants.append(variant)
    files["selftest.npz"] = write_self_test(SelfTest(counts, expected))
    manifest = Manifest(
        schema_version=1,
        name="formula",
        target="cpu",
        window_s=10.0,
        hop_s=5.0,
        front_end=FrontEndSpec(),
        outputs=tuple(OutputSpec(name, "value", 1, name) for name in OUTPUTS),
        variants=tuple(variants),
        alarm_policy=AlarmPolicy(persistence_s=60.0, recovery_window_s=60.0),
        envelope=Envelope(STANDARD_LEADS, (0.01,) * 12, (2.0,) * 12),
        results=(),
        provenance=Provenance(
            "nothing: a formula for tests", simulated=False, recipe_toml="", dataset_sha256="", versions={}
        ),
        intended_use=RESEARCH_USE_ONLY,
        files={},
    )
    path = tmp_path_factory.mktemp("bundle") / "formula.ecgb"
    write_bundle(path, manifest=manifest, files=files)
    return load_bundle(path)
