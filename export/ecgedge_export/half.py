"""16-bit floats: weights and arithmetic in fp16, input and outputs in fp32 as every other variant has them.

For GPUs, whose engines take the precision from the file. ONNX Runtime on a CPU computes it too, with casts around
what it has no 16-bit kernel for: right, but slower than fp32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ecgedge.errors import EngineError

_LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float variant with fp16 inside: a Cast behind the input and one before each output.

    Raises
    ------
    EngineError
        If a weight does not fit fp16.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.value_info[:]  # of float32
    for tensor in out.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_half(tensor))
    inside = {value.name: f"{value.name}_fp16" for value in (*out.graph.input, *out.graph.output)}
    for node in out.graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    first = [_cast(v.name, inside[v.name], TensorProto.FLOAT16) for v in out.graph.input]
    last = [_cast(inside[v.name], v.name, TensorProto.FLOAT) for v in out.graph.output]
    nodes = [*first, *out.graph.node, *last]
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    for item in out.metadata_props:
        if item.key == "precision":
            item.value = "fp16"
    onnx.checker.check_model(out, full_check=True)
    return out


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if not np.abs(values).max(initial=0.0) <= _LARGEST:
        raise EngineError(
            f"{tensor.name} holds {np.abs(values).max():g}, which fp16 cannot: leave fp16 out for this network"
        )
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=to)
