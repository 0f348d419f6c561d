"""How far a bed has read: messages come, and the bed takes their samples later, in whole hops."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ecgedge.cluster.checkpoint import Position


@dataclass
class _Came:
    """A message that the bed may not have taken whole: its sequence, its samples, and all that came up to its end."""

    sequence: int
    n: int
    until: int


class Reading:
    """Counts what comes, behind a position; `n_came` samples have.

    Parameters
    ----------
    position
        How far the bed had read before.
    """

    def __init__(self, position: Position | None = None) -> None:
        self._position = position or Position()
        self._came: deque[_Came] = deque()
        self.n_came = 0

    def begun(self, sequence: int) -> int:
        """Return how many samples of a message the bed has taken already."""
        return self._position.partial if sequence == self._position.partial_of else 0

    def came(self, sequence: int, n: int = 0, *, begun: int = 0) -> None:
        """Take that a message came, of which `n` samples go to the bed behind the `begun`."""
        self.n_came += n
        self._came.append(_Came(sequence, n + begun, self.n_came))

    def up_to(self, *, waiting: int) -> Position:
        """Return how far the bed has read: what waits is in no snapshot, and must be read again."""
        taken = self.n_came - waiting
        while self._came and self._came[0].until <= taken:
            self._position = Position(self._came.popleft().sequence)
        if self._came:
            first = self._came[0]
            partial = max(0, first.n - (first.until - taken))
            self._position = Position(self._position.sequence, first.sequence, partial)
        return self._position
