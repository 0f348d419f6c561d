"""What waits for a receiver who may be slow, or gone: bounded, in order, and nothing goes without being counted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

MOST_URGENT: Final = 1_000_000
"""Even alarms end somewhere: at 200 bytes a line, in 200 MB."""


class Waits(Protocol):
    """`kind` is what it is counted as, should it be given up; urgent ones are not."""

    @property
    def kind(self) -> str:
        """What it is counted as."""
        ...

    @property
    def urgent(self) -> bool:
        """Whether it may not be given up."""
        ...


T = TypeVar("T", bound=Waits)


class Waiting(Generic[T]):
    """A queue.

    Where more than `most_waiting` wait that are not urgent, the older half of them is given up and counted; urgent ones
    (alarms) wait on. What was given up is told by `dropped`.
    """

    def __init__(self, *, most_waiting: int) -> None:
        self._most = most_waiting
        self._items: deque[T] = deque()
        self._n_urgent = 0
        self._given_up: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def oldest(self) -> T:
        """The one that has waited longest; IndexError if none waits."""
        return self._items[0]

    def put(self, item: T) -> None:
        """Take one."""
        self._items.append(item)
        self._n_urgent += item.urgent
        if len(self._items) - self._n_urgent > self._most:
            self._give_up()
        while self._n_urgent > MOST_URGENT:
            self._lose([self._items.popleft()])

    def take(self, most: int | None = None) -> list[T]:
        """Return the oldest, `most` of them or all; they wait no more."""
        n = len(self._items) if most is None else min(most, len(self._items))
        taken = [self._items.popleft() for _ in range(n)]
        self._n_urgent -= sum(item.urgent for item in taken)
        return taken

    def given_up(self) -> Counter[str]:
        """Return by kind what was given up since the last call."""
        given_up, self._given_up = self._given_up, Counter()
        return given_up

    def lose(self, taken: Iterable[T] = ()) -> None:
        """Count all that waits, and what was taken in vain, as dropped."""
        self.count([*taken, *self._items])
        self._items.clear()
        self._n_urgent = 0

    def count(self, lost: Iterable[T]) -> None:
        """Count what was taken in vain as dropped."""
        kinds = Counter(item.kind for item in lost)
        self.dropped += kinds
        self._given_up += kinds

    def _give_up(self) -> None:
        """Drop the older half of what is not urgent."""
        room = (len(self._items) - self._n_urgent) // 2
        kept: deque[T] = deque()
        lost: list[T] = []
        for item in self._items:
            (kept if item.urgent or len(lost) >= room else lost).append(item)
        self._items = kept
        self._lose(lost)

    def _lose(self, lost: list[T]) -> None:
        self._n_urgent -= sum(item.urgent for item in lost)
        self.count(lost)
