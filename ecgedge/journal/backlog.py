"""What a journal does not take waits here: a full disk must not end the watch over a patient."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from ecgedge.errors import RecordError
from ecgedge.journal.writer import Journal

MOST_WAITING: Final = 20_000
"""Events of about 14 hours with an estimate and a self-check each 5 s."""


class Backlog:
    """Writes to a journal, in order, and keeps what it does not take for the next try.

    Parameters
    ----------
    journal
        Left open.
    most_waiting
        If more than these wait, the oldest are given up; an entry {"type":"dropped","events":N} stands for them.
    """

    def __init__(self, journal: Journal, *, most_waiting: int = MOST_WAITING) -> None:
        self._journal = journal
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._most_waiting = most_waiting
        self._dropped = 0
        self._why: str | None = None

    @property
    def why(self) -> str | None:
        """Why events wait; None if none does."""
        return self._why

    @property
    def waiting(self) -> int:
        """How many events are not in the journal: those that wait, and those given up while they did."""
        return len(self._waiting) + self._dropped

    def append(self, event: Mapping[str, Any]) -> None:
        """Write what waits, then `event`; what the disk does not take waits on."""
        self._waiting.append(event)
        self.retry()
        while len(self._waiting) > self._most_waiting:
            self._waiting.popleft()
            self._dropped += 1

    def retry(self) -> None:
        """Write what waits, as far as the disk takes it."""
        try:
            if self._dropped:
                self._journal.append({"type": "dropped", "events": self._dropped})
                self._dropped = 0
            while self._waiting:
                self._journal.append(self._waiting[0])
                self._waiting.popleft()
            self._why = None
        except RecordError as error:
            self._why = str(error)
