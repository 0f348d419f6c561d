"""Streaming forms for any number of beds that come and go: one pool of states, stepped in batches.

A seat's answers are the same bits whoever sits beside it: whether all batch sizes and all places in them give equal
bits on this machine is tried when the pool is opened. And a state holds nothing older than `spec.exact_after_samples`,
so one that is built anew from the samples is the one that was carried on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime.base import Closing, closed_on_error, single_numbers
from ecgedge.runtime.step import open_step_runner

FIRST_SEATS = 64

Outputs = Mapping[str, float]
"""A model's single numbers by name; embeddings are left out."""


@dataclass(frozen=True, eq=False)
class StepSeat:
    """A stream's place in a pool."""

    runner: StepPool
    number: int

    def leave(self) -> None:
        """Give the place up."""
        self.runner.free(self.number)


class StepAsk(NamedTuple):
    """Asks for the window that ends at `end_index` (a multiple of the chunk) samples of a stream.

    `latest(n)` gives the newest n counts of the stream, (n_leads, n), or as many as there are, of which the model
    wants `rows` (None for all).
    """

    seat: StepSeat
    latest: Callable[[int], NDArray[np.int16]]
    rows: list[int] | None
    end_index: int


class StepPool(Closing):
    """A streaming form of a bundle, self-tested, with seats for streams; owns the runner.

    Raises
    ------
    EngineError
        If the file is refused or fails the self-test, or batches do not give equal bits.
    UsageError
        If ONNX Runtime is not installed.
    """

    def __init__(self, bundle: Bundle, variant: VariantSpec) -> None:
        self._runner = open_step_runner(bundle, variant, beds=FIRST_SEATS)
        with closed_on_error(self):
            if not self._runner.sizes_agree():
                raise EngineError(
                    f"{self.name}: on this machine a bed's answer would depend on the beds beside it; "
                    "export the bundle again, or serve the window form"
                )
        spec = self._runner.spec
        self._chunk, self._exact = spec.chunk_samples, spec.exact_after_samples
        self._lsb_mv = np.float32(bundle.manifest.front_end.lsb_mv)
        rate_hz = bundle.manifest.front_end.rate_hz
        self._period = max(1, round(spec.reprime_s * rate_hz / self._chunk)) * self._chunk
        self._free = list(reversed(range(FIRST_SEATS)))
        self._fed = [0] * FIRST_SEATS  # up to which sample of its stream each seat's state has come

    @property
    def name(self) -> str:
        """Variant name, for example "I,II/int8/stream"."""
        return self._runner.name

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the rows."""
        return self._runner.leads

    @property
    def seats(self) -> int:
        """How many seats there are now, taken or not."""
        return self._runner.beds

    @property
    def states(self) -> list[NDArray[np.float32]]:
        """The states, (channels, seats, n) each; for those who look for faults."""
        return self._runner.states

    def take(self) -> StepSeat:
        """Return a seat that knows of no past."""
        if not self._free:
            more = self.seats
            self._runner.grow(more)
            self._free = list(reversed(range(more, 2 * more)))
            self._fed += [0] * more
        number = self._free.pop()
        self._fed[number] = 0
        return StepSeat(self, number)

    def free(self, number: int) -> None:
        """Take a seat back."""
        self._free.append(number)

    def answer(self, asks: Sequence[StepAsk]) -> Sequence[Outputs | EngineError]:
        """Answer several seats, each once; one that cannot be answered begins anew with its next ask."""
        order = sorted(range(len(asks)), key=lambda k: asks[k].seat.number)  # as the states lie in memory
        said: list[Outputs | EngineError] = [{}] * len(asks)
        for k, answer in zip(order, self._answer([asks[k] for k in order]), strict=True):
            said[k] = answer
        return said

    def _answer(self, asks: Sequence[StepAsk]) -> Sequence[Outputs | EngineError]:
        steps = [self._steps_due(ask) for ask in asks]
        outputs: Mapping[str, NDArray[np.float32]] = {}
        try:
            for left in range(max(steps), 0, -1):
                now = [ask for ask, n in zip(asks, steps, strict=True) if n >= left]
                outputs = self._runner.step([ask.seat.number for ask in now], self._chunks(now, left))
        except EngineError as error:
            for ask in asks:
                self._fed[ask.seat.number] = 0
            # A batch fails as a whole; each alone, so that one stream's failure is not another's.
            return [error] if len(asks) == 1 else [said for ask in asks for said in self._answer([ask])]
        for ask in asks:
            self._fed[ask.seat.number] = ask.end_index
        return single_numbers(outputs, len(asks))

    def close(self) -> None:
        """Release the engine; safe to call twice."""
        self._runner.close()

    def _steps_due(self, ask: StepAsk) -> int:
        """Return how many chunks the seat lacks; begin its state anew where it lacks more than are kept, or in turn."""
        number, end = ask.seat.number, ask.end_index
        fed = self._fed[number]
        due = (end - fed) // self._chunk
        whole = min(end, self._exact) // self._chunk
        # So a fault in memory cannot stay. Not all seats at once: that would be a wave of work.
        turn = (end + number * self._chunk) % self._period == 0
        if fed == 0 or due >= whole or turn:
            self._runner.reset(number)
            return whole
        return due

    def _chunks(self, asks: Sequence[StepAsk], left: int) -> NDArray[np.float32]:
        """Return, for each ask, the chunk that `left - 1` others follow, in millivolts."""
        n = left * self._chunk
        newest = [ask.latest(n) if ask.rows is None else ask.latest(n)[ask.rows] for ask in asks]
        if left > 1:
            newest = [counts[:, : self._chunk] for counts in newest]
        batch = np.concatenate(newest).astype(np.float32)
        batch *= self._lsb_mv
        return batch.reshape(len(asks), -1, self._chunk)
