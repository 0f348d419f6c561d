"""Explicit INT8 (QDQ): what a plan says, put into an ONNX file.

One plan (`quant_plan.py`) serves the writer here and the fine-tuning network in `qat.py`, so that what was trained is
what is written.

Placement, the same in all flavours: a pair of QuantizeLinear and DequantizeLinear stands on the input of every
quantized layer, on what comes out of it (behind its ReLU, never between the two) and on both arms and the result of
every residual sum, unless both arms come from layers in float; a max-pool hands its input's scale on. Weights are s8,
symmetric, per output channel. Outputs of the graph are never quantized. A layer that stays in float computes in float
between its neighbours' tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ecgedge_export.quant_plan import WEIGHTED_OPS, Graph, QuantPlan, layer_name
from ecgedge_export.quant_weights import rounded_weights

_OPSET_OF_INT16, _IR_OF_INT16 = 21, 10


def write_qdq(model: onnx.ModelProto, plan: QuantPlan) -> onnx.ModelProto:
    """Return a float graph as an INT8 QDQ file.

    Parameters
    ----------
    model
        The float graph that the plan was made for (its weights may be others); left as it is.
    plan
        What is quantized. The scale of a weight's channel is its largest absolute value by 127, see `weight_scale`.
    """
    writer = _Writer(plan, Graph.of(model), {t.name: t for t in model.graph.initializer})
    for name in (value.name for value in model.graph.input):
        writer.pair(name)
    for node in model.graph.node:
        writer.add(node)
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:]
    del out.graph.initializer[:]
    out.graph.node.extend(writer.nodes)
    used = {name for node in writer.nodes for name in node.input}
    tensors = {tensor.name: tensor for tensor in (*model.graph.initializer, *writer.tensors)}
    out.graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)
    if plan.integers.dtype == np.int16:
        # The operators of a whole graph mean the same in both, see `mcu/operators.py`.
        out.ir_version = _IR_OF_INT16
        del out.opset_import[:]
        out.opset_import.append(helper.make_opsetid("", _OPSET_OF_INT16))
    return out


@dataclass(frozen=True)
class _Writer:
    """Copies nodes in order, with the pairs between them."""

    plan: QuantPlan
    graph: Graph
    weights: Mapping[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    now: dict[str, str] = field(default_factory=dict)

    def add(self, node: onnx.NodeProto) -> None:
        """Copy a node; weights become DQ of integers, planned outputs get their pair."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self.now.get(name, name) for name in node.input]
        if node.op_type in WEIGHTED_OPS and layer_name(node) in self.plan.layers:
            copy.input[1:] = self._integer_weights(node)
        if self._is_clamp(node):
            self.nodes[-1].output[0] = node.output[0]
        else:
            self.nodes.append(copy)
        for name in node.output:
            self.pair(name)

    def _is_clamp(self, node: onnx.NodeProto) -> bool:
        """Whether a ReLU is nothing but the lower end of the integers behind it."""
        affine = self.plan.affine(node.output[0]) if node.op_type == "Relu" else None
        return (
            affine is not None
            and affine.zero_point == self.plan.integers.low
            and self.graph.only_reader(node.input[0]) is not None
            and self.nodes[-1].output[0] == node.input[0]
        )

    def pair(self, tensor: str) -> None:
        """Put QuantizeLinear and DequantizeLinear behind a tensor, if the plan says so."""
        affine = self.plan.affine(tensor)
        if affine is None:
            return
        home = self.plan.same_as.get(tensor, tensor)
        numbers = [
            self._tensor(f"{home}_scale", np.array(affine.scale, np.float32)),
            self._tensor(f"{home}_zero_point", np.array(affine.zero_point, self.plan.integers.dtype)),
        ]
        self._node("QuantizeLinear", [tensor, *numbers], f"{tensor}_q")
        self._node("DequantizeLinear", [f"{tensor}_q", *numbers], f"{tensor}_dq")
        self.now[tensor] = f"{tensor}_dq"

    def _integer_weights(self, node: onnx.NodeProto) -> list[str]:
        """Store a layer's weight and bias as integers; return the names of their dequantized forms."""
        weight_name, *bias_names = node.input[1:]
        weight = numpy_helper.to_array(self.weights[weight_name])
        bias = numpy_helper.to_array(self.weights[bias_names[0]]) if bias_names else None
        rounded = rounded_weights(node, weight, bias, self.plan)
        names = [self._dequantized(weight_name, rounded.integers, rounded.scale)]
        if bias is not None and self.plan.integers.int32_bias:
            whole = np.rint(bias / rounded.bias_scale).astype(np.int32)
            names.append(self._dequantized(bias_names[0], whole, rounded.bias_scale))
        else:
            names += bias_names
        return names

    def _dequantized(self, name: str, values: NDArray[Any], scale: NDArray[np.float32]) -> str:
        if any(node.output[0] == f"{name}_dq" for node in self.nodes):
            # Equal constants share one name in a torch export; their scales differ.
            name = f"{name}_{len(self.nodes)}"
        inputs = [
            self._tensor(f"{name}_q", values),
            self._tensor(f"{name}_scale", scale),
            self._tensor(f"{name}_zero_point", np.zeros(scale.shape, values.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}_dq", axis=0)

    def _node(self, kind: str, inputs: list[str], output: str, *, axis: int | None = None) -> str:
        node = helper.make_node(kind, inputs, [output], name=output)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
        return output

    def _tensor(self, name: str, values: NDArray[Any]) -> str:
        self.tensors.append(numpy_helper.from_array(values, name))
        return name
