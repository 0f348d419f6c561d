"""Many beds in one process: their heavy work is done together, and each says what it says alone.

Samples wait in a bed's inbox until a hop of them is there (a second, where hops are longer); `Ward.step` then takes
those of every bed that has them. So front ends and models meet whole batches, and how chunks were cut, or in which
order those of several beds came, shows nowhere. No clock and no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import UsageError
from ecgedge.events import Event
from ecgedge.stream.bed import Bed
from ecgedge.stream.inbox import Inbox
from ecgedge.stream.work import Steps, Work, do_work, work_alone

BLOCK_S = 1.0
"""So long are the parts in which longer hops are taken, so that a lead that falls off is told of soon."""

AT_ONCE = 256
"""Beds whose work is done together: larger batches gain nothing, and keep everything else waiting for longer."""


class Ward:
    """Beds by name, which come and go.

    Beds that shall be answered together must have been made with the same `Variants`.

    Parameters
    ----------
    block_s
        Longer hops are taken in parts of about this length.
    """

    def __init__(self, *, block_s: float = BLOCK_S) -> None:
        self._block_s = block_s
        self._inboxes: dict[str, Inbox] = {}
        self._ready: dict[str, None] = {}  # a set that keeps its order: who waits longest goes first

    def __len__(self) -> int:
        return len(self._inboxes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._inboxes)

    def __getitem__(self, name: str) -> Bed:
        """Return a bed, for questions only: what it is told must go through the ward."""
        return self._inbox(name).bed

    def add(self, name: str, bed: Bed) -> None:
        """Add a bed.

        Raises
        ------
        UsageError
            If there is one of this name.
        """
        if name in self._inboxes:
            raise UsageError(
                f"there is a bed {name} already; remove it first, or give the new one another name"
            )
        hop_samples = max(1, round(bed.hop_s * bed.rate_hz))
        parts = max(1, round(bed.hop_s / self._block_s))
        self._inboxes[name] = Inbox(
            bed, hop_samples=hop_samples // parts if hop_samples % parts == 0 else hop_samples
        )

    def remove(self, name: str) -> list[Event]:
        """Let a bed go; return what it still says of the samples that waited."""
        events = self.settle(name)
        self._inboxes.pop(name).bed.leave()
        return events

    def push(self, name: str, samples_mv: NDArray[np.float32], *, t_s: float) -> None:
        """Take a chunk for a bed, as `Bed.push` does; what follows from it comes with `step`.

        A chunk may be kept: do not write to it afterwards. Where too much waits, the oldest samples go: the bed
        counts them as dropped and reports the gap.
        """
        inbox = self._inboxes.get(name) or self._inbox(name)
        lost = inbox.push(samples_mv, t_s=t_s)
        if lost:
            inbox.bed.lost_samples(lost)
        if inbox.ready:
            self._ready.setdefault(name)

    def step(self) -> dict[str, list[Event]]:
        """Take what is whole of up to `AT_ONCE` beds; return what each of them says, in order.

        Call it until it returns nothing.
        """
        names = list(islice(self._ready, AT_ONCE))
        said = run_together([self._inboxes[name].take_hop() for name in names])
        for name in names:
            del self._ready[name]
            if self._inboxes[name].ready:
                self._ready[name] = None
        return dict(zip(names, said, strict=True))

    @property
    def ready(self) -> int:
        """How many beds have something for `step` to take."""
        return len(self._ready)

    def waiting(self, name: str) -> int:
        """Return how many samples per lead of a bed wait."""
        return self._inbox(name).waiting

    def settle(self, name: str) -> list[Event]:
        """Take all that waits of one bed, so that it may be told something else."""
        self._ready.pop(name, None)
        return work_alone(self._inbox(name).take_all())

    def advance(self, name: str, t_s: float) -> list[Event]:
        """Let time pass for a bed without samples, as `Bed.advance` does."""
        return [*self.settle(name), *self[name].advance(t_s)]

    def _inbox(self, name: str) -> Inbox:
        if name not in self._inboxes:
            raise UsageError(f"there is no bed {name}; there are {', '.join(self._inboxes) or 'none'}")
        return self._inboxes[name]


def run_together(all_steps: Sequence[Steps[list[Event]]]) -> list[list[Event]]:
    """Run the steps of several beds to their ends, round by round; return what each said, in the order given."""
    said: list[list[Event]] = [[] for _ in all_steps]
    going = [(place, steps.send) for place, steps in enumerate(all_steps)]
    answers: list[Any] = [None] * len(going)
    while going:
        asked: list[Work] = []
        left: list[tuple[int, Callable[[Any], Work]]] = []
        for one, answer in zip(going, answers, strict=True):
            place, send = one
            try:
                asked.append(send(answer))
            except StopIteration as done:
                said[place] = done.value
            else:
                left.append(one)
        going, answers = left, do_work(asked)
    return said
