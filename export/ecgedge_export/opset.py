"""Opset 18, which torch's exporter writes, brought down to 17: the same numbers, read by more engines.

onnx's own version converter fails on ReduceMean: from opset 18 on the axes are an input, before they were an
attribute. Pad may name axes from 18 on; without them it means what it meant. Our networks meet no other difference;
any other operator that changed in 18 is refused.
"""

from __future__ import annotations

import onnx
from onnx import defs, helper, numpy_helper

from ecgedge.errors import EngineError

OPSET = 17
EXPORTED_OPSET = 18


def lower_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite an opset 18 model, in place, as opset 17, and return it.

    Raises
    ------
    EngineError
        If a node has a meaning in opset 18 that opset 17 cannot say.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if _changed(node):
            _axes_as_attribute(node, constants)
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for domain in model.opset_import:
        if domain.domain == "":
            domain.version = OPSET
    return model


def _changed(node: onnx.NodeProto) -> bool:
    if node.op_type == "Pad" and not any(node.input[3:]):
        return False
    return int(defs.get_schema(node.op_type, EXPORTED_OPSET).since_version) > OPSET


def _axes_as_attribute(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> None:
    axes = constants.get(node.input[1]) if len(node.input) == 2 else None
    if not node.op_type.startswith("Reduce") or node.op_type == "ReduceSum" or axes is None:
        raise EngineError(
            f"{node.name}: {node.op_type} of opset {EXPORTED_OPSET} has no counterpart in opset {OPSET}; "
            "write the network without it, or add its rewriting here"
        )
    keepdims = [attribute for attribute in node.attribute if attribute.name == "keepdims"]
    del node.input[1:]
    del node.attribute[:]
    node.attribute.extend(keepdims)
    node.attribute.append(helper.make_attribute("axes", numpy_helper.to_array(axes).tolist()))
