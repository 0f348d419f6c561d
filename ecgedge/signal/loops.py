"""The front end as compiled loops: fewer passes over memory, the same bits.

Whole-array calls write every intermediate result to memory, and work along a row, where each value of a recursive
filter waits for the one before. Here samples of all rows stand side by side, a block of them at a time, so that the
processor works on several rows at once and the block stays in its nearest cache:

    y[k] = taps[p, 0] x[newest] + taps[p, 1] x[newest - 1] + ...     polyphase FIR, `ecgedge.signal.resample`;
                                                                     where L is 1, equal taps are multiplied once
    out  = b0 in + z1;  z1 = b1 in - a1 out + z2;  z2 = b2 in - a2 out      each section, as scipy's sosfilt
    count = rint(clip(out) / lsb)

It is the arithmetic of the whole-array code in the same order, and no product is fused with a sum. Nobody imports this
module but `ecgedge.signal.stretch`, which holds it against that code before it is used. Types are fixed, so that all
is compiled on import, or read from numba's cache where there is a folder for it.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from ecgedge.signal.compiling import jit, part

SECTIONS = 5
"""Sections of the cascade, one after the other in registers: high-pass, two notches, low-pass of order 4. Fewer are
filled up with ones that change nothing."""

_BLOCK = 32
"""Outputs at a time: with 96 rows they and their inputs are 80 kB."""

_F32 = types.Array(types.float32, 2, "C", readonly=True)
_I16 = types.Array(types.int16, 2, "C", readonly=True)
_I64 = types.Array(types.int64, 1, "C", readonly=True)
_F64 = types.Array(types.float64, 2, "C", readonly=True)
_FLOAT, _PLANE, _CUBE = types.float64, types.float64[:, ::1], types.float64[:, :, ::1]


@part
def _fetch(
    samples: NDArray[np.float32],
    history: NDArray[np.float64],
    begin: int,
    start: int,
    stop: int,
    inputs: NDArray[np.float64],
) -> None:
    """Put samples begin + start to begin + stop where they belong among `inputs`; before 0 lies the history."""
    n_rows, n_past = history.shape
    step = len(inputs)
    for i in range(start, min(stop, -begin)):
        for row in range(n_rows):
            inputs[i % step, i // step, row] = history[row, n_past + begin + i]
    start = max(start, -begin)
    fours = n_rows - n_rows % 4
    for phase in range(step):
        lines = inputs[phase]
        first, last = (start - phase + step - 1) // step, (stop - phase + step - 1) // step
        for row in range(0, fours, 4):
            one, two, three, four = samples[row], samples[row + 1], samples[row + 2], samples[row + 3]
            for i in range(first, last):
                at = begin + i * step + phase
                lines[i, row], lines[i, row + 1] = one[at], two[at]
                lines[i, row + 2], lines[i, row + 3] = three[at], four[at]
        for row in range(fours, n_rows):
            for i in range(first, last):
                lines[i, row] = samples[row, begin + i * step + phase]


@part
def _move_on(inputs: NDArray[np.float64], shift: int, held: int) -> None:
    """Move `held` samples, whole steps of them, to the front."""
    step = len(inputs)
    for phase in range(step):
        lines = inputs[phase]
        for i in range((held - phase + step - 1) // step):
            lines[i] = lines[i + shift // step]


@part
def _line(inputs: NDArray[np.float64], at: int, n: int) -> NDArray[np.float64]:
    """Return of n samples, a step apart, all rows, one after the other; the first is sample `at`."""
    step, n_rows = len(inputs), inputs.shape[2]
    first = at // step
    line: NDArray[np.float64] = inputs[at % step].reshape(-1)[first * n_rows : (first + n) * n_rows]
    return line


@part
def _add(inputs: NDArray[np.float64], tap: float, output: NDArray[np.float64]) -> None:
    for k in range(output.size):
        output[k] += inputs[k] * tap


@part
def _add_pair(
    near: NDArray[np.float64], far: NDArray[np.float64], tap: float, output: NDArray[np.float64]
) -> None:
    for k in range(output.size):
        output[k] += (near[k] + far[k]) * tap


@part
def _folded(
    inputs: NDArray[np.float64],
    newest: int,
    n: int,
    taps: NDArray[np.float64],
    pairs: NDArray[np.int64],
    block: NDArray[np.float64],
) -> None:
    """Fill n rows of `block` with the one branch of a decimator: `pairs` are the taps, not 0, that have an equal one.

    Its outputs lie a step of `inputs` apart, so all of them are one line; `newest` is that of the first.
    """
    far = newest - taps.size + 1
    output = block.reshape(-1)[: n * block.shape[1]]
    middle = _line(inputs, newest - taps.size // 2, n)
    if pairs.size == 0:
        for k in range(output.size):
            output[k] = middle[k] * taps[0]
        return
    i = pairs[0]
    a, b, tap = _line(inputs, newest - i, n), _line(inputs, far + i, n), taps[i]
    for k in range(output.size):
        output[k] = (a[k] + b[k]) * tap
    for i in pairs[1:]:
        _add_pair(_line(inputs, newest - i, n), _line(inputs, far + i, n), taps[i], output)
    if taps.size % 2:
        _add(middle, taps[taps.size // 2], output)


@part
def _branch(
    inputs: NDArray[np.float64], newest: int, taps: NDArray[np.float64], output: NDArray[np.float64]
) -> None:
    """Filter with one branch, two taps at a time."""
    output[:] = 0.0
    twos = taps.size - taps.size % 2
    for j in range(0, twos, 2):
        near, far, first, second = inputs[newest - j], inputs[newest - j - 1], taps[j], taps[j + 1]
        for row in range(output.size):
            output[row] = output[row] + near[row] * first + far[row] * second
    if twos < taps.size:
        _add(inputs[newest - twos], taps[twos], output)


@part
def _cascade(
    sections: NDArray[np.float64], n: int, states: NDArray[np.float64], block: NDArray[np.float64]
) -> None:
    """Filter the first n rows of `block` in place; states are (2, SECTIONS, rows).

    Written out, since around a loop over sections the compiler does not work on several rows at once.
    """
    z0, z1, z2, z3, z4 = states[0, 0], states[0, 1], states[0, 2], states[0, 3], states[0, 4]
    y0, y1, y2, y3, y4 = states[1, 0], states[1, 1], states[1, 2], states[1, 3], states[1, 4]
    c0, c1, c2, c3, c4 = sections[0], sections[1], sections[2], sections[3], sections[4]
    b00, b01, b02, a01, a02 = c0[0], c0[1], c0[2], c0[4], c0[5]
    b10, b11, b12, a11, a12 = c1[0], c1[1], c1[2], c1[4], c1[5]
    b20, b21, b22, a21, a22 = c2[0], c2[1], c2[2], c2[4], c2[5]
    b30, b31, b32, a31, a32 = c3[0], c3[1], c3[2], c3[4], c3[5]
    b40, b41, b42, a41, a42 = c4[0], c4[1], c4[2], c4[4], c4[5]
    for k in range(n):
        line = block[k]
        for row in range(line.size):
            x = line[row]
            y = b00 * x + z0[row]
            z0[row] = b01 * x - a01 * y + y0[row]
            y0[row] = b02 * x - a02 * y
            x = b10 * y + z1[row]
            z1[row] = b11 * y - a11 * x + y1[row]
            y1[row] = b12 * y - a12 * x
            y = b20 * x + z2[row]
            z2[row] = b21 * x - a21 * y + y2[row]
            y2[row] = b22 * x - a22 * y
            x = b30 * y + z3[row]
            z3[row] = b31 * y - a31 * x + y3[row]
            y3[row] = b32 * y - a32 * x
            y = b40 * x + z4[row]
            z4[row] = b41 * x - a41 * y + y4[row]
            y4[row] = b42 * x - a42 * y
            line[row] = y


@part
def _round(
    n: int,
    clip_mv: float,
    counts_per_mv: float,
    block: NDArray[np.float64],
    first: int,
    counts: NDArray[np.int16],
) -> None:
    """Write the first n rows of `block`, which are lost, into the columns of `counts` from `first` on."""
    for k in range(n):
        line = block[k]
        for row in range(line.size):
            line[row] = np.rint(min(max(line[row], -clip_mv), clip_mv) * counts_per_mv)
    n_rows = len(counts)
    fours = n_rows - n_rows % 4
    for row in range(0, fours, 4):
        one, two, three, four = counts[row], counts[row + 1], counts[row + 2], counts[row + 3]
        for k in range(n):
            line = block[k]
            one[first + k], two[first + k] = np.int16(line[row]), np.int16(line[row + 1])
            three[first + k], four[first + k] = np.int16(line[row + 2]), np.int16(line[row + 3])
    for row in range(fours, n_rows):
        for k in range(n):
            counts[row, first + k] = np.int16(block[k, row])


@part
def _longest(newest: NDArray[np.int64]) -> int:
    """Return over how many inputs the outputs of a block are spread, at most."""
    longest = 0
    for first in range(0, newest.size, _BLOCK):
        some = newest[first : first + _BLOCK]
        longest = max(longest, some[-1] - some[0] + 1)
    return longest


@part
def _turn(cascade: NDArray[np.float64], states: NDArray[np.float64]) -> None:
    for row in range(len(cascade)):
        for s in range(cascade.shape[1]):
            states[0, s, row], states[1, s, row] = cascade[row, s, 0], cascade[row, s, 1]


@part
def _turn_back(states: NDArray[np.float64], cascade: NDArray[np.float64]) -> None:
    for row in range(len(cascade)):
        for s in range(cascade.shape[1]):
            cascade[row, s, 0], cascade[row, s, 1] = states[0, s, row], states[1, s, row]


@part
def _remember(samples: NDArray[np.float32], history: NDArray[np.float64]) -> None:
    n, n_past = samples.shape[1], history.shape[1]
    for row in range(len(samples)):
        for i in range(n_past - n):
            history[row, i] = history[row, i + n]
        for i in range(max(0, n_past - n), n_past):
            history[row, i] = samples[row, n - n_past + i]


@jit(_F32, _I64, _I64, _F64, _I64, _F64, _FLOAT, _FLOAT, _PLANE, _CUBE, types.int16[:, ::1])
def condition(
    samples: NDArray[np.float32],
    newest: NDArray[np.int64],
    phase: NDArray[np.int64],
    taps: NDArray[np.float64],
    pairs: NDArray[np.int64],
    sections: NDArray[np.float64],
    clip_mv: float,
    counts_per_mv: float,
    history: NDArray[np.float64],
    cascade: NDArray[np.float64],
    counts: NDArray[np.int16],
) -> None:
    """Resample, filter and round a chunk without gaps.

    Parameters
    ----------
    samples
        (rows, n) millivolts.
    newest, phase
        (m,) each: of every output the column of `samples` that it becomes ready with, and its branch.
    taps
        (L, n_taps).
    pairs
        Where L is 1, which of the first half of the taps are not 0.
    sections
        (SECTIONS, 6).
    clip_mv, counts_per_mv
        Of the rounding.
    history, cascade
        (rows, n_taps - 1) and (rows, sections, 2): the state, changed in place.
    counts
        (rows, m): the answer.
    """
    n_rows, n_past, m = len(samples), history.shape[1], newest.size
    states = np.zeros((2, SECTIONS, n_rows))
    _turn(cascade, states)
    block = np.empty((_BLOCK, n_rows))
    # Samples of which a decimator sees none in one output lie apart: those of its outputs then follow each other.
    step = newest[1] - newest[0] if len(taps) == 1 and m > 1 else 1
    inputs = np.empty((step, -(-(_longest(newest) + n_past) // step), n_rows))
    begin = end = -n_past
    for first in range(0, m, _BLOCK):
        some = newest[first : first + _BLOCK]
        shift = some[0] - n_past - begin
        begin += shift
        held = max(0, end - begin)
        if shift > 0:
            _move_on(inputs, shift, held)
        end = some[-1] + 1
        _fetch(samples, history, begin, held, end - begin, inputs)
        if len(taps) == 1:
            _folded(inputs, some[0] - begin, some.size, taps[0], pairs, block)
        else:
            for k in range(some.size):
                _branch(inputs[0], some[k] - begin, taps[phase[first + k]], block[k])
        _cascade(sections, some.size, states, block)
        _round(some.size, clip_mv, counts_per_mv, block, first, counts)
    _turn_back(states, cascade)
    _remember(samples, history)
