"""The walk over an INT8 QDQ graph on its way to C: what each name is by now, and the steps so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ecgedge.errors import EngineError
from ecgedge_export.mcu.program import (
    Convolution,
    Counts,
    NumberOutput,
    Rescale,
    Step,
    Sums,
    Tensor,
    VectorOutput,
)

SIGMOID_PER_UNIT = 4096
NUMBER_PER_UNIT = 100


@dataclass(frozen=True)
class Held:
    """A tensor in memory; `flat` if the graph has joined its channels and samples to one axis."""

    tensor: Tensor
    flat: bool = False


@dataclass(frozen=True)
class Weights:
    """Integers of a layer and their scales, one a channel."""

    integers: NDArray[Any]
    scales: NDArray[np.float32]


@dataclass(frozen=True)
class Pending:
    """What a layer computes, before it is known into which numbers: `settle` makes its steps for a result."""

    channels: int
    samples: int
    settle: Callable[[Tensor, int], tuple[Step, ...]]
    relu: bool = False
    dense: Convolution | None = None
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """Some of a layer's sums, each times its scale and with its offset; behind a sigmoid, or not."""

    sums: Sums
    indices: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    sigmoid: bool = False


Value: TypeAlias = "Held | Weights | Pending | Numbers | NDArray[Any]"


@dataclass(frozen=True)
class Walk:
    """The walk over the graph: what each name is by now."""

    lsb_mv: float
    values: dict[str, Value]
    counts: Counts
    steps: list[Step] = field(default_factory=list)
    settled: dict[str, Held] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto, lsb_mv: float) -> Walk:
        """Begin at the input; EngineError if the graph has several, or one of another shape."""
        if len(model.graph.input) != 1:
            raise EngineError("no C for a file of several inputs; export the window form")
        [value] = model.graph.input
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(dims) != 4 or dims[2] != 1:
            raise EngineError(
                f"input {value.name} is {dims}; expected (batch, leads, 1, samples): export again"
            )
        constants: dict[str, Value] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        return cls(lsb_mv, constants, Counts(value.name, dims[1], dims[3]))

    def output(self, name: str) -> VectorOutput | NumberOutput:
        """Return what the C gives under an output's name."""
        if name in self.settled:
            return VectorOutput(name, self.settled[name].tensor)
        value = self.values[name]
        if isinstance(value, Held):
            return VectorOutput(name, value.tensor)
        numbers = self.numbers(name)
        if len(numbers.indices) != 1:
            raise EngineError(
                f"output {name} has {len(numbers.indices)} float numbers; quantize it, or select one"
            )
        per_unit = SIGMOID_PER_UNIT if numbers.sigmoid else NUMBER_PER_UNIT
        scale = numbers.scales[0] * per_unit
        # An output that is the same for all records, such as a probability that nothing was learnt of.
        rescale = Rescale.of(abs(scale), largest=numbers.sums.largest) if scale else Rescale(0, 1)
        return NumberOutput(
            name, numbers.sums, numbers.indices[0], int(np.sign(scale)) * rescale.multiplier, rescale.shift,
            round(numbers.offsets[0] * per_unit), numbers.sigmoid, 65535 if numbers.sigmoid else per_unit,
        )  # fmt: skip

    def held(self, name: str, node: onnx.NodeProto, *, flat: bool = False) -> Tensor:
        """Return the tensor of a name."""
        value = self.values.get(name)
        if not isinstance(value, Held):
            raise EngineError(
                f"{node.op_type} ({node.name or node.output[0]}) reads {name}, which is no tensor of integers; "
                "quantize the run with the flavour mcu and no layer in float"
            )
        if value.flat and value.tensor.samples > 1 and not flat:
            raise EngineError(
                f"{node.op_type} ({node.name}) reads {name}, whose axes were joined; no C for that"
            )
        return value.tensor

    def numbers(self, name: str) -> Numbers:
        """Return a value as numbers; a dense layer's sums come to stand in memory by that."""
        value = self.values[name]
        if isinstance(value, Numbers):
            return value
        if not isinstance(value, Pending) or value.dense is None or value.relu:
            raise EngineError(f"{name} stays in float and is not what a dense layer sums; no C for that")
        if name not in self.sums:
            self.sums[name] = Sums(name, value.channels, value.dense.largest_sum)
            self.steps.append(replace(value.dense, out=self.sums[name], rescales=()))
        n = value.channels
        return Numbers(self.sums[name], tuple(range(n)), value.scales, (0.0,) * n)

    def settle(self, value: Pending, out: Tensor) -> None:
        """Let a waiting layer write into `out`."""
        low = max(out.integers.low, out.affine.zero_point) if value.relu else out.integers.low
        self.steps.extend(value.settle(out, low))


def constant_array(to: Walk, name: str) -> NDArray[Any]:
    """Return a constant; EngineError if it is none."""
    value = to.values.get(name)
    if not isinstance(value, np.ndarray):
        raise EngineError(f"{name} is no constant of the file; no C for that")
    return value


def layer_weights(to: Walk, node: onnx.NodeProto) -> Weights:
    """Return a layer's integers; EngineError if it has stayed in float."""
    value = to.values.get(node.input[1])
    if not isinstance(value, Weights) or value.integers.dtype != np.int8:
        raise EngineError(
            f"{node.op_type} ({node.name or node.output[0]}) has weights in float; quantize all layers"
        )
    return value


def refuse(node: onnx.NodeProto, what: str) -> NoReturn:
    """End the export: a form of an operator that there is no C for."""
    raise EngineError(f"no C for {node.op_type} ({node.name or node.output[0]}) with {what}")
