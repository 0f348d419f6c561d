"""Lines to a reader who may be slow: a thread writes, so that no reader holds up the watch over patients."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ecgedge.sinks.waiting import Waiting

MOST_WAITING: Final = 50_000
"""Lines of little worth that may wait for a reader before the older half of them is given up."""

AGAIN_S: Final = 1.0
"""A full disk is tried again after this long."""

_TOLD: Final = "dropped"


@dataclass(frozen=True)
class Line:
    """A line without its end; `kind` is what it is counted as, should it be given up, and urgent ones are not."""

    text: bytes
    kind: str
    urgent: bool


class LineQueue(Waiting[Line]):
    """Lines that wait for a reader, in order.

    What was given up is told by `dropped`, and by a line in the place where lines are missing:
    {"type":"dropped","events":{"estimate":7}}.
    """

    def __init__(self, *, most_waiting: int = MOST_WAITING) -> None:
        super().__init__(most_waiting=most_waiting)

    def take(self, most: int | None = None) -> list[Line]:
        """Return the oldest, and before them the line that stands where lines are missing."""
        lines, lost = super().take(most), self.given_up()
        return [Line(_told(lost), _TOLD, urgent=False), *lines] if lost else lines

    def count(self, lost: Iterable[Line]) -> None:
        """Count what was taken in vain as dropped."""
        super().count(line for line in lost if line.kind != _TOLD)


class Outlet:
    """Writes lines in order, as fast as they are taken; those that wait are a `LineQueue`.

    A disk that is full is tried again until it takes what waits;
    a reader who has gone is gone for good, and all that would be for him is counted.

    Parameters
    ----------
    stream
        Raw: what it has taken it has written. Closed by `close` only if `owned`.
    say
        Takes what people must know, from the thread.
    """

    def __init__(
        self,
        stream: io.RawIOBase,
        *,
        owned: bool,
        most_waiting: int = MOST_WAITING,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stream, self._owned, self._say = stream, owned, say
        self._lines = LineQueue(most_waiting=most_waiting)
        self._changed = threading.Condition()
        self._closing = self._gone = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._write, name="outlet", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many lines were given up, by kind."""
        return self._lines.dropped

    @property
    def waiting(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    def put(self, line: bytes, *, kind: str, urgent: bool) -> None:
        """Take a line, without its end; `kind` is what it is counted as, should it be given up."""
        with self._changed:
            self._lines.put(Line(line, kind, urgent))
            if self._gone:
                self._lines.lose()
            self._changed.notify()

    def close(self, *, wait_s: float = 5.0) -> None:
        """Write what waits, for `wait_s` at most, and count what was not taken; safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(wait_s)
        with self._changed:
            self._lines.lose()
        if self._owned and not self._thread.is_alive():
            self._stream.close()

    # --- the thread ---

    def _write(self) -> None:
        while lines := self._next():
            if not self._written(b"".join(line.text + b"\n" for line in lines)):
                with self._changed:
                    self._gone = True
                    self._lines.lose(lines)
                return

    def _next(self) -> list[Line]:
        """Wait for lines and take all, so that the lock is held for a moment only; none at the end."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            return self._lines.take()

    def _written(self, data: bytes) -> bool:
        """Write all of it, however often that must be tried; return False if nobody will ever take it."""
        left = memoryview(data)
        while left:
            try:
                taken = self._stream.write(left)
            except (BrokenPipeError, ValueError) as error:
                self._fail(
                    f"nobody reads the events any more ({error}): they are counted, and the watch goes on"
                )
                return False
            except OSError as error:
                self._fail(
                    f"the events cannot be written: {error.strerror}; they wait, and the watch goes on"
                )
                taken = None
            else:
                left = left[taken or 0 :]
            if taken is None and not self._waited():
                return False
        if self.failure is not None:
            self.failure = None
            self._say("the events are written again")
        return True

    def _fail(self, why: str) -> None:
        if self.failure != why:
            self.failure = why
            self._say(why)

    def _waited(self) -> bool:
        """Wait for the next try; return False at the end, when there is none."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, AGAIN_S)


def _told(lost: Mapping[str, int]) -> bytes:
    """Return the line that stands where lines are missing."""
    return json.dumps({"type": _TOLD, "events": dict(lost)}, separators=(",", ":")).encode()
