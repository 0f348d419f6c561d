"""The ONNX Runtime runner and the self-test, on hand-made models whose answers are known."""

import builtins

import numpy as np
import onnx
import pytest
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
from ecgedge.errors import EngineError, UsageError
from ecgedge.policy import AlarmPolicy
from ecgedge.runtime import OrtRunner, open_runner, self_test
from ecgedge.runtime.selftest import Expected, SelfTest, read_self_test, write_self_test

T = 40
RNG = np.random.default_rng(0)
COUNTS = RNG.integers(-4096, 4096, (3, 12, T)).astype(np.int16)
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


def test_run():
    with OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner:
        assert runner.name == "I,II/fp32"
        assert runner.leads == ("I", "II")
        assert runner.precision == "fp32"
        assert runner.window_samples == T
        assert runner.output_names == ("p_gt_18", "embedding")
        ecg = RNG.normal(size=(5, 2, T)).astype(np.float32)
        outputs = runner.run(ecg)
        assert list(outputs) == ["p_gt_18", "embedding"]
        np.testing.assert_allclose(outputs["p_gt_18"], ecg.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_allclose(outputs["embedding"], ecg.mean(axis=2), atol=1e-6)
        np.testing.assert_array_equal(runner.run(ecg[:, :, None])["embedding"], outputs["embedding"])


def test_twelve_leads_are_called_12():
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    with OrtRunner(mean_model(12), leads=leads, precision="int8") as runner:
        assert runner.name == "12/int8"


def test_a_slice_of_a_larger_array():
    """Rows picked out of a bed's buffer are not contiguous."""
    ecg = RNG.normal(size=(1, 12, T)).astype(np.float32)
    with OrtRunner(mean_model(), leads=("I", "V6"), precision="fp32") as runner:
        picked = ecg[:, ::11]
        np.testing.assert_allclose(runner.run(picked)["embedding"], picked.mean(axis=2), atol=1e-6)


@pytest.mark.parametrize(
    ("ecg", "message"),
    [
        (np.zeros((1, 2, T)), "float64"),
        (np.zeros((1, 3, T), np.float32), r"shape \(1, 3, 40\)"),
        (np.zeros((1, 2, T + 1), np.float32), r"give \(batch, 2, 40\)"),
        (np.zeros((2, T), np.float32), "shape"),
        (np.zeros((0, 2, T), np.float32), "shape"),
        (np.zeros((1, 2, 2, T), np.float32), "shape"),
    ],
)
def test_wrong_input(ecg, message):
    with (
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner,
        pytest.raises(EngineError, match=message),
    ):
        runner.run(ecg)


def test_not_a_number_does_not_pass():
    ecg = np.zeros((2, 2, T), np.float32)
    ecg[1, 0, 3] = np.nan
    with (
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner,
        pytest.raises(EngineError, match="output p_gt_18 holds 1 values that are not finite"),
    ):
        runner.run(ecg)


def test_closed():
    runner = OrtRunner(mean_model(), leads=("I", "II"), precision="fp32")
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 2, T), np.float32))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "ONNX Runtime .* refuses the model"),
        (mean_model(3), r"expected one input 'ecg_mv', float32, \(batch, 2, 1, samples\)"),
        (mean_model(2, name="x"), "takes x tensor"),
        (mean_model(2, rank=3), "expected one input"),
    ],
    ids=["bytes", "leads", "name", "rank"],
)
def test_wrong_model(model, message):
    with pytest.raises(EngineError, match=message):
        OrtRunner(model, leads=("I", "II"), precision="fp32")


def test_missing_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[ort\]'"):
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32")


def test_self_test_passes(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb")
    with open_runner(bundle, variant) as runner:
        assert self_test(runner, bundle) is None


def test_self_test_finds_another_function(tmp_path):
    """The hashes of this bundle agree: only running it tells that it computes something else."""
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01)
    with pytest.raises(EngineError, match=r"self-test of I,II/fp32: p_gt_18 differs from its reference by"):
        open_runner(bundle, variant)


def test_self_test_checks_every_output(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01, drop=("p_gt_18",))
    open_runner(bundle, variant).close()


def test_self_test_without_reference(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", variant_name="II/fp32")
    with pytest.raises(EngineError, match="no reference for I,II/fp32"):
        open_runner(bundle, variant)


def test_self_test_with_an_output_that_is_missing(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb")

    class Silent(OrtRunner):
        def run(self, ecg_mv):
            return {"embedding": super().run(ecg_mv)["embedding"]}

    with pytest.raises(EngineError, match="p_gt_18 is missing"):
        self_test(Silent.from_variant(bundle, variant), bundle)


def test_self_test_file_round_trip():
    test = SelfTest(COUNTS, {"I,II/fp32": Expected(reference([0, 1]), {"p_gt_18": 1e-5, "embedding": 2e-4})})
    data = write_self_test(test)
    assert data == write_self_test(test)
    back = read_self_test(data)
    np.testing.assert_array_equal(back.counts, COUNTS)
    assert back.variants["I,II/fp32"].tolerance == {"p_gt_18": 1e-5, "embedding": 2e-4}
    np.testing.assert_array_equal(
        back.variants["I,II/fp32"].reference["embedding"], reference([0, 1])["embedding"]
    )


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut", b"\x80\x04K\x01."])
def test_self_test_file_damaged(data):
    with pytest.raises(EngineError, match=r"selftest\.npz cannot be read"):
        read_self_test(data)
