"""A network in integers: its tensors and steps, and the arithmetic that numpy and C share.

Tensors are int8 and lie in memory sample by sample, (T, C), so that all that a convolution reads for one output is one
piece. Sums are int32 and may not pass 2**31; `lowering.py` refuses weights that could.

Rescaling. A scale is a float32 in the file, hence an integer of 24 bits and a power of two, exactly:
scale = multiplier / 2**shift. A sum times the scale is rounded half to even, as ONNX's QuantizeLinear does:
q = round(sum * multiplier / 2**shift) + zero_point, clamped to low..127. The product has 55 bits at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge_export.qdq import Affine

INT8_LOW, INT8_HIGH = -128, 127
MANTISSA_BITS = 24
MAX_SHIFT = 62
LARGEST_RESULT = 2**30
"""Of a rescaled sum, before it is clamped: C does that in 32 bits."""


@dataclass(frozen=True)
class Rescale:
    """multiplier / 2**shift."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, scale: float | np.float32, *, largest: int) -> Rescale:
        """Return a float32 scale, exactly.

        Parameters
        ----------
        largest
            No sum that it is applied to is larger, or below its negative.

        Raises
        ------
        EngineError
            If it is 0, negative, not finite, or too large or small for the arithmetic.
        """
        if not math.isfinite(scale) or scale <= 0:
            raise EngineError(f"a scale is {scale}; expected a number above 0: quantize the file again")
        mantissa, exponent = math.frexp(float(np.float32(scale)))
        shift = MANTISSA_BITS - exponent
        if not 1 <= shift <= MAX_SHIFT:
            raise EngineError(f"a scale is {scale:g}, out of reach of a shift by 1 to {MAX_SHIFT} bits")
        if largest * float(scale) >= LARGEST_RESULT:
            raise EngineError(
                f"a sum of {largest} times the scale {scale:g} does not fit 32 bits; quantize the run again"
            )
        return cls(int(mantissa * 2**MANTISSA_BITS), shift)


@dataclass(frozen=True)
class Tensor:
    """An int8 activation, (samples, channels) in memory; value = scale * (q - zero_point)."""

    name: str
    channels: int
    samples: int
    affine: Affine

    @property
    def size(self) -> int:
        """Bytes."""
        return self.channels * self.samples


@dataclass(frozen=True)
class Sums:
    """32-bit sums that stay as they are: of a layer in front of outputs; none is beyond +-`largest`."""

    name: str
    channels: int
    largest: int


@dataclass(frozen=True)
class Quantize:
    """Front-end counts, (T, K) int16, to int8."""

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
        Smallest int8 out: the zero point where a ReLU follows.
    """

    name: str
    source: Tensor
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
        """Whether every group is one channel in."""
        return self.groups == self.source.channels and self.groups > 1

    @property
    def largest_sum(self) -> int:
        """No sum is beyond it, whatever the input."""
        return int(largest_sums(self.weight, self.bias).max())

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
    """An output that is an int8 tensor."""

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

    steps: tuple[Step, ...]
    outputs: tuple[VectorOutput | NumberOutput, ...]
    leads: tuple[str, ...]
    rate_hz: float
    lsb_mv: float

    @property
    def n_samples(self) -> int:
        """Samples a lead in a window."""
        return next(step.out.samples for step in self.steps if isinstance(step, Quantize))

    @property
    def macs(self) -> int:
        """Multiplications of a window."""
        return sum(step.macs for step in self.steps if isinstance(step, Convolution))


def largest_sums(weight: NDArray[np.int8], bias: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the largest sum that each channel out can come to, if every input is 255 steps off its zero point."""
    products: NDArray[np.int64] = np.abs(weight.astype(np.int64)).sum(axis=(1, 2)) * (INT8_HIGH - INT8_LOW)
    return products + np.abs(bias.astype(np.int64))


def sources(step: Step) -> tuple[Tensor, ...]:
    """Return what a step reads from the arena."""
    if isinstance(step, Quantize):
        return ()
    return (step.left, step.right) if isinstance(step, Add) else (step.source,)
