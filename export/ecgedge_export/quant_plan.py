"""The plan of an INT8 file: which tensor of a float graph has which scale, in integers that suit an engine.

Flavours, since no one file suits every engine:

- "cpu": u8 activations with a zero point, s32 biases. On x86, ONNX Runtime runs u8 times s8 faster than s8 times s8.
  TensorRT refuses it (zero points other than 0). The ReLU is the clamp at the zero point.
- "rtx": s8 activations without a zero point, biases in float: TensorRT has no int32 DequantizeLinear.
- "mcu": s8 activations with a zero point, s32 biases, and everything quantized: poolings, their concatenation, the
  embedding's layer, the embedding that the heads read, and the heads, whose 32-bit sums are the outputs. Not the
  input: the front end's counts are 16-bit integers already, and the first layer multiplies those. For integer C.
- "mcu16": the same with s16 activations without a zero point. The range takes 2,048 of their 32,768 steps a side: 16
  times as fine as 8 bits (8 times behind a ReLU), and a record may pass the range 16 times over before it saturates.
  Needs opset 21.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge_export.calibration import Ranges
from ecgedge_export.onnx_file import INPUT_NAME

Flavour = Literal["cpu", "rtx", "mcu", "mcu16"]
WEIGHTED_OPS = ("Conv", "Gemm")
_COUNT_LIMIT = 2**15
_POOLS = ("MaxPool", "GlobalMaxPool")
_SHAPE_OPS = ("Flatten", "Reshape", "Squeeze")
_JOINTS = ("Concat", "Slice")


@dataclass(frozen=True)
class IntegerType:
    """What a flavour's activations are made of.

    Attributes
    ----------
    low, high
        What an activation is clamped to.
    whole
        Whether everything is quantized, for integer C.
    reach
        Of a symmetric type: how many steps the range takes on either side; the others are headroom.
    """

    low: int
    high: int
    symmetric: bool
    int32_bias: bool
    whole: bool = False
    reach: int = 127

    @property
    def dtype(self) -> type[np.uint8] | type[np.int8] | type[np.int16]:
        """Type of the zero point, and so of the tensor."""
        if self.high > np.iinfo(np.uint8).max:
            return np.int16
        return np.uint8 if self.low == 0 else np.int8

    @property
    def largest(self) -> int:
        """No activation is further from its zero point."""
        return max(-self.low, self.high) if self.symmetric else self.high - self.low


INTEGER_TYPES: Mapping[str, IntegerType] = {
    "cpu": IntegerType(0, 255, symmetric=False, int32_bias=True),
    "rtx": IntegerType(-127, 127, symmetric=True, int32_bias=False),
    "mcu": IntegerType(-128, 127, symmetric=False, int32_bias=True, whole=True),
    "mcu16": IntegerType(-(2**15), 2**15 - 1, symmetric=True, int32_bias=True, whole=True, reach=2**11),
}


@dataclass(frozen=True)
class Affine:
    """value = scale * (q - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantPlan:
    """Which tensors of a float graph are quantized, and how.

    Attributes
    ----------
    activations
        By tensor name.
    same_as
        Tensor to the tensor whose numbers it shares: behind a max-pool; in a streaming form a state, its joint with the
        chunk and what is cut out of either, so that a state comes back as the integers that it left as.
    layers
        Names of the quantized layers, see `layer_name`.
    counts
        Inputs of the graph that are whole counts already, by name, and what one is worth.
    """

    flavour: Flavour
    activations: Mapping[str, Affine]
    same_as: Mapping[str, str]
    layers: tuple[str, ...]
    counts: Mapping[str, float] = field(default_factory=dict)

    @property
    def integers(self) -> IntegerType:
        """The flavour's integers."""
        return INTEGER_TYPES[self.flavour]

    def affine(self, tensor: str) -> Affine | None:
        """Return a tensor's numbers; None if it stays float."""
        return self.activations.get(self.same_as.get(tensor, tensor))

    def step(self, tensor: str) -> float | None:
        """Return what one step of a tensor is worth; None if it stays float."""
        affine = self.affine(tensor)
        return self.counts.get(tensor) if affine is None else affine.scale

    def largest(self, tensor: str) -> int:
        """Return what a layer's 32-bit sums have to hold of a tensor, in steps; 0 where an engine sees to that."""
        if not self.integers.whole:
            return 0
        return _COUNT_LIMIT if tensor in self.counts else self.integers.largest


def parse_flavour(text: str) -> Flavour:
    """Return a flavour by its name.

    Raises
    ------
    UsageError
        If there is no such flavour.
    """
    known: dict[str, Flavour] = {"cpu": "cpu", "rtx": "rtx", "mcu": "mcu", "mcu16": "mcu16"}
    if text not in known:
        raise UsageError(f"unknown INT8 flavour {text!r}; expected {', '.join(known)}")
    return known[text]


def layer_name(node: onnx.NodeProto) -> str:
    """Return the name of a layer as the user gives it: "stem", "blocks.0.conv1", "fc"."""
    return str(node.input[1]).removeprefix("tail.encoder.").removesuffix(".weight")


def quantizable_layers(model: onnx.ModelProto, *, flavour: Flavour) -> tuple[str, ...]:
    """Return the layers of a float graph that a flavour quantizes, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in WEIGHTED_OPS and n.input[1] in constants]
    whole = INTEGER_TYPES[flavour].whole
    return tuple(layer_name(node) for node in nodes if node.op_type == "Conv" or whole)


def leading_layers(model: onnx.ModelProto, *, flavour: Flavour) -> tuple[tuple[str, ...], ...]:
    """Return what can stay in float at the input's end: the first layer, the layers up to the first sum, the next, ...

    Each holds the one before it; none holds all layers.
    """
    layers, graph = quantizable_layers(model, flavour=flavour), Graph.of(model)
    ends, seen = [1], 0
    for node in model.graph.node:
        seen += node.op_type in WEIGHTED_OPS and layer_name(node) in layers
        if graph.is_sum(node):
            ends.append(seen)
    return tuple(layers[:end] for end in dict.fromkeys(ends) if 0 < end < len(layers))


def _behind_outputs(model: onnx.ModelProto) -> set[str]:
    """Return the tensors that are computed out of an output of the graph: the heads behind the embedding."""
    behind = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if behind.intersection(node.input):
            behind.update(node.output)
    return behind


def affine_of(low: float, high: float, integers: IntegerType) -> Affine:
    """Return scale and zero point of a range that holds 0."""
    if integers.symmetric:
        reach = max(-low, high)
        return Affine(_float32(reach / integers.reach if reach > 0 else 1.0), 0)
    if high <= low:
        return Affine(1.0, integers.low)
    scale = _float32((high - low) / (integers.high - integers.low))
    return Affine(scale, int(np.clip(round(integers.low - low / scale), integers.low, integers.high)))


def _float32(value: float) -> float:
    return float(np.float32(value))


def make_plan(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    flavour: Flavour,
    float_layers: Sequence[str] = (),
    only_layers: bool = False,
    lsb_mv: float = FrontEndSpec.lsb_mv,
) -> QuantPlan:
    """Decide what is quantized, and with which numbers.

    Parameters
    ----------
    model
        Float, from `export_onnx`.
    ranges
        From `tensor_ranges`.
    float_layers
        Layers that stay in float.
    only_layers
        Leave sums and poolings in float: what is left is the damage of the layers alone.
    lsb_mv
        What a count of the front end is worth.

    Raises
    ------
    EngineError
        If a named layer does not exist.
    """
    known = quantizable_layers(model, flavour=flavour)
    if unknown := sorted(set(float_layers) - set(known)):
        raise EngineError(
            f"no layer {', '.join(unknown)} to leave in float; the {flavour} flavour quantizes: {', '.join(known)}"
        )
    layers = tuple(layer for layer in known if layer not in float_layers)
    marked, same_as = _mark(model, layers, whole=INTEGER_TYPES[flavour].whole, only_layers=only_layers)
    integers = INTEGER_TYPES[flavour]
    outputs = set() if integers.whole else {value.name for value in model.graph.output}
    inputs = {INPUT_NAME} if integers.whole else set()
    activations = {
        name: affine_of(*ranges[name], integers)
        for name in marked
        if name not in outputs | inputs and name not in same_as
    }
    return QuantPlan(flavour, activations, same_as, layers, dict.fromkeys(inputs, lsb_mv))


def _mark(
    model: onnx.ModelProto, layers: Sequence[str], *, whole: bool, only_layers: bool
) -> tuple[dict[str, None], dict[str, str]]:
    """Return the tensors to quantize, in order, and those that share another's numbers."""
    graph = Graph.of(model)
    fed = _fed(model, layers)
    marked: dict[str, None] = {}
    same_as: dict[str, str] = {}
    # A ReLU that an output feeds is a clamp of its integers.
    passing = (*_POOLS, *((*_SHAPE_OPS, "Relu") if whole else ()))
    for node in model.graph.node:
        source, out = node.input[0], node.output[0]
        if node.op_type in WEIGHTED_OPS and layer_name(node) in layers:
            marked.update(dict.fromkeys([source, *_results(node, graph)]))
        elif only_layers:
            continue
        elif (node.op_type in passing and source in (same_as | marked)) or (
            node.op_type in _JOINTS and out in fed
        ):
            *past, chunk = _joined(node)
            marked[chunk] = None
            same_as.update(dict.fromkeys([*past, out], same_as.get(chunk, chunk)))
        elif graph.is_sum(node) and (same_as | marked).keys() & set(node.input):
            marked.update(dict.fromkeys([*node.input, graph.behind_relu(out)]))
        elif whole and node.op_type in ("GlobalAveragePool", "Concat"):
            marked[out] = None
    return marked, same_as


def _results(node: onnx.NodeProto, graph: Graph) -> list[str]:
    """Return what a layer's result is rounded as: a convolution's behind its ReLU, of a dense layer an output."""
    out = str(node.output[0])
    if node.op_type == "Conv":
        return [graph.behind_relu(out)]
    return [out] if out in graph.outputs else []


def _fed(model: onnx.ModelProto, layers: Sequence[str]) -> set[str]:
    """Return the tensors that quantized convolutions read, also through a max-pool."""
    fed: set[str] = set()
    for node in reversed(model.graph.node):
        quantized = node.op_type == "Conv" and layer_name(node) in layers
        if quantized or (node.op_type == "MaxPool" and node.output[0] in fed):
            fed.add(node.input[0])
        elif node.op_type in _JOINTS and node.output[0] in fed:
            fed.add(_joined(node)[-1])
    return fed


def _joined(node: onnx.NodeProto) -> list[str]:
    """Return what a node passes on: of a joint the layer's past and its chunk, of others their input."""
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


@dataclass(frozen=True)
class Graph:
    """Who reads what."""

    readers: Mapping[str, tuple[onnx.NodeProto, ...]]
    constants: frozenset[str]
    heads: frozenset[str]
    outputs: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Graph:
        """Look at a float graph."""
        readers: dict[str, tuple[onnx.NodeProto, ...]] = {}
        for node in model.graph.node:
            for name in node.input:
                readers[name] = (*readers.get(name, ()), node)
        constants = frozenset(tensor.name for tensor in model.graph.initializer)
        outputs = frozenset(value.name for value in model.graph.output)
        return cls(readers, constants, frozenset(_behind_outputs(model)), outputs)

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that alone reads a tensor; of an output whoever runs the graph reads it, too."""
        readers = self.readers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def behind_relu(self, tensor: str) -> str:
        """Return the output of the ReLU that alone reads a tensor; else the tensor."""
        reader = self.only_reader(tensor)
        return str(reader.output[0]) if reader is not None and reader.op_type == "Relu" else tensor

    def is_sum(self, node: onnx.NodeProto) -> bool:
        """Whether a node sums two activations of the encoder."""
        return node.op_type == "Add" and not any(
            name in self.constants or name in self.heads for name in node.input
        )
