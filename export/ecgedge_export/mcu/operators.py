"""What each operator of an INT8 QDQ graph becomes in integers; one that is not here ends the export with its name.

A QuantizeLinear is where a step ends: what stands in front of it (a convolution, its ReLU) waits for the numbers of its
result. What follows the last dense layer (selected rows, constant factors and offsets, a sigmoid) is folded into the
numbers of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge_export.mcu.program import (
    INT8,
    INT16,
    LARGEST_COUNT,
    Add,
    Convolution,
    Counts,
    MaxPool,
    MeanPool,
    Move,
    Quantize,
    Rescale,
    Step,
    Tensor,
    largest_sums,
)
from ecgedge_export.mcu.walk import (
    Held,
    Numbers,
    Pending,
    Value,
    Walk,
    Weights,
    constant_array,
    layer_weights,
    refuse,
)
from ecgedge_export.quant_plan import Affine, IntegerType

ADD_BITS = 30
"""Of an arm times its multiplier: two such arms and their sum fit 32 bits."""
_LARGEST_SUM = 2**31 - 1

Attributes: TypeAlias = Mapping[str, Any]


def _quantize(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    name, scale, zero_point = node.input
    affine = Affine(float(constant_array(to, scale)), int(constant_array(to, zero_point)))
    integers = _integers(node, constant_array(to, zero_point))
    out = str(node.output[0])
    if name == to.counts.name:
        tensor = Tensor(out, to.counts.channels, to.counts.samples, affine, integers)
        to.steps.append(Quantize(to.counts, tensor, _count_rescale(to.lsb_mv, affine)))
        return Held(tensor)
    value = to.values[name]
    if isinstance(value, Held) and (value.tensor.affine, value.tensor.integers) == (affine, integers):
        to.settled[name] = value
        return value
    if isinstance(value, Held):
        value = replace(_moved(value.tensor), samples=value.tensor.samples)
    if not isinstance(value, Pending):
        raise EngineError(f"QuantizeLinear of {name}, which no known layer computes; no C for that")
    tensor = Tensor(out, value.channels, value.samples, affine, integers)
    to.settle(value, tensor)
    to.settled[name] = Held(tensor)
    return to.settled[name]


def _integers(node: onnx.NodeProto, zero_point: NDArray[Any]) -> IntegerType:
    """Return what a QuantizeLinear makes."""
    if zero_point.dtype == INT16.dtype and zero_point != 0:
        refuse(node, f"16 bits and a zero point of {zero_point}")
    if zero_point.dtype not in (INT8.dtype, INT16.dtype):
        refuse(node, f"a zero point of {zero_point.dtype}")
    return INT16 if zero_point.dtype == INT16.dtype else INT8


def _count_rescale(lsb_mv: float, affine: Affine) -> Rescale:
    return Rescale.of(np.float32(lsb_mv) / np.float32(affine.scale), largest=LARGEST_COUNT)


def _dequantize(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    value = to.values[node.input[0]]
    if isinstance(value, np.ndarray):
        return Weights(value, np.atleast_1d(constant_array(to, node.input[1])))
    return value


def _convolution(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    source = to.counts if node.input[0] == to.counts.name else to.held(node.input[0], node)
    weights = layer_weights(to, node)
    if weights.integers.ndim != 4 or weights.integers.shape[2] != 1:
        refuse(node, f"a kernel of shape {weights.integers.shape}")
    pads = _pads(node, a)
    stride, dilation = a.get("strides", [1, 1])[1], a.get("dilations", [1, 1])[1]
    weight = np.ascontiguousarray(weights.integers[:, :, 0].transpose(0, 2, 1)).astype(np.int8)
    reach = (weight.shape[1] - 1) * dilation + 1
    if max(pads) >= reach:
        refuse(node, f"padding {pads} of a kernel that sees {reach} samples")
    samples = (source.samples + sum(pads) - reach) // stride + 1
    return _layer(
        to, node, source, weight, weights, samples=samples, stride=stride, dilation=dilation, pad=pads[0],
        groups=a.get("group", 1),
    )  # fmt: skip


def _dense(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0) != 0:
        refuse(node, "factors, or a transposed input")
    source = to.held(node.input[0], node, flat=True)
    weights = layer_weights(to, node)
    if a.get("transB", 0) != 1:
        refuse(node, "weights that are not (out, in): transB 0")
    by_channel = weights.integers.reshape(-1, source.channels, source.samples)
    weight = np.ascontiguousarray(by_channel.transpose(0, 2, 1)).astype(np.int8)
    value = _layer(to, node, source, weight, weights, samples=1, stride=1, dilation=1, pad=0, groups=1)
    layer = value.settle(Tensor(value_name(node), value.channels, 1, Affine(1.0, 0)), INT8.low)[0]
    if not isinstance(layer, Convolution):
        raise TypeError(f"{layer} is no dense layer")
    scales = np.float64(source.affine.scale) * weights.scales.astype(np.float64)
    return replace(value, dense=layer, scales=tuple(np.broadcast_to(scales, value.channels).tolist()))


def value_name(node: onnx.NodeProto) -> str:
    """Return the name of what a node computes."""
    return str(node.output[0])


def _layer(
    to: Walk,
    node: onnx.NodeProto,
    source: Tensor | Counts,
    weight: NDArray[np.int8],
    weights: Weights,
    *,
    samples: int,
    stride: int,
    dilation: int,
    pad: int,
    groups: int,
) -> Pending:
    """Return a convolution that waits for its result's numbers."""
    n_out, name = len(weight), _layer_name(node)
    bias = np.zeros(n_out, np.int32)
    if len(node.input) > 2:
        bias = _bias(to, node)
    largest = largest_sums(source, weight, bias)
    if largest.max() > _LARGEST_SUM:
        raise EngineError(f"{node.op_type} ({node.name}): a sum can pass 32 bits; quantize the run again")
    step = source.affine.scale if isinstance(source, Tensor) else to.lsb_mv
    scales = np.broadcast_to(np.float32(step) * weights.scales, n_out)

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        y_scale = np.float32(out.affine.scale)
        rescales = tuple(
            Rescale.of(s / y_scale, largest=int(x)) for s, x in zip(scales, largest, strict=True)
        )
        return (Convolution(name, source, out, weight, bias, rescales, stride, dilation, pad, groups, low),)

    return Pending(n_out, samples, settle)


def _layer_name(node: onnx.NodeProto) -> str:
    name = str(node.input[1]).removesuffix("_dq").removesuffix(".weight")
    return name.removeprefix("tail.").removeprefix("encoder.")


def _bias(to: Walk, node: onnx.NodeProto) -> NDArray[np.int32]:
    bias = to.values.get(node.input[2])
    if not isinstance(bias, Weights) or bias.integers.dtype != np.int32:
        refuse(node, f"a bias {node.input[2]} that is not int32")
    return bias.integers


def _relu(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    value = to.values[node.input[0]]
    if isinstance(value, Pending):
        held = to.settled.get(node.input[0])
        value = value if held is None else _moved(held.tensor)
        return replace(value, relu=True)
    return replace(_moved(to.held(node.input[0], node)), relu=True)


def _moved(source: Tensor) -> Pending:
    """Return a copy that waits for its numbers."""

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        return (_move(source, out, 0, low),)

    return Pending(source.channels, source.samples, settle)


def _move(source: Tensor, out: Tensor, channel: int, low: int) -> Move:
    same = source.affine == out.affine
    rescale = None if same else _ratio(source, out)
    return Move(source, out, channel, rescale, low)


def _ratio(source: Tensor, out: Tensor) -> Rescale:
    ratio = np.float32(source.affine.scale) / np.float32(out.affine.scale)
    return Rescale.of(ratio, largest=source.integers.largest)


def _concat(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    parts = [to.held(name, node) for name in node.input]
    if a.get("axis") != 1 or len({part.samples for part in parts}) != 1:
        refuse(node, "another axis than the channels")
    channels = np.cumsum([0, *(part.channels for part in parts)]).tolist()

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        return tuple(_move(part, out, at, low) for part, at in zip(parts, channels[:-1], strict=True))

    return Pending(channels[-1], parts[0].samples, settle)


def _add(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    if any(isinstance(to.values.get(name), np.ndarray) for name in node.input):
        return _arithmetic(to, node, a)
    left, right = (to.held(name, node) for name in node.input)
    if (left.channels, left.samples) != (right.channels, right.samples):
        refuse(node, f"arms of {left.channels} x {left.samples} and {right.channels} x {right.samples}")

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        ratios = [np.float64(arm.affine.scale) / out.affine.scale for arm in (left, right)]
        bits = ADD_BITS - left.integers.largest.bit_length()
        shift = bits - int(np.frexp(max(ratios))[1])
        if not 1 <= shift <= 30:
            refuse(node, f"arms {max(ratios):g} times as coarse as their sum")
        first, second = (round(ratio * 2**shift) for ratio in ratios)
        return (Add(left, right, out, (first, second), shift, low),)

    return Pending(left.channels, left.samples, settle)


def _max_pool(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    source = to.held(node.input[0], node)
    kernel, stride, pads = _window(node, a)
    if max(pads) >= kernel:
        refuse(node, f"padding {pads} of a kernel of {kernel}")
    samples = (source.samples + sum(pads) - kernel) // stride + 1

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        if out.affine != source.affine or low > out.integers.low:
            refuse(node, "other numbers at its output than at its input")
        return (MaxPool(source, out, kernel, stride, pads[0]),)

    return Pending(source.channels, samples, settle)


def _mean_pool(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    source = to.held(node.input[0], node)
    whole = node.op_type == "GlobalAveragePool"
    kernel, stride, pads = (source.samples, 1, (0, 0)) if whole else _window(node, a)
    if pads != (0, 0):
        refuse(node, "padding")
    samples, largest = (source.samples - kernel) // stride + 1, kernel * source.integers.largest
    if largest > _LARGEST_SUM:
        refuse(node, f"a mean of {kernel} samples, whose sum can pass 32 bits")

    def settle(out: Tensor, low: int) -> tuple[Step, ...]:
        scale = np.float32(source.affine.scale) / (np.float32(kernel) * np.float32(out.affine.scale))
        return (MeanPool(source, out, kernel, stride, Rescale.of(scale, largest=largest), low),)

    return Pending(source.channels, samples, settle)


def _window(node: onnx.NodeProto, a: Attributes) -> tuple[int, int, tuple[int, int]]:
    """Return kernel, stride and padding of a pooling over time."""
    kernel = a["kernel_shape"]
    if kernel[0] != 1 or a.get("ceil_mode", 0) != 0 or a.get("dilations", [1, 1]) != [1, 1]:
        refuse(node, f"a kernel {kernel}, rounding up, or dilation")
    return kernel[1], a.get("strides", [1, 1])[1], _pads(node, a)


def _pads(node: onnx.NodeProto, a: Attributes) -> tuple[int, int]:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if a.get("auto_pad", b"NOTSET") != b"NOTSET" or top != 0 or bottom != 0:
        refuse(node, "padding over the height, or automatic")
    return left, right


def _flatten(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    value = to.values[node.input[0]]
    if a.get("axis", 1) != 1:
        refuse(node, f"axis {a['axis']}")
    if isinstance(value, Numbers):
        return value
    return Held(to.held(node.input[0], node), flat=True)


def _reshape(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    value = to.values[node.input[0]]
    if isinstance(value, Numbers | Pending):
        return to.numbers(node.input[0])
    tensor = to.held(node.input[0], node)
    if tensor.samples != 1:
        refuse(node, f"{tensor.samples} samples")
    return Held(tensor, flat=True)


def _gather(to: Walk, node: onnx.NodeProto, a: Attributes) -> Value:
    if a.get("axis", 0) != 1:
        refuse(node, "another axis than the channels")
    return _rows(
        to.numbers(node.input[0]), np.atleast_1d(constant_array(to, node.input[1])).astype(int).tolist()
    )


def _rows(numbers: Numbers, rows: Sequence[int]) -> Numbers:
    return replace(
        numbers,
        indices=tuple(numbers.indices[row] for row in rows),
        scales=tuple(numbers.scales[row] for row in rows),
        offsets=tuple(numbers.offsets[row] for row in rows),
    )


def _slice(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    """Select numbers; of a layer that waits for its result, compute the first samples alone."""
    start, end, axis, *step = ([int(x) for x in constant_array(to, name).ravel()] for name in node.input[1:])
    value = to.values[node.input[0]]
    if len(axis) != 1 or step not in ([], [[1]]):
        refuse(node, f"axes {axis}, steps {step}")
    if isinstance(value, Pending) and axis[0] in (3, -1) and start == [0] and value.dense is None:
        return replace(value, samples=len(range(value.samples)[: end[0]]))
    if axis[0] not in (1, -1) or isinstance(value, Held):
        refuse(node, f"axis {axis[0]} from {start[0]} on")
    numbers = to.numbers(node.input[0])
    return _rows(numbers, range(len(numbers.indices))[start[0] : end[0]])


def _arithmetic(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    """Fold a constant into numbers."""
    first, second = node.input
    swapped = isinstance(to.values.get(first), np.ndarray)
    if swapped and node.op_type in ("Sub", "Div"):
        refuse(node, "a constant on its left")
    numbers = to.numbers(second if swapped else first)
    constant = constant_array(to, first if swapped else second).astype(np.float64)
    if numbers.sigmoid:
        refuse(node, "a sigmoid in front of it")
    scales, offsets = np.array(numbers.scales), np.array(numbers.offsets)
    if node.op_type in ("Add", "Sub"):
        offsets = offsets + constant if node.op_type == "Add" else offsets - constant
    else:
        factor = constant if node.op_type == "Mul" else 1 / constant
        scales, offsets = scales * factor, offsets * factor
    n = len(numbers.indices)
    scales, offsets = (np.broadcast_to(x.ravel(), n) for x in (scales, offsets))
    return replace(numbers, scales=tuple(scales.tolist()), offsets=tuple(offsets.tolist()))


def _sigmoid(to: Walk, node: onnx.NodeProto, _: Attributes) -> Value:
    numbers = to.numbers(node.input[0])
    if numbers.sigmoid:
        refuse(node, "a sigmoid in front of it")
    return replace(numbers, sigmoid=True)


OPERATORS: Mapping[str, Callable[[Walk, onnx.NodeProto, Attributes], Value]] = {
    "Add": _add,
    "AveragePool": _mean_pool,
    "Concat": _concat,
    "Conv": _convolution,
    "DequantizeLinear": _dequantize,
    "Div": _arithmetic,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _dense,
    "GlobalAveragePool": _mean_pool,
    "MaxPool": _max_pool,
    "Mul": _arithmetic,
    "QuantizeLinear": _quantize,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Squeeze": _reshape,
    "Sub": _arithmetic,
}
