"""INT8 files: the form each engine needs, and how far they are from the float file on real windows."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OpenVinoRunner, OrtRunner
from ecgedge_export.compare import compare
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.quant_plan import (
    INTEGER_TYPES,
    Affine,
    affine_of,
    leading_layers,
    parse_flavour,
    quantizable_layers,
)
from ecgedge_export.quant_weights import weight_scale
from ecgedge_export.quantize import quantize

from .helpers import TWO_LEADS as LEADS
from .helpers import bytes_are_multiplied_exactly, float_file

LSB_MV = FrontEndSpec().lsb_mv
BLOCKS = [f"blocks.{b}.{layer}" for b in range(4) for layer in ("conv1", "conv2", "shortcut.0")]


WHOLE = ("mcu", "mcu16")
"""Flavours for integer C."""


@pytest.fixture(scope="module")
def exact(run_dir):
    return float_file(run_dir)


@pytest.fixture(scope="module", params=["cpu", "rtx", "mcu", "mcu16"])
def flavoured(request, exact, ecg_mv):
    return request.param, quantize(exact, ecg_mv[:32], leads=LEADS, flavour=request.param)


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def zero_points(model):
    known = constants(model)
    return [known[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]


def fed_by_integers(model, kind):
    """Names of the weights of the layers of a kind whose input comes out of 8 bits."""
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type == kind]
    return [node.input[1] for node in layers if produced.get(node.input[0]) == "DequantizeLinear"]


def test_form(flavoured):
    flavour, model = flavoured
    onnx.checker.check_model(model, full_check=True)
    types = {t.data_type for t in model.graph.initializer}
    kinds = {"cpu": np.uint8, "rtx": np.int8, "mcu": np.int8, "mcu16": np.int16}
    assert {point.dtype for point in zero_points(model)} == {np.dtype(kinds[flavour])}
    assert (onnx.TensorProto.INT32 in types) == (flavour != "rtx"), "TensorRT takes no int32 bias"
    if flavour in ("rtx", "mcu16"):
        assert not any(point.any() for point in zero_points(model))
    else:
        # A ReLU's range starts at 0, so its zero point is the lowest integer, which clamps: no ReLU is left.
        assert "Relu" not in {n.op_type for n in model.graph.node if not n.input[0].startswith("embedding")}


def test_weights_are_symmetric_per_channel(flavoured, exact):
    _, model = flavoured
    known, floats = constants(model), constants(exact)
    name = "tail.encoder.blocks.1.conv2.weight"
    reach = np.abs(floats[name]).max(axis=(1, 2, 3))
    np.testing.assert_allclose(known[f"{name}_scale"], reach / 127, rtol=1e-6)
    assert known[f"{name}_q"].dtype == np.int8
    assert (np.abs(known[f"{name}_q"]).max(axis=(1, 2, 3)) == 127).all()
    assert not known[f"{name}_zero_point"].any()


def test_what_is_quantized(flavoured):
    """Every convolution; on a microcontroller all else, too, but for the input, whose counts are integers."""
    flavour, model = flavoured
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    integer = [n.op_type for n in layers if n.input[1].endswith("_dq")]
    assert integer.count("Conv") == 13
    assert len(fed_by_integers(model, "Conv")) == (12 if flavour in WHOLE else 13)
    assert len(fed_by_integers(model, "Gemm")) == (len(layers) - 13 if flavour in WHOLE else 0)
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Add", "MaxPool") or (flavour in WHOLE and node.op_type in ("Concat", "Flatten")):
            assert {produced[name] for name in node.input} == {"DequantizeLinear"}, node.name
    rounded = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    # The embedding itself comes out in float, the heads of integer C read it in 8 bits.
    assert rounded & {value.name for value in model.graph.output} == (
        {"embedding"} if flavour in WHOLE else set()
    )
    assert ("ecg_mv" in rounded) == (flavour not in WHOLE)


def test_a_max_pool_keeps_its_scale(flavoured):
    """Then it picks integers, and nothing is rounded twice."""
    _, model = flavoured
    [pool] = [n for n in model.graph.node if n.op_type == "MaxPool"]
    before = next(n for n in model.graph.node if pool.input[0] in n.output)
    after = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and pool.output[0] in n.input)
    assert list(after.input[1:]) == list(before.input[1:])


def test_layers_have_names(exact):
    assert quantizable_layers(exact, flavour="cpu")[0] == "stem"
    assert sorted(quantizable_layers(exact, flavour="cpu")) == sorted(["stem", *BLOCKS])
    assert sorted(quantizable_layers(exact, flavour="mcu")) == sorted(
        ["stem", *BLOCKS, "fc", "outputs.heads.0.fc"]
    )


def test_a_layer_left_in_float(exact, ecg_mv):
    model = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu", float_layers=("stem", "blocks.2.conv1"))
    floats = [n.input[1] for n in model.graph.node if n.op_type == "Conv" and not n.input[1].endswith("_dq")]
    assert floats == ["stem.weight", "tail.encoder.blocks.2.conv1.weight"]
    assert "QuantizeLinear" not in {n.op_type for n in model.graph.node if "ecg_mv" in n.input}
    with pytest.raises(
        EngineError, match=r"no layer blocks\.9 to leave in float; the cpu flavour quantizes: stem"
    ):
        quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu", float_layers=("blocks.9",))


def test_a_sum_of_two_float_arms_stays_in_float(exact, ecg_mv):
    """Its result is rounded once, as the input of the next block."""
    _, block, *_ = leading_layers(exact, flavour="cpu")
    model = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu", float_layers=block)
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    first, *others = [node for node in model.graph.node if node.op_type == "Add"]
    assert {produced[name] for name in first.input} == {"Conv"}
    assert {produced[name] for node in others for name in node.input} == {"DequantizeLinear"}
    assert len(fed_by_integers(model, "Conv")) == 13 - 4


@pytest.mark.parametrize("flavour", ["cpu", "rtx", "mcu", "mcu16"])
def test_layers_from_the_input_on(exact, flavour):
    block = "{0}.conv1", "{0}.conv2", "{0}.shortcut.0"
    blocks = [tuple(name.format(f"blocks.{k}") for name in block) for k in range(4)]
    found = leading_layers(exact, flavour=flavour)
    expected = [("stem",), *(("stem", *sum(blocks[:k], ())) for k in (1, 2, 3))]
    if (
        flavour in WHOLE
    ):  # the embedding's layer and the heads are quantized too, so that four blocks are not all
        expected.append(("stem", *sum(blocks, ())))
    assert [sorted(stage) for stage in found] == [sorted(stage) for stage in expected]


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
    assert comparison.median_cosine > 0.98
    assert comparison.max_abs > 0, "the file computes in float"


def test_openvino_is_as_close_to_float_as_onnx_runtime(flavoured, exact, ecg_mv):
    """The two engines round a step of 8 bits otherwise; neither may be further from the network for it.

    The file for a CPU is so on every processor. Those for other engines have signed activations, and are two to three
    times as far where sums of products saturate: neither is made for a CPU.
    """
    flavour, model = flavoured
    bound = 1.5 if flavour == "cpu" or bytes_are_multiplied_exactly() else 4.0
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
    assert 1 - found.median_cosine < bound * (1 - expected.median_cosine)
    assert found.max_abs < bound * expected.max_abs


def test_deterministic_and_silent(exact, ecg_mv, capfd, caplog):
    first = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu")
    second = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="cpu")
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert capfd.readouterr().out == ""
    assert not caplog.records


@pytest.mark.parametrize(
    ("flavour", "low", "high", "expected"),
    [
        ("cpu", -1.0, 1.55, Affine(0.01, 100)),
        ("cpu", 0.0, 2.55, Affine(0.01, 0)),
        ("mcu", 0.0, 2.55, Affine(0.01, -128)),
        ("mcu", -1.28, 1.27, Affine(0.01, 0)),
        ("mcu16", -10.24, 1.27, Affine(0.005, 0)),
        ("rtx", -0.5, 1.27, Affine(0.01, 0)),
        ("cpu", 0.0, 0.0, Affine(1.0, 0)),
        ("rtx", 0.0, 0.0, Affine(1.0, 0)),
    ],
)
def test_scale_and_zero_point_by_hand(flavour, low, high, expected):
    found = affine_of(low, high, INTEGER_TYPES[flavour])
    assert (found.scale, found.zero_point) == (pytest.approx(expected.scale), expected.zero_point)


def test_weight_scales_by_hand():
    """A dead channel gets 1; a channel with next to no weights takes the scale that its bias needs in 32 bits."""
    weight = np.array([[1.27, -0.5], [0, 0], [1e-12, 0]], np.float32)
    found = weight_scale(weight, np.array([0, 0, 100], np.float32), 0.01)
    np.testing.assert_allclose(found[:2], [0.01, 1.0], rtol=1e-6)
    assert 100 / (0.01 * found[2]) < 2**31
    assert weight_scale(weight, None, 0.01)[2] == pytest.approx(1e-12 / 127)


def test_weights_leave_room_for_the_sums_of_long_layers():
    """No input of 16 bits takes a sum of 4,000 products beyond 32 bits; a short layer keeps all of its 8 bits."""
    weight = np.random.default_rng(0).uniform(-1, 1, (2, 4000)).astype(np.float32)
    weight[1, 500:] = 0
    bias = np.array([3.0, -3.0], np.float32)
    found = weight_scale(weight, bias, 1e-4, largest_input=2**15)
    integers = np.abs(np.rint(weight / found[:, None])).sum(axis=1) * 2**15 + np.abs(bias) / (1e-4 * found)
    assert (integers < 2**31 - 1).all()
    largest = np.abs(weight).max(axis=1)
    assert found[0] > 1.1 * largest[0] / 127
    assert found[1] == pytest.approx(largest[1] / 127)


def test_ops_that_round_alike(exact, ecg_mv):
    """The MCU file in integers by hand, one convolution of counts: 32-bit sums, one rounding, saturation."""
    model = quantize(exact, ecg_mv[:16], leads=LEADS, flavour="mcu")
    known = constants(model)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    kept = next(
        i for i, n in enumerate(model.graph.node) if n.op_type == "QuantizeLinear" and n.input[0] == "relu"
    )
    del probe.graph.node[kept + 1 :]
    del probe.graph.output[:]
    probe.graph.output.append(helper.make_tensor_value_info("relu_q", onnx.TensorProto.INT8, None))
    import onnxruntime

    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"ecg_mv": ecg_mv[40:41, :2, None]})
    x = np.rint(ecg_mv[40, :2] / LSB_MV).astype(np.int64)
    padded = np.pad(x, ((0, 0), (8, 8)))
    columns = np.lib.stride_tricks.sliding_window_view(padded, 17, axis=1)[:, ::2]
    weight = known["stem.weight_q"].astype(np.int64)[:, :, 0]
    sums = np.einsum("oik,itk->ot", weight, columns) + known["stem.bias_q"].astype(np.int64)[:, None]
    step = LSB_MV * known["stem.weight_scale"].astype(np.float64) / known["relu_scale"]
    expected = np.clip(np.rint(sums * step[:, None]) + int(known["relu_zero_point"]), -128, 127)
    difference = np.abs(found[0, :, 0].astype(int) - expected)
    # ONNX Runtime multiplies in float32: a sum that lies on a half tips over now and then.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_flavours_by_name():
    assert parse_flavour("mcu") == "mcu"
    with pytest.raises(UsageError, match="unknown INT8 flavour 'tpu'; expected cpu, rtx, mcu, mcu16"):
        parse_flavour("tpu")


def test_layers_that_share_a_constant_keep_their_own_scales(ecg_mv):
    """As torch's export leaves equal constants; under one name the second scale would replace the first."""
    from torch import nn

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, (1, 5))
            self.next = nn.Conv2d(4, 4, (1, 5))

        def forward(self, x):
            return (self.next(self.stem(x).relu()).mean(dim=(2, 3)),)

    model = export_onnx(Two().eval(), n_leads=1, window_samples=500, output_names=["embedding"], metadata={})
    first, second = [node for node in model.graph.node if node.op_type == "Conv"]
    second.input[2] = first.input[2]
    windows = np.ascontiguousarray(ecg_mv[:16, :, :500])
    made = quantize(model, windows, leads=("II",), flavour="cpu")
    biases = [node.input[2] for node in made.graph.node if node.op_type == "Conv"]
    assert len(set(biases)) == 2
    with (
        OrtRunner(model.SerializeToString(), leads=("II",), precision="fp32") as reference,
        OrtRunner(made.SerializeToString(), leads=("II",), precision="int8") as runner,
    ):
        expected, found = reference.run(windows[:, 1:2]), runner.run(windows[:, 1:2])
    reach = np.abs(expected["embedding"]).max()
    np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=0.03 * reach)


def test_onnx_runtime_fuses_every_pair(exact, ecg_mv, tmp_path):
    """Nothing stands between two convolutions but a residual sum; what it runs is what the plan meant."""
    model = quantize(exact, ecg_mv[:32], leads=LEADS, flavour="cpu")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    planned = Counter(node.op_type for node in exact.graph.node)
    assert made["QLinearConv"] == planned["Conv"] == 13
    assert made["QLinearAdd"] == 4
    assert made["QuantizeLinear"] == 1, "the input"
    assert made["DequantizeLinear"] == 2, "in front of the mean, and behind the maximum"
    assert not made["Conv"] + made["MaxPool"]
