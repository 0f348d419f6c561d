"""INT8 files: the form each engine needs, and how far they are from the float file on real windows."""

import numpy as np
import onnx
import pytest

from ecgedge.errors import EngineError
from ecgedge.runtime import OpenVinoRunner, OrtRunner
from ecgedge_export.compare import compare
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.quantize import quantize
from ecgedge_train.run import load_run

LEADS = ("I", "II")


@pytest.fixture(scope="module")
def exact(run_dir):
    network = fold_lead_set(load_run(run_dir).model, LEADS, None)
    return export_onnx(
        network,
        n_leads=2,
        window_samples=2500,
        output_names=network.output_names,
        metadata={"leads": "I,II", "precision": "fp32"},
    )


@pytest.fixture(scope="module", params=["cpu", "rtx"])
def flavoured(request, exact, ecg_mv):
    return request.param, quantize(exact, ecg_mv[:32], leads=LEADS, flavour=request.param)


def zero_points(model):
    """Values and types of all zero points, by the tensor name's role."""
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [weights[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]


def test_form(flavoured):
    flavour, model = flavoured
    onnx.checker.check_model(model, full_check=True)
    kinds = {point.dtype for point in zero_points(model)}
    if flavour == "cpu":
        assert kinds == {np.dtype(np.uint8)}
    else:
        assert kinds == {np.dtype(np.int8)}
        assert not any(point.any() for point in zero_points(model))
        types = {t.data_type for t in model.graph.initializer}
        assert onnx.TensorProto.INT32 not in types, "TensorRT takes no int32 bias"


def test_what_stays_float(flavoured):
    """The first convolution reads the input itself, and no Gemm sees a quantized value."""
    _, model = flavoured
    [first] = [node for node in model.graph.node if "ecg_mv" in node.input]
    assert first.op_type == "Conv"
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert gemms
    assert not any(produced.get(name) == "DequantizeLinear" for node in gemms for name in node.input)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    fed = [node for node in convolutions if produced.get(node.input[0]) == "DequantizeLinear"]
    assert len(fed) == len(convolutions) - 1 == 12


def test_cost_and_metadata(flavoured, exact):
    _, model = flavoured
    assert graph_cost(model) == graph_cost(exact)
    assert {item.key: item.value for item in model.metadata_props} == {"leads": "I,II", "precision": "int8"}
    assert len(model.SerializeToString()) < 0.6 * len(exact.SerializeToString())


def test_close_to_float(flavoured, exact, ecg_mv):
    """After 60 steps of training: windows that the calibration has not seen."""
    _, model = flavoured
    with (
        OrtRunner(exact.SerializeToString(), leads=LEADS, precision="fp32") as reference,
        OrtRunner(model.SerializeToString(), leads=LEADS, precision="int8") as runner,
    ):
        comparison = compare(reference.run(ecg_mv[32:, :2]), runner.run(ecg_mv[32:, :2]))
    assert comparison.median_cosine > 0.95
    assert comparison.max_abs > 0, "the file computes in float"


def test_openvino_is_as_close_to_float_as_onnx_runtime(flavoured, exact, ecg_mv):
    """The two engines round a step of 8 bits otherwise; neither may be further from the network for it."""
    _, model = flavoured
    file = model.SerializeToString()
    with (
        OrtRunner(exact.SerializeToString(), leads=LEADS, precision="fp32") as floats,
        OrtRunner(file, leads=LEADS, precision="int8") as reference,
        OpenVinoRunner(file, leads=LEADS, precision="int8") as runner,
    ):
        windows_mv = ecg_mv[32:, :2]
        network = floats.run(windows_mv)
        expected, found = (compare(network, r.run(windows_mv)) for r in (reference, runner))
    assert found.max_abs > 0.1 * expected.max_abs, "the file computes in float"
    assert 1 - found.median_cosine < 1.5 * (1 - expected.median_cosine)
    assert found.max_abs < 1.5 * expected.max_abs


def test_percentile_narrows_the_range(exact, ecg_mv):
    """One artefact of 5 mV stretches the whole range, but is no 0.1 % of the values."""
    windows = ecg_mv[:16].copy()
    windows[0, :, 100:103] = 5.0
    wide = quantize(exact, windows, leads=LEADS, flavour="rtx")
    narrow = quantize(exact, windows, leads=LEADS, flavour="rtx", percentile=99.9)
    name = next(n.input[1] for n in wide.graph.node if n.op_type == "QuantizeLinear")
    scale = {t.name: onnx.numpy_helper.to_array(t).item() for t in wide.graph.initializer if t.name == name}
    other = {t.name: onnx.numpy_helper.to_array(t).item() for t in narrow.graph.initializer if t.name == name}
    assert 0 < other[name] < 0.8 * scale[name]


def test_deterministic_and_silent(exact, ecg_mv, capfd, caplog):
    first = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu")
    second = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu")
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert capfd.readouterr().out == ""
    assert not caplog.records


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros((3, 12, 2500), np.float32), "3 calibration windows are too few"),
        (np.zeros((20, 2, 2500), np.float32), r"float32 \(20, 2, 2500\)"),
        (np.zeros((20, 12, 2500)), "float64"),
        (np.full((20, 12, 2500), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_windows(exact, windows, message):
    with pytest.raises(EngineError, match=message):
        quantize(exact, windows, leads=LEADS, flavour="cpu")
