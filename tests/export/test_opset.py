"""From opset 18 to 17: the same numbers out of a file that more engines read."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ecgedge.errors import EngineError
from ecgedge_export.opset import OPSET, lower_opset

X = np.random.default_rng(2).normal(size=(3, 4, 1, 30)).astype(np.float32)


def model(*nodes, constants=(), outputs=("y",), rank=2):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 1, 30])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(proto):
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return session.run(None, {"x": X})


def axes(*values, name="axes"):
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceL2"])
@pytest.mark.parametrize("keepdims", [None, 0, 1])
def test_reductions_say_the_same(kind, keepdims):
    options = {} if keepdims is None else {"keepdims": keepdims}
    node = helper.make_node(kind, ["x", "axes"], ["y"], **options)
    proto = model(node, constants=[axes(-1, 2)], rank=2 if keepdims == 0 else 4)
    before = run(proto)
    lowered = lower_opset(proto)
    onnx.checker.check_model(lowered, full_check=True)
    assert lowered.opset_import[0].version == OPSET == 17
    assert list(lowered.graph.initializer) == []
    np.testing.assert_array_equal(run(lowered)[0], before[0])


def test_padding_of_all_axes_stays():
    constants = [
        axes(0, 0, 0, 2, 0, 0, 0, 0, name="pads"),
        numpy_helper.from_array(np.float32(-np.inf), "low"),
    ]
    proto = model(helper.make_node("Pad", ["x", "pads", "low"], ["y"]), constants=constants, rank=4)
    before = run(proto)
    lowered = lower_opset(proto)
    onnx.checker.check_model(lowered, full_check=True)
    np.testing.assert_array_equal(run(lowered)[0], before[0])


def test_a_shared_constant_stays_for_its_other_reader():
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    ]
    proto = model(*nodes, constants=[axes(2, 3)], outputs=("mean", "sum"))
    before = run(proto)
    lowered = lower_opset(proto)
    onnx.checker.check_model(lowered, full_check=True)
    # ReduceSum takes its axes as an input since opset 13.
    assert [tensor.name for tensor in lowered.graph.initializer] == ["axes"]
    for after, expected in zip(run(lowered), before, strict=True):
        np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Split", ["x"], ["y", "z"], name="in_two", axis=1, num_outputs=2),
        helper.make_node("ReduceMean", ["x"], ["y"], name="over_all"),
        helper.make_node("Pad", ["x", "pads", "", "some"], ["y"], name="some_axes"),
    ],
)
def test_what_17_cannot_say_is_refused(node):
    with pytest.raises(EngineError, match=rf"{node.name}: {node.op_type} of opset 18 has no counterpart"):
        lower_opset(model(node))
