"""The heavy work that beds ask for, and how it is done for many of them at once, with the same bits as for each alone.

A bed's `steps` yields `Condition` and `Infer` and is sent the answers. Here is all that knows of batches: front ends
of one kind are pushed together, and those who ask one model are answered together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import EngineError
from ecgedge.runtime import Outputs, Runner, StepAsk, StepPool, StepSeat, single_numbers
from ecgedge.signal import (
    Assess,
    FrontEnd,
    MeasureRaw,
    Windower,
    assess_together,
    measure_raw_together,
    push_together,
)

T = TypeVar("T")

Server = Runner | StepPool
"""What answers for a variant: its window form, which sees each window anew, or its streaming form with a pool of
states."""

WINDOW_BATCHES = (16, 4, 1)
"""Sizes in which windows are run. Each is met at once and stays warm; on a CPU larger ones gain nothing."""


class Seat(Protocol):
    """A bed's place with the one who answers it."""

    @property
    def runner(self) -> Server:
        """Who answers."""
        ...

    def leave(self) -> None:
        """Give the place up."""
        ...


@dataclass(frozen=True)
class WindowSeat:
    """A place with a window form, which remembers nothing."""

    runner: Runner

    def leave(self) -> None:
        """Do nothing."""


class Condition(NamedTuple):
    """Asks for `front_end.push(samples_mv)`."""

    front_end: FrontEnd
    samples_mv: NDArray[np.float32]


class Infer(NamedTuple):
    """Asks what the model says of the window that ends with the newest sample.

    Attributes
    ----------
    seat
        Where.
    windower
        Holds the samples.
    rows
        Which leads the model wants; None for all.
    end_index
        Conditioned samples since the start of the stream.
    spec
        The unit of the counts.
    """

    seat: Seat
    windower: Windower
    rows: list[int] | None
    end_index: int
    spec: FrontEndSpec


Work = Condition | MeasureRaw | Assess | Infer
Steps = Generator[Work, Any, T]
"""Yields Work; is sent a Conditioned for a Condition, an array for a MeasureRaw, a Quality for an Assess, Outputs or an
EngineError for an Infer; returns T."""


def take_seat(runner: Server) -> Seat:
    """Return a place with `runner`."""
    return runner.take() if isinstance(runner, StepPool) else WindowSeat(runner)


def work_alone(steps: Steps[T]) -> T:
    """Run one bed's steps to their end."""
    answer: Any = None
    try:
        while True:
            (answer,) = do_work([steps.send(answer)])
    except StopIteration as done:
        result: T = done.value
        return result


def do_work(asked: Sequence[Work]) -> list[Any]:
    """Do all of this work, none of which may depend on another's, and return the answers in order."""
    answers: list[Any] = [None] * len(asked)
    by_kind: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, work in enumerate(asked):
        by_kind[_kind(work)].append(place)
    for places in by_kind.values():
        for place, answer in zip(places, _do_alike([asked[k] for k in places]), strict=True):
            answers[place] = answer
    return answers


def _kind(work: Work) -> Hashable:
    """Return what is equal for work that can be done together; a specification by its place, its hash costs more."""
    if isinstance(work, Condition):
        return Condition, work.front_end.kind, work.samples_mv.shape[1]
    if isinstance(work, MeasureRaw):
        return MeasureRaw, id(work.spec)
    if isinstance(work, Assess):
        return Assess, work.window.counts.shape[1], work.meter.hop_tenths, work.raw is None, id(work.spec)
    return Infer, id(work.seat.runner)


def _do_alike(asked: Sequence[Any]) -> Sequence[Any]:
    """Do work of one kind."""
    first = asked[0]
    if isinstance(first, Condition):
        return push_together([c.front_end for c in asked], [c.samples_mv for c in asked])
    if isinstance(first, MeasureRaw):
        return measure_raw_together(asked)
    return assess_together(asked) if isinstance(first, Assess) else _infer(first.seat.runner, asked)


def _infer(runner: Server, asked: Sequence[Infer]) -> Sequence[Outputs | EngineError]:
    if isinstance(runner, StepPool):
        return runner.answer(
            [
                StepAsk(a.seat, a.windower.latest, a.rows, a.end_index)
                for a in asked
                if isinstance(a.seat, StepSeat)
            ]
        )
    said: list[Outputs | EngineError] = []
    while len(said) < len(asked):
        left = asked[len(said) :]
        size = next(size for size in WINDOW_BATCHES if size <= len(left))
        said += _windows(runner, left[:size])
    return said


def _windows(runner: Runner, asked: Sequence[Infer]) -> Sequence[Outputs | EngineError]:
    """Run one batch of windows; where it fails, each alone, so that one bed's failure is not another's."""
    batch = np.empty((len(asked), len(runner.leads), runner.window_samples), np.float32)
    for row, ask in zip(batch, asked, strict=True):
        counts = ask.windower.latest(runner.window_samples)
        row[:] = counts if ask.rows is None else counts[ask.rows]
    batch *= np.float32(asked[0].spec.lsb_mv)
    try:
        outputs = runner.run(batch)
    except EngineError as error:
        return [error] if len(asked) == 1 else [said for ask in asked for said in _windows(runner, [ask])]
    return single_numbers(outputs, len(asked))
