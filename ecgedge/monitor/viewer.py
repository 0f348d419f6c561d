"""What waits for one viewer: bounded, so that a slow one costs the beds nothing and is never shown a hole as whole."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Literal

MOST_SAMPLE_BYTES: Final = 262_144
"""Samples that wait, some 20 s of twelve leads at 500 Hz; the next messages are lost whole, and counted."""

MOST_TEXTS: Final = 4000
"""Events that wait. A viewer that takes no more is closed: nobody may believe that it shows all alarms."""

MOST_TEXT_BYTES: Final = 8_388_608

Loss = Literal["samples"]


class Viewer:
    """One who looks: an event queue without holes, a sample queue with, and the newest of what is told again anyway.

    Parameters
    ----------
    wake
        Called whenever something waits that did not.
    overflow
        Called once, when events cannot be kept any more: the connection is to be cut.
    """

    def __init__(self, *, wake: Callable[[], None], overflow: Callable[[], None]) -> None:
        self._wake, self._overflow = wake, overflow
        self._queue: deque[str | bytes] = deque()
        self._newest: dict[str, str] = {}
        self._sample_bytes = self._text_bytes = self._texts = 0
        self.dropped: Counter[Loss] = Counter()
        self.closed = self._turn = False
        self.bed: str | None = None
        self.sees_ward = False

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._queue) + len(self._newest)

    def tell(self, text: str) -> None:
        """Queue a message that may not be lost."""
        if self.closed:
            return
        if self._texts >= MOST_TEXTS or self._text_bytes + len(text) > MOST_TEXT_BYTES:
            self.close()
            self._overflow()
            return
        self._texts += 1
        self._text_bytes += len(text)
        self._queue.append(text)
        self._wake()

    def tell_newest(self, key: str, text: str) -> None:
        """Queue a message that takes the place of one with the same key that still waits."""
        if not self.closed:
            self._newest[key] = text
            self._wake()

    def show(self, message: bytes) -> None:
        """Queue samples, or lose them where too many wait."""
        if self.closed:
            return
        if self._sample_bytes + len(message) > MOST_SAMPLE_BYTES:
            self.dropped["samples"] += 1
            return
        self._sample_bytes += len(message)
        self._queue.append(message)
        self._wake()

    def take(self) -> str | bytes | None:
        """Return the next message, or None; of both kinds in turn, so that a long queue does not hide the newest."""
        self._turn = not self._turn
        if self._queue and (self._turn or not self._newest):
            message = self._queue.popleft()
            if isinstance(message, bytes):
                self._sample_bytes -= len(message)
            else:
                self._texts -= 1
                self._text_bytes -= len(message)
            return message
        if self._newest:
            return self._newest.pop(next(iter(self._newest)))
        return None

    def forget_samples(self) -> None:
        """Let go of the samples that wait: they are of a bed that is not looked at any more."""
        self._queue = deque(m for m in self._queue if not isinstance(m, bytes))
        self._sample_bytes = 0

    def close(self) -> None:
        """Take nothing more, and let go of all that waits."""
        self.closed = True
        self._queue.clear()
        self._newest.clear()
        self._sample_bytes = self._text_bytes = self._texts = 0
