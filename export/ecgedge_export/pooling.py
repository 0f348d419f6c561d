"""Pooling over the whole window as pooling operators, instead of torch's reductions.

The numbers are the same. ONNX Runtime keeps pooling in the blocked layout of the convolutions (a reduction makes it
copy the last feature map back first), runs the maximum on 8-bit integers, and integer C needs no reduction over named
axes.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper, numpy_helper

_OVER_TIME = [2, 3]


def pool_by_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite, in place, ReduceMean and ReduceMax over height and time of rank-4 features; return the model."""
    shapes = _shapes(model)
    nodes: list[onnx.NodeProto] = []
    pooled: dict[str, str] = {}
    for node in model.graph.node:
        if _reduces_time(node, model) and len(shapes.get(node.input[0], ())) == 4:
            flat = str(node.output[0])
            pooled[flat] = f"{flat}_pooled"
            nodes += [_pool(node, shapes[node.input[0]], pooled[flat]), _flatten(pooled[flat], flat)]
        elif _joins_channels(node) and all(name in pooled for name in node.input):
            # Joined before they are flattened, the parts are copied out of the blocked layout once.
            flat = str(node.output[0])
            node.input[:] = [pooled[name] for name in node.input]
            node.output[0] = pooled[flat] = f"{flat}_pooled"
            nodes += [node, _flatten(pooled[flat], flat)]
        else:
            nodes.append(node)
    kept = _without_unread(nodes, {value.name for value in model.graph.output})
    read = {name for node in kept for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(constants)
    return model


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input)
    }


def _reduces_time(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if node.op_type not in ("ReduceMean", "ReduceMax") or len(node.input) != 2:
        return False
    axes = next((t for t in model.graph.initializer if t.name == node.input[1]), None)
    keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    return axes is not None and keeps == 0 and sorted(numpy_helper.to_array(axes).tolist()) == _OVER_TIME


def _joins_channels(node: onnx.NodeProto) -> bool:
    """Whether a node joins along axis 1, which means the same before and after flattening; the last axis does not."""
    return node.op_type == "Concat" and next(a.i for a in node.attribute if a.name == "axis") == 1


def _pool(node: onnx.NodeProto, shape: tuple[int, ...], output: str) -> onnx.NodeProto:
    if node.op_type == "ReduceMean":
        return helper.make_node("GlobalAveragePool", [node.input[0]], [output], name=node.name)
    # Not GlobalMaxPool: ONNX Runtime has MaxPool alone for 8-bit integers.
    return helper.make_node("MaxPool", [node.input[0]], [output], name=node.name, kernel_shape=shape[2:])


def _flatten(source: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Flatten", [source], [output], name=f"{output}_flatten", axis=1)


def _without_unread(nodes: Iterable[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    kept: list[onnx.NodeProto] = []
    read = set(outputs)
    for node in reversed(list(nodes)):
        if read.intersection(node.output):
            kept.insert(0, node)
            read.update(node.input)
    return kept
