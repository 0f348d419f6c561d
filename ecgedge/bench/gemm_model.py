"""A matrix product as an ONNX file, written by hand: a device has ONNX Runtime but no onnx package to build it.

A few messages of the protobuf that ONNX is: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Field numbers
stand beside their names; a test reads the result with the onnx package.
"""

from __future__ import annotations

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""Values of TensorProto.DataType."""

_IR_VERSION, _OPSET = 8, 13
_VARINT, _BYTES = 0, 2


def gemm_model(size: int, *, int8: bool = False) -> bytes:
    """Return c = a @ b of (size, size): float32, or uint8 by int8 into int32 (MatMulInteger)."""
    a, b, c = (UINT8, INT8, INT32) if int8 else (FLOAT, FLOAT, FLOAT)
    node = b"".join(
        (
            _field(1, b"a"),  # input
            _field(1, b"b"),
            _field(2, b"c"),  # output
            _field(4, b"MatMulInteger" if int8 else b"MatMul"),  # op_type
        )
    )
    graph = b"".join(
        (
            _field(1, node),  # node
            _field(2, b"gemm"),  # name
            _field(11, _value("a", a, size)),  # input
            _field(11, _value("b", b, size)),
            _field(12, _value("c", c, size)),  # output
        )
    )
    opset = _number(2, _OPSET)  # version; the default domain is the empty one
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, opset)


def _value(name: str, kind: int, size: int) -> bytes:
    """Return a ValueInfoProto of a square matrix."""
    dimension = _field(1, _number(1, size))  # TensorShapeProto.dim, its dim_value
    tensor = _number(1, kind) + _field(2, dimension * 2)  # elem_type, shape
    return _field(1, name.encode()) + _field(2, _field(1, tensor))  # name, type.tensor_type


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Write seven bits a byte, the lowest first; all but the last have the eighth bit set."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
