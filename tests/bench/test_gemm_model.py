"""The hand-written file is what the onnx package would have made, and ONNX Runtime multiplies with it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ecgedge.bench.gemm_model import gemm_model


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("size", [1, 127, 128, 2048])
def test_is_the_file_of_the_onnx_package(size, int8):
    kinds = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32) if int8 else (TensorProto.FLOAT,) * 3
    a, b, c = (
        helper.make_tensor_value_info(name, kind, [size, size])
        for name, kind in zip("abc", kinds, strict=True)
    )
    node = helper.make_node("MatMulInteger" if int8 else "MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "gemm", [a, b], [c])
    expected = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = onnx.ModelProto.FromString(gemm_model(size, int8=int8))
    onnx.checker.check_model(found, full_check=True)
    expected.opset_import[0].ClearField("domain")  # the default domain, said or not
    assert found == expected


def test_multiplies():
    session = onnxruntime.InferenceSession(gemm_model(3), providers=["CPUExecutionProvider"])
    a = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": a.T.copy()})[0], a @ a.T)
    session = onnxruntime.InferenceSession(gemm_model(3, int8=True), providers=["CPUExecutionProvider"])
    u8, s8 = np.full((3, 3), 255, np.uint8), np.full((3, 3), -128, np.int8)
    np.testing.assert_array_equal(session.run(None, {"a": u8, "b": s8})[0], np.full((3, 3), -255 * 128 * 3))
