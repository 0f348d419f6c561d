"""Every runner of ONNX files gives the same answers and refuses the same things."""

import builtins

import numpy as np
import pytest
from hand_made import T, make_bundle, make_stream_bundle, mean_model

from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OpenVinoRunner, OrtRunner, open_runner

LEADS = ("I", "II")
RUNNERS = {"ort": OrtRunner, "openvino": OpenVinoRunner}
SAYS = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}


@pytest.fixture(params=RUNNERS)
def runtime(request):
    return request.param


@pytest.fixture
def opened(runtime):
    """Open a runner of the mean model, or of another one."""

    def opened(model=None, *, leads=LEADS, precision="fp32"):
        return RUNNERS[runtime](mean_model() if model is None else model, leads=leads, precision=precision)

    return opened


def test_run(opened):
    ecg = np.random.default_rng(0).normal(size=(5, 2, T)).astype(np.float32)
    with opened() as runner:
        assert (runner.name, runner.leads, runner.precision) == ("I,II/fp32", LEADS, "fp32")
        assert runner.window_samples == T
        assert runner.output_names == ("p_gt_18", "embedding")
        outputs = runner.run(ecg)
        assert list(outputs) == ["p_gt_18", "embedding"]
        np.testing.assert_allclose(outputs["p_gt_18"], ecg.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_allclose(outputs["embedding"], ecg.mean(axis=2), atol=1e-6)
        np.testing.assert_array_equal(runner.run(ecg[:, :, None])["embedding"], outputs["embedding"])
        kept = {name: values.copy() for name, values in outputs.items()}
        runner.run(-ecg)
        for name, values in outputs.items():
            np.testing.assert_array_equal(values, kept[name])  # the next run does not write into it


def test_twelve_leads_are_called_12(opened):
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    with opened(mean_model(12), leads=leads, precision="int8") as runner:
        assert runner.name == "12/int8"


def test_a_slice_of_a_larger_array(opened):
    """Rows picked out of a bed's buffer are not contiguous."""
    ecg = np.random.default_rng(0).normal(size=(1, 12, T)).astype(np.float32)
    with opened(leads=("I", "V6")) as runner:
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
def test_wrong_input(opened, ecg, message):
    with opened() as runner, pytest.raises(EngineError, match=message):
        runner.run(ecg)


def test_not_a_number_does_not_pass(opened):
    ecg = np.zeros((2, 2, T), np.float32)
    ecg[1, 0, 3] = np.nan
    with (
        opened() as runner,
        pytest.raises(EngineError, match="output p_gt_18 holds 1 values that are not finite"),
    ):
        runner.run(ecg)


def test_closed(opened):
    runner = opened()
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 2, T), np.float32))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "ENGINE .* refuses the model"),
        (mean_model(3), r"expected one input 'ecg_mv', float32, \(batch, 2, 1, samples\)"),
        (mean_model(2, name="x"), "takes x float32"),
        (mean_model(2, rank=3), "expected one input"),
    ],
    ids=["bytes", "leads", "name", "rank"],
)
def test_wrong_model(runtime, opened, model, message):
    with pytest.raises(EngineError, match=message.replace("ENGINE", SAYS[runtime])):
        opened(model)


def test_a_streaming_form_is_opened_otherwise(tmp_path, runtime):
    bundle = make_stream_bundle(tmp_path / "s.ecgb")
    stream = next(v for v in bundle.manifest.variants if v.stream is not None)
    with pytest.raises(EngineError, match=r"I,II/fp32/stream is a streaming form, .*open_step_runner"):
        open_runner(bundle, stream, runtime=runtime)


def test_the_self_test_finds_another_function(tmp_path, runtime):
    """The hashes of this bundle agree: only running it tells that it computes something else."""
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01)
    with pytest.raises(EngineError, match=r"self-test of I,II/fp32: p_gt_18 differs from its reference by"):
        open_runner(bundle, variant, runtime=runtime)


def test_a_missing_package(monkeypatch, runtime, opened):
    real = builtins.__import__
    package = {"ort": "onnxruntime", "openvino": "openvino"}[runtime]

    def without(name, *args, **kwargs):
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=rf"pip install 'ecgedge\[{runtime}\]'"):
        opened()
