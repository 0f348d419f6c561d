"""The steps in numpy, integer by integer what the C does: the reference that the C is held to."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge_export.mcu.program import (
    Add,
    Convolution,
    MaxPool,
    MeanPool,
    Move,
    NumberOutput,
    Program,
    Quantize,
    Rescale,
    Step,
    Sums,
    Tensor,
)

Integers: TypeAlias = "NDArray[np.integer[Any]]"
Values: TypeAlias = "dict[str, Integers]"
"""By tensor name: (T, C) int8 or int16; (C,) int32 of sums."""
SIGMOID_STEP_BITS = 7
"""Of an argument in 4,096ths: a table entry every 1/32."""
SIGMOID_ENTRIES = 32 * 12 + 1
"""From 0 to 12, where the sigmoid is 1 to a 65,535th."""


def shift_half_even(x: NDArray[np.int64], shift: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return x / 2**shift, rounded half to even."""
    half = np.int64(1) << (np.asarray(shift, np.int64) - 1)
    rounded: NDArray[np.int64] = (x + half - 1 + ((x >> shift) & 1)) >> shift
    return rounded


def sigmoid_table() -> NDArray[np.uint16]:
    """Return the sigmoid of 0, 1/32, ..., 12 in 65,535ths."""
    x = np.arange(SIGMOID_ENTRIES) / 32
    return np.rint(65535 / (1 + np.exp(-x))).astype(np.uint16)


def sigmoid_65535(x_4096: int) -> int:
    """Return the sigmoid of x / 4096 in 65,535ths: by table, straight lines between its entries."""
    table = sigmoid_table().astype(np.int64)
    size = min(abs(x_4096), (SIGMOID_ENTRIES - 1) << SIGMOID_STEP_BITS)
    index = min(size >> SIGMOID_STEP_BITS, SIGMOID_ENTRIES - 2)
    rest = size - (index << SIGMOID_STEP_BITS)
    rise = (table[index + 1] - table[index]) * rest
    y = int(table[index] + ((rise + (1 << (SIGMOID_STEP_BITS - 1))) >> SIGMOID_STEP_BITS))
    return y if x_4096 >= 0 else 65535 - y


def run_steps(program: Program, counts: NDArray[np.int16]) -> Values:
    """Return every tensor of one window.

    Parameters
    ----------
    counts
        (T, K) front-end counts.
    """
    values: Values = {program.counts.name: counts}
    for step in program.steps:
        _run(step, values)
    return values


def run(program: Program, counts: NDArray[np.int16]) -> dict[str, NDArray[np.int32]]:
    """Return the outputs of one window, (T, K) counts, as the C gives them: all of a vector, one number of another."""
    values = run_steps(program, counts)
    found: dict[str, NDArray[np.int32]] = {}
    for output in program.outputs:
        if isinstance(output, NumberOutput):
            number = number_of(output, int(values[output.sums.name][output.index]))
            found[output.name] = np.array([number], np.int32)
        else:
            found[output.name] = values[output.tensor.name].ravel().astype(np.int32)
    return found


def number_of(output: NumberOutput, total: int) -> int:
    """Return an output's number out of its sum."""
    product = np.array(total * output.multiplier, np.int64)
    number = int(shift_half_even(product, output.shift)) + output.offset
    return sigmoid_65535(number) if output.sigmoid else number


def convolution_sums(step: Convolution, source: Integers) -> NDArray[np.int32]:
    """Return the 32-bit sums, (T out, C out), of a (T, C) tensor."""
    n_out, kernel, per_group = step.weight.shape
    last = (step.samples_out - 1) * step.stride + (kernel - 1) * step.dilation + 1
    # In float64, where BLAS is: sums below 2**53 are exact.
    x = np.zeros((max(last, step.pad + len(source)), step.source.channels))
    x[step.pad : step.pad + len(source)] = source.astype(np.float64) - step.zero_in
    weight = step.weight.astype(np.float64)
    sums = np.tile(step.bias.astype(np.float64), (step.samples_out, 1))
    for tap in range(kernel):
        start = tap * step.dilation
        taken = x[start : start + (step.samples_out - 1) * step.stride + 1 : step.stride]
        for group, rows in enumerate(np.split(np.arange(n_out), step.groups)):
            columns = slice(group * per_group, (group + 1) * per_group)
            sums[:, rows] += taken[:, columns] @ weight[rows, tap].T
    return sums.astype(np.int32)


def _clamped(x: NDArray[np.int64], low: int, out: Tensor) -> Integers:
    return np.clip(x, low, out.integers.high).astype(out.integers.dtype)


def _rescaled(x: NDArray[np.int64], rescale: Rescale, low: int, out: Tensor) -> Integers:
    return _clamped(shift_half_even(x * rescale.multiplier, rescale.shift) + out.affine.zero_point, low, out)


def _less_zero_point(values: Values, tensor: Tensor) -> NDArray[np.int64]:
    return values[tensor.name].astype(np.int64) - tensor.affine.zero_point


@singledispatch
def _run(step: Step, _values: Values) -> None:
    raise TypeError(f"no numpy of {step}")


@_run.register
def _quantize(step: Quantize, values: Values) -> None:
    values[step.out.name] = _rescaled(
        values[step.source.name].astype(np.int64), step.rescale, step.out.integers.low, step.out
    )


@_run.register
def _convolution(step: Convolution, values: Values) -> None:
    sums = convolution_sums(step, values[step.source.name])
    if isinstance(step.out, Sums):
        values[step.out.name] = sums[0]
        return
    multipliers = np.array([r.multiplier for r in step.rescales], np.int64)
    shifts = np.array([r.shift for r in step.rescales], np.int64)
    q = shift_half_even(sums.astype(np.int64) * multipliers, shifts) + step.out.affine.zero_point
    values[step.out.name] = _clamped(q, step.low, step.out)


@_run.register
def _add(step: Add, values: Values) -> None:
    left, right = step.multipliers
    total = _less_zero_point(values, step.left) * left + _less_zero_point(values, step.right) * right
    values[step.out.name] = _clamped(
        shift_half_even(total, step.shift) + step.out.affine.zero_point, step.low, step.out
    )


@_run.register
def _max_pool(step: MaxPool, values: Values) -> None:
    source = values[step.source.name]
    starts = (t * step.stride - step.pad for t in range(step.out.samples))
    values[step.out.name] = np.stack([source[max(0, t) : t + step.kernel].max(axis=0) for t in starts])


@_run.register
def _mean_pool(step: MeanPool, values: Values) -> None:
    source = _less_zero_point(values, step.source)
    starts = (t * step.stride for t in range(step.out.samples))
    sums = np.stack([source[t : t + step.kernel].sum(axis=0) for t in starts])
    values[step.out.name] = _rescaled(sums, step.rescale, step.low, step.out)


@_run.register
def _move(step: Move, values: Values) -> None:
    q = values[step.source.name]
    if step.rescale is None:
        q = _clamped(q.astype(np.int64), step.low, step.out)
    else:
        difference = _less_zero_point(values, step.source)
        q = _rescaled(difference, step.rescale, step.low, step.out)
    whole = (step.out.samples, step.out.channels)
    out = values.setdefault(step.out.name, np.zeros(whole, step.out.integers.dtype))
    out[:, step.channel : step.channel + step.source.channels] = q
