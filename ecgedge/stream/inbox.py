"""What has come of a bed's samples and waits to be taken, whole hops at a time."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ecgedge.events import Event
from ecgedge.stream.bed import Bed
from ecgedge.stream.work import Steps

INBOX_S = 10.0
"""More than this never waits: the oldest samples go, and the bed reports the gap."""


class Inbox:
    """Samples of one bed that wait; the bed will say what it would have said had it been given each chunk at once.

    Chunks that follow each other are joined, so that they leave as whole hops. One that does not (a gap, or samples
    from the past) waits behind them with those after it, and then all leave one by one.

    Parameters
    ----------
    bed
        Where they go.
    hop_samples
        How many are taken at a time.
    """

    __slots__ = (
        "_apart",
        "_begin_s",
        "_fill",
        "_first_s",
        "_hop",
        "_joined",
        "_most",
        "_n_apart",
        "_needed",
        "bed",
    )

    def __init__(self, bed: Bed, *, hop_samples: int) -> None:
        self.bed, self._hop = bed, hop_samples
        self._most = max(2 * hop_samples, round(INBOX_S * bed.rate_hz))
        self._joined: deque[NDArray[np.float32]] = deque()
        self._fill = 0  # samples in them
        self._first_s: float | None = None
        # When, in the feed's time, the oldest sample that waits was due, and with how many of them the bed's hop is
        # whole; None where the bed knows.
        self._begin_s: float | None = None
        self._needed: int | None = None
        self._apart: deque[tuple[float, NDArray[np.float32]]] = deque()
        self._n_apart = 0

    @property
    def waiting(self) -> int:
        """Samples per lead that wait."""
        return self._fill + self._n_apart

    @property
    def ready(self) -> bool:
        """Whether a whole hop waits, or something that does not follow."""
        if self._needed is None:
            self._needed = self._due()
        return self._fill >= self._needed or bool(self._apart)

    def push(self, samples_mv: NDArray[np.float32], *, t_s: float) -> int:
        """Take a chunk and return how many samples had to go for it that the bed will never know of.

        A bed that has begun finds the others missing.

        A chunk is kept as it is: do not write to it afterwards.

        Raises
        ------
        UsageError
            As `Bed.push`.
        """
        self.bed.check(samples_mv, t_s=t_s)
        n = samples_mv.shape[1]
        lost = 0
        if not self._surely_follows(n, t_s):
            lost = self._make_room(n) * (not self.bed.started)
            if self._apart or not self._follows(n, t_s):
                self._apart.append((t_s, samples_mv))
                self._n_apart += n
                return lost
            oldest_s = self._first_s if self._fill else t_s
            self._begin_s = self.bed.due_s if self.bed.started else oldest_s
        if self._fill == 0:
            self._first_s = t_s
        self._joined.append(samples_mv)
        self._fill += n
        return lost

    def _surely_follows(self, n: int, t_s: float) -> bool:
        """Tell at a glance, for nearly all chunks, what `_follows` would say of one for which there is room."""
        if self._apart or not 0 < n <= self._most - self._fill:
            return False
        if self._begin_s is None:
            if not self.bed.started:
                return False
            self._begin_s = self.bed.due_s
        return abs((t_s - self._begin_s) * self.bed.rate_hz - self._fill) < 0.49

    def take_hop(self) -> Steps[list[Event]]:
        """Give the bed the rest of its hop, or all that waits where something waits apart."""
        return self.take_all() if self._apart else self._take(self._needed or self._due())

    def take_all(self) -> Steps[list[Event]]:
        """Give the bed all that waits."""
        events = (yield from self._take(self._fill)) if self._fill else []
        while self._apart:
            t_s, samples_mv = self._apart.popleft()
            self._n_apart -= samples_mv.shape[1]
            events += yield from self.bed.steps(samples_mv, t_s=t_s)
            self._begin_s = self._needed = None
        return events

    def _due(self) -> int:
        """Return how many samples the bed's hop still lacks."""
        return self._hop - self.bed.seen_samples % self._hop

    def _follows(self, n: int, t_s: float) -> bool:
        if n == 0:
            return False
        if self._fill == 0 and not self.bed.started:
            return True
        return self.bed.missing(t_s, waiting=self._fill, first_s=self._first_s) == 0

    def _take(self, n: int) -> Steps[list[Event]]:
        t_s = self.bed.due_s if self._first_s is None else self._first_s
        self._first_s = self._begin_s = self._needed = None
        return self.bed.steps(self._cut(n), t_s=t_s)

    def _cut(self, n: int) -> NDArray[np.float32]:
        """Take the oldest n samples out of those that follow each other."""
        parts: list[NDArray[np.float32]] = []
        self._fill -= n
        while n:
            part = self._joined.popleft()
            if part.shape[1] > n:
                self._joined.appendleft(part[:, n:])
                part = part[:, :n]
            parts.append(part)
            n -= part.shape[1]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _make_room(self, n: int) -> int:
        lost = 0
        while self.waiting and self.waiting + n > self._most:
            if self._fill:
                lost += self._fill
                self._fill, self._first_s, self._begin_s = 0, None, None
                self._joined.clear()
            else:
                _, oldest = self._apart.popleft()
                self._n_apart -= oldest.shape[1]
                lost += oldest.shape[1]
        return lost
