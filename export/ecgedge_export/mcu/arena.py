"""Where each tensor lies in the arena: two that are alive at the same step never overlap, others may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecgedge_export.mcu.program import (
    Convolution,
    NumberOutput,
    Program,
    Tensor,
    VectorOutput,
    sources,
)

ALIGNMENT = 4
"""Of a tensor's start, in numbers."""
STRIP_BYTES = 4096
"""Of a convolution's strip, unless two positions need more; the outputs in it grow with it up to `MAX_BLOCK`."""
MAX_BLOCK = 32
STRIP_SLACK = 4
"""Numbers behind a strip's last: weights come in fours, the last with zeros, and read that far."""


@dataclass(frozen=True)
class ArenaPlan:
    """Where each tensor begins by name, and how many numbers there are; numbers of the strip, and 32-bit sums by name.

    `number_bytes` has a tensor's number; one of the strip has two, a sum has four.
    """

    offsets: Mapping[str, int]
    size: int
    strip_numbers: int
    sums: Mapping[str, int]
    n_sums: int
    number_bytes: int

    @property
    def tensor_bytes(self) -> int:
        """Of all tensors."""
        return self.number_bytes * self.size

    @property
    def ram_bytes(self) -> int:
        """Of the arena with strip and sums."""
        return self.tensor_bytes + 2 * self.strip_numbers + 4 * self.n_sums


@dataclass(frozen=True)
class _Life:
    tensor: Tensor
    first: int
    last: int


def plan_arena(program: Program) -> ArenaPlan:
    """Return a plan: the largest tensors first, each as low as those that live with it allow."""
    lives = sorted(_lives(program), key=lambda life: (-life.tensor.size, life.first))
    placed: list[tuple[_Life, int]] = []
    for life in lives:
        taken = sorted((at, at + other.tensor.size) for other, at in placed if _together(life, other))
        placed.append((life, _lowest(taken, life.tensor.size)))
    sums, n_sums = _sums(program)
    convolutions = [s for s in program.steps if isinstance(s, Convolution) and not s.depthwise]
    return ArenaPlan(
        offsets={life.tensor.name: at for life, at in placed},
        size=max((_aligned(at + life.tensor.size) for life, at in placed), default=0),
        strip_numbers=max((_even(strip_numbers(c, block_of(c))) for c in convolutions), default=0),
        sums=sums,
        n_sums=n_sums,
        number_bytes=np.dtype(program.integers.dtype).itemsize,
    )


def block_of(step: Convolution) -> int:
    """Return how many outputs a convolution computes out of one strip: an even number, or 1."""
    block = min(MAX_BLOCK, step.samples_out + step.samples_out % 2)
    while block > 2 and 2 * strip_numbers(step, block) > STRIP_BYTES:
        block -= 2
    return 1 if step.samples_out == 1 else block


def strip_numbers(step: Convolution, block: int) -> int:
    """Return how many 16-bit numbers a block of outputs reads."""
    kernel = int(step.weight.shape[1])
    samples = (block - 1) * step.stride + (kernel - 1) * step.dilation + 1
    return samples * step.source.channels + STRIP_SLACK


def _lives(program: Program) -> list[_Life]:
    tensors: dict[str, Tensor] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        out = step.out
        if isinstance(out, Tensor):
            tensors[out.name] = out
            first.setdefault(out.name, index)
            last[out.name] = index
        last.update({source.name: index for source in sources(step) if isinstance(source, Tensor)})
    for output in program.outputs:
        if isinstance(output, VectorOutput):
            last[output.tensor.name] = len(program.steps)
    return [_Life(tensor, first[name], last[name]) for name, tensor in tensors.items()]


def _together(one: _Life, other: _Life) -> bool:
    return one.first <= other.last and other.first <= one.last


def _lowest(taken: list[tuple[int, int]], size: int) -> int:
    at = 0
    for start, end in taken:
        if at + size <= start:
            break
        at = max(at, _aligned(end))
    return at


def _sums(program: Program) -> tuple[dict[str, int], int]:
    found: dict[str, int] = {}
    n = 0
    for output in program.outputs:
        if isinstance(output, NumberOutput) and output.sums.name not in found:
            found[output.sums.name] = n
            n += output.sums.channels
    return found, n


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _even(n: int) -> int:
    return n + n % 2
