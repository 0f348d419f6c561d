"""A float ONNX graph as a torch module that rounds as its INT8 file rounds: what fine-tuning trains.

Every tensor of the plan is quantized and dequantized on its way, weights and biases too, with the same scales, zero
points, rounding (half to even) and saturation as in the file that `qdq.write_qdq` writes from the same plan. The
gradient passes a rounding as if it were not there (Bengio et al. 2013, "straight-through"), and ends where a value
saturates; so a scale learns how far to reach (Esser et al., "Learned step size quantization", ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from ecgedge.errors import EngineError
from ecgedge_export.onnx_file import INPUT_NAME
from ecgedge_export.quant_plan import WEIGHTED_OPS, Affine, QuantPlan, layer_name
from ecgedge_export.quant_weights import WEIGHT_LIMIT, weight_scale

_Attributes = Mapping[str, Any]


class FakeQuantNetwork(nn.Module):
    """A float graph with the roundings of a plan; `scales` and the weights of the plan's layers can be trained.

    Parameters
    ----------
    model
        Float, from `export_onnx`.
    plan
        From `make_plan` for this graph.

    Raises
    ------
    EngineError
        If the graph holds an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto, plan: QuantPlan) -> None:
        super().__init__()
        if unknown := unknown_operators(model):
            raise EngineError(
                f"fine-tuning does not know the operators {', '.join(unknown)}; take another calibration"
            )
        self.model, self.plan = model, plan
        trained = {n for node in model.graph.node if _is_layer(node, plan) for n in node.input[1:]}
        self.weights = nn.ParameterList()
        self._index: dict[str, int] = {}
        self._constants: dict[str, Tensor] = {}
        for tensor in model.graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if tensor.name in trained:
                self._index[tensor.name] = len(self.weights)
                self.weights.append(nn.Parameter(values))
            else:
                self._constants[tensor.name] = values
        self._tensors = list(plan.activations)
        self.log_scales = nn.Parameter(
            torch.tensor([plan.activations[name].scale for name in self._tensors]).log()
        )

    def forward(self, ecg_mv: Tensor) -> tuple[Tensor, ...]:
        """(B, K, 1, T) millivolts to the outputs, in the graph's order."""
        scales = self.log_scales.exp()
        known = {name: scales[index] for index, name in enumerate(self._tensors)}
        values: dict[str, Tensor] = {**self._constants, INPUT_NAME: self._round(INPUT_NAME, ecg_mv, known)}
        values.update({name: self.weights[index] for name, index in self._index.items()})
        found: dict[str, Tensor] = {}
        for node in self.model.graph.node:
            inputs = [values[name] for name in node.input]
            if _is_layer(node, self.plan):
                inputs[1:] = self._round_weights(node, known)
            name = node.output[0]
            found[name] = _OPERATORS[node.op_type](inputs, _attributes(node))
            values[name] = self._round(name, found[name], known)
        # As in the file: an output that other layers read is rounded for them alone.
        return tuple(found[value.name] for value in self.model.graph.output)

    def _round(self, name: str, x: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
        affine = self.plan.affine(name)
        if affine is None:
            return x
        scale, integers = scales[self.plan.same_as.get(name, name)], self.plan.integers
        q = (_rounded(x / scale) + affine.zero_point).clamp(integers.low, integers.high)
        return (q - affine.zero_point) * scale

    def _round_weights(self, node: onnx.NodeProto, scales: Mapping[str, Tensor]) -> list[Tensor]:
        weight, *biases = (self.weights[self._index[name]] for name in node.input[1:])
        home = self.plan.same_as.get(node.input[0], node.input[0])
        counts = self.plan.counts.get(node.input[0])
        source = scales[home] if counts is None else torch.tensor(counts)
        with torch.no_grad():
            bias_values = biases[0].numpy() if biases else None
            largest = self.plan.largest(node.input[0])
            scale = torch.from_numpy(
                weight_scale(weight.numpy(), bias_values, float(source), largest_input=largest)
            )
        shaped = scale.reshape(-1, *[1] * (weight.dim() - 1))
        rounded = [_rounded(weight / shaped).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) * shaped]
        for bias in biases:
            step = (source * scale).detach()
            rounded.append(_rounded(bias / step) * step if self.plan.integers.int32_bias else bias)
        return rounded

    @torch.no_grad()
    def trained(self) -> tuple[onnx.ModelProto, QuantPlan]:
        """Return the float graph with the weights as they are now, and the plan with the scales as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in self._index:
                values = self.weights[self._index[tensor.name]].numpy()
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        scales = self.log_scales.exp().numpy()
        activations = {
            name: Affine(float(scale), self.plan.activations[name].zero_point)
            for name, scale in zip(self._tensors, scales, strict=True)
        }
        return model, replace(self.plan, activations=activations)


def unknown_operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators of a graph that cannot be fine-tuned here."""
    return sorted({node.op_type for node in model.graph.node} - set(_OPERATORS))


def _is_layer(node: onnx.NodeProto, plan: QuantPlan) -> bool:
    return node.op_type in WEIGHTED_OPS and layer_name(node) in plan.layers


def _rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def _attributes(node: onnx.NodeProto) -> _Attributes:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _conv(x: Sequence[Tensor], a: _Attributes) -> Tensor:
    (top, left, bottom, right) = a.get("pads", (0, 0, 0, 0))
    padded = functional.pad(x[0], (left, right, top, bottom))
    bias = x[2] if len(x) > 2 else None
    return functional.conv2d(
        padded,
        x[1],
        bias,
        stride=a.get("strides", 1),
        dilation=a.get("dilations", 1),
        groups=a.get("group", 1),
    )


def _max_pool(x: Sequence[Tensor], a: _Attributes) -> Tensor:
    (top, left, bottom, right) = a.get("pads", (0, 0, 0, 0))
    padded = functional.pad(x[0], (left, right, top, bottom), value=float("-inf"))
    return functional.max_pool2d(padded, a["kernel_shape"], stride=a.get("strides", [1, 1]))


def _gemm(x: Sequence[Tensor], a: _Attributes) -> Tensor:
    product = x[0] @ (x[1].T if a.get("transB", 0) else x[1])
    return product + x[2] if len(x) > 2 else product


def _slice(x: Sequence[Tensor], _: _Attributes) -> Tensor:
    out = x[0]
    axes = x[3].tolist() if len(x) > 3 else range(len(x[1]))
    steps = x[4].tolist() if len(x) > 4 else [1] * len(x[1])
    for start, end, axis, step in zip(x[1].tolist(), x[2].tolist(), axes, steps, strict=True):
        places = torch.arange(out.shape[axis], device=out.device)[start:end:step]
        out = out.index_select(axis, places)
    return out


_OPERATORS: dict[str, Callable[[Sequence[Tensor], _Attributes], Tensor]] = {
    "Add": lambda x, _: x[0] + x[1],
    "Concat": lambda x, a: torch.cat(list(x), dim=a["axis"]),
    "Conv": _conv,
    "Flatten": lambda x, a: x[0].flatten(a.get("axis", 1)),
    "Gather": lambda x, a: x[0].select(a.get("axis", 0), int(x[1])),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, _: x[0].mean(dim=(2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "Mul": lambda x, _: x[0] * x[1],
    "Relu": lambda x, _: x[0].relu(),
    "Sigmoid": lambda x, _: x[0].sigmoid(),
    "Slice": _slice,
    "Squeeze": lambda x, _: x[0].squeeze(tuple(x[1].tolist())),
}
