"""What a journal does not take waits here: a disk that is full, or hangs, must not end the watch over a patient."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ecgedge.errors import RecordError
from ecgedge.journal.writer import Journal
from ecgedge.patience import Patient

MOST_WAITING: Final = 20_000
"""Events of about 14 hours with an estimate and a self-check each 5 s."""


class Record(Protocol):
    """What takes a bed's entries, in order: a journal's backlog, or a way to a journal elsewhere."""

    @property
    def why(self) -> str | None:
        """Why the journal is not written; None if it is."""
        ...

    @property
    def waiting(self) -> int:
        """How many entries are not in the journal that should be."""
        ...

    def append(self, event: Mapping[str, Any]) -> None:
        """Take an entry; never fails."""
        ...

    def close(self) -> None:
        """Close the journal; RecordError where it cannot be brought to the disk."""
        ...


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
        self._disk = Patient(f"the journal {journal.path}")
        self._written: Mapping[str, Any] | None = None  # the last that a thread has brought to the disk

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
            self._disk.require_answer()
            self._forget_written()
            if self._dropped:
                self._journal.append({"type": "dropped", "events": self._dropped})
                self._dropped = 0
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            self._why = None
        except RecordError as error:
            self._why = str(error)

    def close(self) -> None:
        """Close the journal.

        Raises
        ------
        RecordError
            If it cannot be brought to the disk, or the disk does not answer: then it is left as it is.
        """
        self._disk.do(self._journal.close)

    def _write(self, event: Mapping[str, Any]) -> None:
        if not self._journal.waits_for_the_disk(event):
            self._journal.append(event)
            return

        def write() -> None:
            self._journal.append(event)
            self._written = event

        self._disk.do(write)

    def _forget_written(self) -> None:
        """Let go of what a thread has written after all, later than anyone waited for."""
        if self._waiting and self._waiting[0] is self._written:
            self._waiting.popleft()
        self._written = None
