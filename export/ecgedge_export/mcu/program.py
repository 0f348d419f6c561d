"""A network in integers: its tensors and steps, and the arithmetic that numpy and C share.

Tensors are int8, or int16 without a zero point, all of a network alike. They lie in memory sample by sample, (T, C), so
that all that a convolution reads for one output is one piece. Sums are int32 and may not pass 2**31; `lowering.py`
refuses weights that could.

Rescaling. A scale is a float32 in the file, hence an integer of 31 bits and a power of two, exactly:
scale = multiplier / 2**shift. A sum times the scale is rounded half to even, as ONNX's QuantizeLinear does:
q = round(sum * multiplier / 2**shift) + zero_point, clamped to low..highest. The product has 62 bits at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge_export.quant_plan import INTEGER_TYPES, Affine, IntegerType

INT8, INT16 = INTEGER_TYPES["mcu"], INTEGER_TYPES["mcu16"]
MANTISSA_BITS = 31
MAX_SHIFT = 62
LARGEST_COUNT = 2**15
LARGEST_RESULT = 2**30
"""Of a rescaled sum, before it is clamped: C does that in 32 bits."""


@dataclass(frozen=True)
class Rescale:
    """multiplier / 2**shift."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, scale: float | np.float32, *, largest: int) -> Rescale:
        """Return a float32 scale: exactly, or as whole 2**-62 if it is below 2**-31 and makes 0 of all sums.

        Parameters
        ----------
        largest
            No sum that it is applied to is larger, or below its negative.

        Raises
        ------
        EngineError
            If it is 0, negative, not finite, or too large.
        """
        if not math.isfinite(scale) or scale <= 0:
            raise EngineError(f"a scale is {scale}; expected a number above 0: quantize the file again")
        mantissa, exponent = math.frexp(float(np.float32(scale)))
        shift = MANTISSA_BITS - exponent
        if largest * float(scale) >= LARGEST_RESULT:
            raise EngineError(
                f"a sum of {largest} times the scale {scale:g} does not fit 32 bits; quantize the run again"
            )
        if shift < 1:
            raise EngineError(
                f"a scale is {scale:g}; the largest that is taken is 2**29: quantize the run again"
            )
        if shift > MAX_SHIFT:
            return cls(round(float(scale) * 2**MAX_SHIFT), MAX_SHIFT)
        return cls(int(mantissa * 2**MANTISSA_BITS), shift)


@dataclass(frozen=True)
class Tensor:
    """An activation, (samples, channels) in memory; value = scale * (q - zero_point)."""

    name: str
    channels: int
    samples: int
    affine: Affine
    integers: IntegerType = INT8

    @property
    def size(self) -> int:
        """How many numbers."""
        return self.channels * self.samples


@dataclass(frozen=True)
class Counts:
    """The input: front-end counts, int16, (samples, channels) in the caller's memory."""

    name: str
    channels: int
    samples: int


@dataclass(frozen=True)
class Sums:
    """32-bit sums that stay as they are: of a layer in front of outputs; none is beyond +-`largest`."""

    name: str
    channels: int
    largest: int


@dataclass(frozen=True)
class Quantize:
    """Counts to a tensor's numbers."""

    source: Counts
    out: Tensor
    rescale: Rescale


@dataclass(frozen=True, eq=False)
class Convolution:
    """Over time, or of a whole tensor (a dense layer is one whose kernel is as long as its input).

    Attributes
    ----------
    name
        Of the layer.
    weight
        (channels out, kernel, channels in / groups) int8.
    bias
        (channels out,) int32.
    rescales
        One per channel out; none if `out` are sums.
    low
        Smallest number out: the zero point where a ReLU follows.
    """

    name: str
    source: Tensor | Counts
    out: Tensor | Sums
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    rescales: tuple[Rescale, ...]
    stride: int
    dilation: int
    pad: int
    groups: int
    low: int

    @property
    def samples_out(self) -> int:
        """How many positions it is computed at."""
        return self.out.samples if isinstance(self.out, Tensor) else 1

    @property
    def depthwise(self) -> bool:
        """Whether every group is one channel in, of a tensor."""
        return self.groups == self.source.channels and self.groups > 1 and isinstance(self.source, Tensor)

    @property
    def largest_sum(self) -> int:
        """No sum is beyond it, whatever the input."""
        return int(largest_sums(self.source, self.weight, self.bias).max())

    @property
    def zero_in(self) -> int:
        """Zero point of the input."""
        return self.source.affine.zero_point if isinstance(self.source, Tensor) else 0

    @property
    def macs(self) -> int:
        """Multiplications, those with padding included."""
        return int(self.weight.size) * self.samples_out


@dataclass(frozen=True)
class Add:
    """out = left + right: each arm less its zero point, times its multiplier, in 32 bits."""

    left: Tensor
    right: Tensor
    out: Tensor
    multipliers: tuple[int, int]
    shift: int
    low: int


@dataclass(frozen=True)
class MaxPool:
    """Largest of `kernel` samples; padding never counts. The input's numbers pass on."""

    source: Tensor
    out: Tensor
    kernel: int
    stride: int
    pad: int


@dataclass(frozen=True)
class MeanPool:
    """Mean of `kernel` samples without padding; the mean over the window has them all."""

    source: Tensor
    out: Tensor
    kernel: int
    stride: int
    rescale: Rescale
    low: int


@dataclass(frozen=True)
class Move:
    """Copy `source`, rescaled, into channels `channel`, ... of `out`: a part of a Concat, a ReLU, other numbers."""

    source: Tensor
    out: Tensor
    channel: int
    rescale: Rescale | None
    low: int


Step: TypeAlias = Quantize | Convolution | Add | MaxPool | MeanPool | Move


@dataclass(frozen=True)
class VectorOutput:
    """An output that is a tensor."""

    name: str
    tensor: Tensor


@dataclass(frozen=True)
class NumberOutput:
    """An output that is one number: of `sums`, number `index`, times the multiplier, shifted, plus the offset.

    In units of 1 / `per_unit`. With `sigmoid` that is its argument in 4,096ths, and the number comes from the table, in
    65,535ths.
    """

    name: str
    sums: Sums
    index: int
    multiplier: int
    shift: int
    offset: int
    sigmoid: bool
    per_unit: int


@dataclass(frozen=True)
class Program:
    """A network as steps, in order, and what comes out of it."""

    counts: Counts
    steps: tuple[Step, ...]
    outputs: tuple[VectorOutput | NumberOutput, ...]
    leads: tuple[str, ...]
    rate_hz: float
    lsb_mv: float

    @property
    def integers(self) -> IntegerType:
        """What its tensors are made of."""
        return next((step.out.integers for step in self.steps if isinstance(step.out, Tensor)), INT8)

    @property
    def macs(self) -> int:
        """Multiplications of a window."""
        return sum(step.macs for step in self.steps if isinstance(step, Convolution))


def largest_sums(
    source: Tensor | Counts, weight: NDArray[np.int8], bias: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the largest sum that each channel out can come to, if every input is as far off zero as it can be."""
    largest = LARGEST_COUNT if isinstance(source, Counts) else source.integers.largest
    products: NDArray[np.int64] = np.abs(weight.astype(np.int64)).sum(axis=(1, 2)) * largest
    return products + np.abs(bias.astype(np.int64))


def sources(step: Step) -> tuple[Tensor | Counts, ...]:
    """Return what a step reads."""
    return (step.left, step.right) if isinstance(step, Add) else (step.source,)
