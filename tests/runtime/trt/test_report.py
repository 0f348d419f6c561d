"""The layer report, from both places where TensorRT says what an engine computes."""

import json

import pytest

from ecgedge.errors import EngineError
from ecgedge.runtime.trt.report import (
    convolutions_in_int8,
    data_type,
    report_from_inspector,
    report_from_log,
)

# Field names and format sentences as NVIDIA documents them for TensorRT 10 ("Engine Inspector") and for TensorRT 11
# ("Migrating IEngineInspector Usage from TensorRT 10.x to 11.x": Format/Datatype became Format and Datatype).
TENSORRT_10 = {
    "Layers": [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "x",
                    "Dimensions": [1, 16, 1, 625],
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format.",
                }
            ],
            "Outputs": [{"Name": "y", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "ParameterType": "Convolution",
            "Weights": {"Type": "Int8", "Count": 4096},
            "Bias": {"Type": "Float", "Count": 16},
            "Metadata": "[ONNX Layer: node_Conv_1]\x1e[ONNX Layer: node_relu_1]",
        },
        {
            "Name": "stem",
            "LayerType": "CaskGemm",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "ecg_mv", "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
            "Weights": {"Type": "Float", "Count": 512},
        },
        {"Name": "reshape", "LayerType": "NoOp", "Inputs": [], "Outputs": []},
    ],
    "Bindings": ["ecg_mv", "embedding"],
}
TENSORRT_11 = {
    "Layers": [
        {
            "Name": "conv1",
            "LayerType": "correlation",
            "Inputs": [{"Name": "x", "Datatype": "Int8", "Format": "(NHWC) Channel major format"}],
            "Constants": [{"Name": "w", "Datatype": "Int8"}, {"Name": "scale", "Datatype": "Float"}],
            "Outputs": [{"Name": "y", "Datatype": "Half", "Format": "(NHWC) Channel major format"}],
            "Metadata": "[ONNX Layer: node_Conv_1]",
        }
    ],
    "I/O Tensors": [{"Name": "ecg_mv", "IOMode": "Input", "DataType": "Float"}],
}


def test_inspector_of_tensorrt_10():
    report = report_from_inspector(json.dumps(TENSORRT_10))
    in_int8, others = convolutions_in_int8(report)
    assert [layer.name for layer in in_int8] == ["conv1 + relu1"]
    assert in_int8[0].onnx_nodes == ("node_Conv_1", "node_relu_1")
    assert in_int8[0].outputs == ("fp16",)
    assert [(layer.name, layer.inputs, layer.weights) for layer in others] == [("stem", ("fp32",), ("fp32",))]
    assert len(report.layers) == 3


def test_inspector_of_tensorrt_11():
    (layer,) = report_from_inspector(json.dumps(TENSORRT_11)).layers
    assert layer.is_convolution
    assert layer.in_int8
    assert (layer.inputs, layer.weights, layer.outputs) == (("int8",), ("int8", "fp32"), ("fp16",))


@pytest.mark.parametrize(
    "text", ["", "{}", '{"Layers": ["only names"]}', '{"Layers": [{"Name": "n"}]}', '{"Layers": 3}']
)
def test_an_inspector_that_says_too_little(text):
    with pytest.raises(EngineError, match="detailed profiling"):
        report_from_inspector(text)


def test_a_log_without_a_plan():
    assert report_from_log(["Name: x", "Layers:\nnothing", ""]) is None


def test_a_weight_in_int8_alone_is_not_an_integer_product():
    layers = json.loads(json.dumps(TENSORRT_11))
    layers["Layers"][0]["Inputs"][0]["Datatype"] = "Float"
    in_int8, others = convolutions_in_int8(report_from_inspector(json.dumps(layers)))
    assert (len(in_int8), len(others)) == (0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Int8", "int8"),
        ("UInt8", "uint8"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Int32", "int32"),
        ("Row major linear FP16 format", "fp16"),
        ("Four wide channel vectorized row major Int8 format", "int8"),
        ("N/A due to dynamic shapes", "n/a due to dynamic shapes"),
    ],
)
def test_data_types(text, expected):
    assert data_type(text) == expected
