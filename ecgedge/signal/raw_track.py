"""Raw blocks of a stream, one to every second tenth of a window, measured as they become whole, many beds in one call.

Tenth k of the conditioned stream is its samples k n to (k + 1) n. The raw block that goes with an odd one ends with the
input that makes the last of them ready, and is a little shorter than what they were made of, so that it begins after
the stream does. So a window's blocks are there when it is, however the stream was cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import MAX_ABS_MV
from ecgedge.signal.groups import groups
from ecgedge.signal.raw import RAW_BLOCKS, RawBlock, RawSpec, raw_block, raw_spec
from ecgedge.signal.resample import rate_ratio
from ecgedge.signal.stretch import COMPILED

F32 = NDArray[np.float32]

N_RAW: Final = len(fields(RawBlock))
"""Numbers that are kept of a lead's block, in the order of `RawBlock`."""

_ROWS = 96
"""Rows measured in one go: more would leave the cache."""

_COMPILED_ROWS = 192
"""The same in compiled loops, which write less."""

_HEAD = 2
"""Columns before all others in a state: blocks that a window has seen, and blocks that wait for one."""


class RawTrack:
    """Cuts one stream's samples into raw blocks, and keeps what was measured of the newest.

    Parameters
    ----------
    n_leads
        Of the stream.
    rate_in_hz, rate_out_hz
        Of the raw samples, and of the conditioned ones.
    tenth_samples
        Conditioned samples of a tenth.
    state, n_in
        Where to go on, and after how many raw samples; the beginning of a stream by default.

    Raises
    ------
    ValueError
        If a tenth is too short for hum and muscle noise to be told.
    """

    def __init__(
        self,
        *,
        n_leads: int,
        rate_in_hz: float,
        rate_out_hz: float,
        tenth_samples: int,
        state: F32 | None = None,
        n_in: int = 0,
    ) -> None:
        ratio = rate_ratio(rate_in_hz, rate_out_hz)
        self._up, self._down, self._pair = ratio.numerator, ratio.denominator, 2 * tenth_samples
        self.spec = raw_spec(rate_in_hz, (tenth_samples - 1) * self._down // self._up)
        self._n_in = n_in
        self._pieces: list[F32] = []  # the newest samples, from where the next block begins on
        # What a window has seen, each twice, so that from any place on the newest ones lie in their order.
        self._ring = np.zeros((2 * RAW_BLOCKS, N_RAW, n_leads), np.float32)
        self._seen = 0
        self._ahead: deque[F32] = deque()  # measured, but no window ends behind them yet
        if state is not None:
            self._go_on(state)

    def _go_on(self, state: F32) -> None:
        n_leads = len(state)
        self._seen, ahead = int(state[0, 0]), int(state[0, 1])
        n_blocks = RAW_BLOCKS + ahead
        numbers = state[:, _HEAD : _HEAD + n_blocks * N_RAW].reshape(n_leads, n_blocks, N_RAW)
        for k, of_block in enumerate(np.ascontiguousarray(numbers.transpose(1, 2, 0))):
            if k < RAW_BLOCKS:
                self._put((self._seen + k) % RAW_BLOCKS, of_block)
            else:
                self._ahead.append(of_block)
        rest = state[:, _HEAD + n_blocks * N_RAW :]
        self._pieces = [rest] if rest.shape[1] else []

    @property
    def state(self) -> F32:
        """All that it remembers, one row a lead."""
        n_leads = self._ring.shape[2]
        oldest = self._seen % RAW_BLOCKS
        blocks = np.stack([*self._ring[oldest : oldest + RAW_BLOCKS], *self._ahead])
        head = np.tile(np.array([self._seen, len(self._ahead)], np.float32), (n_leads, 1))
        numbers = blocks.transpose(2, 0, 1).reshape(n_leads, -1)
        return np.concatenate([head, numbers, *self._pieces], axis=1, dtype=np.float32)

    def push(self, samples_mv: F32, *, clean: bool = False) -> list[F32]:
        """Take a chunk, (n_leads, n); return the blocks that it makes whole, (n_leads, spec.block_samples) each.

        What no electrode gives counts as not measured; `clean` says that there is nothing of it. A chunk may be kept:
        do not write to it afterwards.
        """
        n = samples_mv.shape[1]
        if n == 0:
            return []
        if not clean and not (samples_mv.min() >= -MAX_ABS_MV and samples_mv.max() <= MAX_ABS_MV):
            samples_mv = np.where(np.abs(samples_mv) <= MAX_ABS_MV, samples_mv, np.float32(np.nan))
        first = self._seen + len(self._ahead)
        skip = 0 if self._pieces else max(0, self._start(first) - self._n_in)
        self._n_in += n
        if skip < n:
            self._pieces.append(samples_mv[:, skip:])
        # End(k) <= inputs: ((k + 1) pair - 1) down / up < inputs, for the last input is number inputs - 1.
        whole = (self._n_in * self._up + self._down - 1) // (self._pair * self._down)
        if whole <= first:
            return []
        joined = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces, axis=1)
        begin = self._n_in - joined.shape[1]
        blocks = [
            joined[:, self._start(k) - begin :][:, : self.spec.block_samples] for k in range(first, whole)
        ]
        next_start = self._start(whole)
        self._pieces = [joined[:, next_start - begin :].copy()] if next_start < self._n_in else []
        return blocks

    def take(self, measured: F32) -> None:
        """Take what was measured of the blocks that `push` gave, (blocks, N_RAW, n_leads)."""
        self._ahead.extend(measured)

    def window(self, end_index: int) -> F32:
        """Return the numbers of a window's blocks, (RAW_BLOCKS, N_RAW, n_leads), the oldest first; a view.

        Windows must be asked for in their order; of the samples up to `end_index` all must have been pushed.
        """
        while self._seen < end_index // self._pair:
            self._put(self._seen % RAW_BLOCKS, self._ahead.popleft())
            self._seen += 1
        oldest = self._seen % RAW_BLOCKS
        return self._ring[oldest : oldest + RAW_BLOCKS]

    def _put(self, place: int, of_block: F32) -> None:
        self._ring[place] = self._ring[place + RAW_BLOCKS] = of_block

    def _start(self, k: int) -> int:
        end = ((k + 1) * self._pair - 1) * self._down // self._up + 1
        return end - self.spec.block_samples


class MeasureRaw(NamedTuple):
    """Asks for what `raw_block` says of some blocks of one stream, (n_leads, spec.block_samples) each."""

    spec: RawSpec
    blocks: Sequence[F32]


def measure_raw_together(asked: Sequence[MeasureRaw]) -> list[F32]:
    """Measure blocks of several streams of one spec; return (blocks, N_RAW, n_leads) for each."""
    blocks = [block for one in asked for block in one.blocks]
    measured: list[F32] = []
    most = _ROWS if COMPILED.quality is None else _COMPILED_ROWS
    for some in groups([len(block) for block in blocks], most):
        numbers, first = _measured(np.concatenate(blocks[some]), asked[0].spec), 0
        for block in blocks[some]:
            measured.append(numbers[np.newaxis, :, first : first + len(block)])
            first += len(block)
    answers: list[F32] = []
    start = 0
    for one in asked:
        own = measured[start : start + len(one.blocks)]
        answers.append(own[0] if len(own) == 1 else np.concatenate(own))
        start += len(own)
    return answers


def _measured(samples_mv: F32, spec: RawSpec) -> F32:
    block = raw_block(samples_mv, spec)
    numbers = np.empty((N_RAW, len(samples_mv)), np.float32)
    for row, item in zip(numbers, fields(RawBlock), strict=True):
        row[:] = getattr(block, item.name)
    return numbers


def as_blocks(numbers: F32) -> RawBlock:
    """Return what is kept of blocks, (blocks, N_RAW, rows), as the arrays (blocks, rows) that it was made of."""
    hum_mv, muscle_mv, mean_mv, high_mv, low_mv, top, bottom = np.swapaxes(numbers, 0, 1)
    return RawBlock(hum_mv, muscle_mv, mean_mv, high_mv, low_mv, top > 0.0, bottom > 0.0)
