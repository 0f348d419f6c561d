"""The OpenVINO runner: the same answers and the same refusals as ONNX Runtime, and no word to anybody."""

import builtins
import subprocess
import sys

import numpy as np
import pytest
from hand_made import T, make_bundle, mean_model

from ecgedge.bundle import load_bundle
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OpenVinoRunner, OrtRunner, open_runner
from ecgedge.runtime.openvino import _openvino

LEADS = ("I", "II")


def test_run():
    ecg = np.random.default_rng(0).normal(size=(5, 2, T)).astype(np.float32)
    with OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32") as runner:
        assert (runner.name, runner.leads, runner.precision) == ("I,II/fp32", LEADS, "fp32")
        assert runner.window_samples == T
        outputs = runner.run(ecg)
        assert list(outputs) == ["p_gt_18", "embedding"]
        np.testing.assert_allclose(outputs["p_gt_18"], ecg.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_allclose(outputs["embedding"], ecg.mean(axis=2), atol=1e-6)
        kept = {name: values.copy() for name, values in outputs.items()}
        runner.run(-ecg)
        for name, values in outputs.items():
            np.testing.assert_array_equal(values, kept[name])  # the next run does not write into it


def test_agrees_with_onnx_runtime_on_the_embedded_bundle():
    """Windows of any kind, not only those of the self-test; fp32 on both sides, so only rounding differs."""
    bundle = load_bundle("embedded")
    rng = np.random.default_rng(1)
    for variant in bundle.manifest.variants:
        ecg = rng.normal(0.0, 0.3, (3, len(variant.leads), 2500)).astype(np.float32)
        with (
            open_runner(bundle, variant, runtime="openvino") as ours,
            open_runner(bundle, variant, runtime="ort") as theirs,
        ):
            assert isinstance(ours, OpenVinoRunner)
            assert isinstance(theirs, OrtRunner)
            found, expected = ours.run(ecg), theirs.run(ecg)
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ecg", "message"),
    [
        (np.zeros((1, 2, T)), "float64"),
        (np.zeros((1, 3, T), np.float32), r"shape \(1, 3, 40\)"),
        (np.zeros((0, 2, T), np.float32), "shape"),
        (np.full((1, 2, T), np.nan, np.float32), "not finite"),
    ],
)
def test_wrong_input(ecg, message):
    with (
        OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32") as runner,
        pytest.raises(EngineError, match=message),
    ):
        runner.run(ecg)


def test_closed():
    runner = OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32")
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 2, T), np.float32))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "OpenVINO .* refuses the model"),
        (mean_model(3), r"expected one input 'ecg_mv', float32, \(batch, 2, 1, samples\)"),
        (mean_model(2, name="x"), "takes x float32"),
        (mean_model(2, rank=3), "expected one input"),
    ],
    ids=["bytes", "leads", "name", "rank"],
)
def test_wrong_model(model, message):
    with pytest.raises(EngineError, match=message):
        OpenVinoRunner(model, leads=LEADS, precision="fp32")


def test_self_test_finds_another_function(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01)
    with pytest.raises(EngineError, match=r"self-test of I,II/fp32: p_gt_18 differs from its reference by"):
        open_runner(bundle, variant, runtime="openvino")


def test_missing_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "openvino":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[openvino\]'"):
        OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32")


def test_settings_are_taken():
    """One thread, one stream, the file's own precision: as OpenVINO says, not as we asked."""
    with OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32") as runner:
        compiled = runner._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("NUM_STREAMS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == _openvino().Type.f32
        assert compiled.get_property("ENABLE_CPU_PINNING") is False


QUIET = """
import sys
from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
bundle = load_bundle("embedded")
open_runner(bundle, bundle.manifest.variants[-1], runtime="openvino").close()
print([name for name in sys.modules if "telemetry" in name or name.startswith("openvino.tools")])
"""


def test_nothing_that_reports_home_is_imported():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
