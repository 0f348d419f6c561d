"""Models and bundles made by hand, whose answers are known, for every engine and for the bed."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ecgedge.bundle import (
    SCHEMA_VERSION,
    Envelope,
    FrontEndSpec,
    Manifest,
    OutputSpec,
    Provenance,
    StreamSpec,
    VariantSpec,
    load_bundle,
    write_bundle,
)
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.runtime.selftest import Expected, SelfTest, joined_stream, write_self_test

LSB_MV = FrontEndSpec().lsb_mv
T = 40
COUNTS = np.random.default_rng(0).integers(-4096, 4096, (3, 12, T)).astype(np.int16)

C, KEPT = 8, 11
"""A chunk of the streaming form, and how many samples before it count."""
STREAM = StreamSpec(
    chunk_samples=C,
    window_frames=1,
    frame_samples=C + KEPT,
    ready_after_samples=24,
    exact_after_samples=24,
    reprime_s=1.0,
    state_names=("state_00",),
    state_shapes=((2, KEPT),),
)


def onnx_file(nodes, inputs, outputs, constants, *, opset=18):
    """Bytes of a checked model; inputs and outputs are float32 shapes by name, constants arrays by name."""

    def values(shapes):
        return [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in shapes.items()]

    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "by hand", values(inputs), values(outputs), weights)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9 if opset < 18 else 10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def mean_model(n_leads=2, *, name="ecg_mv", rank=4, scale=1.0):
    """p = scale * mean over leads and time (B,), embedding = mean over time (B, n_leads)."""
    shape = {4: ["batch", n_leads, 1, T], 3: ["batch", n_leads, T]}[rank]
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], ["embedding"], keepdims=0),
        helper.make_node("ReduceMean", [name, "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["p_gt_18"]),
    ]
    constants = {
        "axes": np.arange(2, rank),
        "all": np.arange(1, rank),
        "factor": np.float32(scale),
    }
    outputs = {"p_gt_18": ["batch"], "embedding": ["batch", n_leads]}
    return onnx_file(nodes, {name: shape}, outputs, constants)


def stream_model(*, chunk=C, kept=KEPT, state="state_00"):
    """Embedding (B, 2) = mean of the last chunk + kept samples of each lead; p = their mean (B,)."""
    shape = [1, 2, "batch", kept]
    nodes = [
        helper.make_node("Transpose", ["ecg_mv"], ["rows"], perm=[2, 1, 0, 3]),
        helper.make_node("Concat", [state, "rows"], ["joined"], axis=3),
        helper.make_node("Slice", ["joined", "start", "end", "time"], ["next_00"]),
        helper.make_node("ReduceMean", ["joined", "outer"], ["means"], keepdims=0),
        helper.make_node("Transpose", ["means"], ["embedding"], perm=[1, 0]),
        helper.make_node("ReduceMean", ["embedding", "one"], ["p"], keepdims=0),
    ]
    numbers = {"start": [-kept], "end": [2**31], "time": [3], "outer": [0, 3], "one": [1]}
    return onnx_file(
        nodes,
        {"ecg_mv": ["batch", 2, 1, chunk], state: shape},
        {"p": ["batch"], "embedding": ["batch", 2], "next_00": shape},
        {name: np.array(values, np.int64) for name, values in numbers.items()},
    )


def stream_means(stream_mv):
    """Mean of the last 19 samples of each lead after each chunk of (2, N), zeros before the first."""
    padded = np.pad(stream_mv, ((0, 0), (KEPT, 0)))
    ends = range(KEPT + C, padded.shape[1] + 1, C)
    return np.array([padded[:, end - C - KEPT : end].mean(axis=1) for end in ends])


def reference(rows):
    ecg = to_mv(COUNTS[:, rows])
    return {"p_gt_18": ecg.mean(axis=(1, 2)), "embedding": ecg.mean(axis=2)}


def to_mv(counts):
    return counts.astype(np.float32) * np.float32(LSB_MV)


def make_manifest(name, variants, outputs, **changes):
    """Manifest of a bundle of nothing but `variants`; `changes` are fields of it."""
    fields = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "target": "cpu",
        "window_s": T / 250,
        "hop_s": 5.0,
        "front_end": FrontEndSpec(),
        "outputs": tuple(OutputSpec(output, "value", 1, output) for output in outputs),
        "variants": tuple(variants),
        "alarm_policy": AlarmPolicy(),
        "envelope": Envelope(),
        "results": (),
        "provenance": Provenance("nothing", simulated=True, recipe_toml="", dataset_sha256="", versions={}),
        "intended_use": "test",
        "files": {},
    }
    return Manifest(**{**fields, **changes})


def put_bundle(path, manifest, models, counts, expected):
    """Write a bundle with its self-test: models by variant name, known answers by variant name; return it loaded."""
    known = {v.name: Expected(expected[v.name], dict.fromkeys(expected[v.name], v.tolerance)) for v in manifest.variants
             if v.name in expected}  # fmt: skip
    files = {variant.file: models[variant.name] for variant in manifest.variants}
    files["selftest.npz"] = write_self_test(SelfTest(counts, known))
    write_bundle(path, manifest=manifest, files=files)
    return load_bundle(path)


def make_bundle(path, *, scale=1.0, drop=(), known=True):
    """Bundle of `mean_model` for I,II and its variant; `scale` is not what its self-test knows."""
    variant = VariantSpec(("I", "II"), "fp32", "variants/I_II/fp32/model.onnx", 0, 0, 1e-5)
    expected = {k: v for k, v in reference([0, 1]).items() if k not in drop}
    manifest = make_manifest("mean", [variant], ["p_gt_18"])
    models = {variant.name: mean_model(scale=scale)}
    return put_bundle(path, manifest, models, COUNTS, {variant.name: expected} if known else {}), variant


def make_stream_bundle(path, *, window=True, wrong=()):
    """Bundle of `stream_model` for I,II, beside `mean_model` unless the streaming form is to be alone.

    `wrong` are names of further window forms whose file is not what the self-test knows.
    """
    forms = [
        VariantSpec(("I", "II"), "fp32", "variants/I_II/fp32/stream/model.onnx", 0, 0, 1e-5, stream=STREAM)
    ]
    means = stream_means(to_mv(joined_stream(COUNTS, STREAM)[:2]))[STREAM.exact_after_samples // C - 1 :]
    expected = {forms[0].name: {"p": means.mean(axis=1), "embedding": means}}
    models = {forms[0].name: stream_model()}
    if window:
        forms.append(VariantSpec(("I", "II"), "fp32", "variants/I_II/fp32/model.onnx", 0, 0, 1e-5))
        expected[forms[1].name], models[forms[1].name] = reference([0, 1]), mean_model()
    for name in wrong:
        leads = tuple(name.partition("/")[0].split(","))
        forms.append(VariantSpec(leads, "fp32", f"variants/{'_'.join(leads)}/fp32/model.onnx", 0, 0, 1e-5))
        expected[name] = reference([STANDARD_LEADS.index(lead) for lead in leads])
        models[name] = mean_model(len(leads), scale=2.0)
    return put_bundle(path, make_manifest("means", forms, ["p_gt_18"]), models, COUNTS, expected)


FORMULA_OUTPUTS = ("mpcwp_mmhg", "p_gt_15", "p_gt_18")


def formula(ecg_mv, *, factor=300.0):
    """mpcwp_mmhg = factor * mean |ecg|; p_gt_18 = min(1, mpcwp / 40); p_gt_15 = min(1, mpcwp / 30)."""
    mpcwp = factor * np.abs(ecg_mv).mean(axis=(1, 2))
    return {
        "mpcwp_mmhg": mpcwp.astype(np.float32),
        "p_gt_15": np.minimum(1.0, mpcwp / 30.0).astype(np.float32),
        "p_gt_18": np.minimum(1.0, mpcwp / 40.0).astype(np.float32),
    }


def formula_model(n_leads, *, factor=300.0):
    """Return `formula` of windows of 2500 samples as an ONNX file."""
    nodes = [
        helper.make_node("Abs", ["ecg_mv"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["mpcwp_mmhg"]),
        helper.make_node("Div", ["mpcwp_mmhg", "thirty"], ["ratio_15"]),
        helper.make_node("Min", ["ratio_15", "one"], ["p_gt_15"]),
        helper.make_node("Div", ["mpcwp_mmhg", "forty"], ["ratio_18"]),
        helper.make_node("Min", ["ratio_18", "one"], ["p_gt_18"]),
    ]
    numbers = {"factor": factor, "thirty": 30.0, "forty": 40.0, "one": 1.0}
    return onnx_file(
        nodes,
        {"ecg_mv": ["batch", n_leads, 1, 2500]},
        {name: ["batch"] for name in FORMULA_OUTPUTS},
        {name: np.float32(value) for name, value in numbers.items()},
        opset=17,
    )


def make_formula_bundle(path, lead_sets, *, factor=300.0, claimed_factor=None, **changes):
    """Bundle of `formula` for each lead set; with `claimed_factor` its self-test expects that one's answers."""
    counts = np.random.default_rng(0).integers(-4000, 4000, (3, 12, 2500)).astype(np.int16)
    variants, expected, models = [], {}, {}
    for leads in lead_sets:
        folder = "12" if len(leads) == 12 else "_".join(leads)
        variant = VariantSpec(leads, "fp32", f"variants/{folder}/fp32/model.onnx", 1, 1, 1e-3, 8.0, 0.9)
        variants.append(variant)
        expected[variant.name] = formula(
            to_mv(counts[:, [STANDARD_LEADS.index(lead) for lead in leads]]), factor=claimed_factor or factor
        )
        models[variant.name] = formula_model(len(leads), factor=factor)
    manifest = make_manifest(
        "formula",
        variants,
        FORMULA_OUTPUTS,
        window_s=10.0,
        alarm_policy=AlarmPolicy(persistence_s=60.0, recovery_window_s=60.0),
        envelope=Envelope(STANDARD_LEADS, (0.01,) * 12, (2.0,) * 12),
        provenance=Provenance("a formula", simulated=False, recipe_toml="", dataset_sha256="", versions={}),
        **changes,
    )
    return put_bundle(path, manifest, models, counts, expected)
