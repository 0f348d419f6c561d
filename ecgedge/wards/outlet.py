"""Lines to a reader who may be slow: a thread writes, so that no reader holds up the watch over patients."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Mapping
from typing import IO, Final

MOST_WAITING: Final = 50_000
"""Lines that may wait for a reader before those of little worth are given up."""

ALARM_LINES: Final = 1_000_000
"""Even alarms end somewhere: at 200 bytes a line, in 200 MB."""


class Outlet:
    """Writes lines in order, as fast as they are taken.

    Where more wait than `most_waiting`, lines that are not urgent are given up, the oldest first, and counted; urgent
    ones (alarms) wait on. What was given up is told by `dropped`, and by the line that `on_drop` makes of it, in the
    place where lines are missing.

    Parameters
    ----------
    stream
        Binary; closed by `close` only if `owned`.
    """

    def __init__(self, stream: IO[bytes], *, owned: bool, most_waiting: int = MOST_WAITING) -> None:
        self._stream, self._owned, self._most = stream, owned, most_waiting
        self._lines: deque[tuple[bytes, str, bool]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._given_up: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._write, name="outlet", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    def put(self, line: bytes, *, kind: str, urgent: bool) -> None:
        """Take a line, without its end; `kind` is what it is counted as, should it be given up."""
        with self._changed:
            if self.failure is not None:
                self.dropped[kind] += 1
                return
            self._lines.append((line, kind, urgent))
            if len(self._lines) > self._most:
                self._give_up()
            self._changed.notify()

    def close(self, *, wait_s: float = 5.0) -> None:
        """Write what waits, for `wait_s` at most; safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(wait_s)
        if self._owned and not self._thread.is_alive():
            self._stream.close()

    def _give_up(self) -> None:
        """Drop the older half of what is not urgent; called with the lock."""
        room = len(self._lines) // 2
        kept: deque[tuple[bytes, str, bool]] = deque()
        lost: Counter[str] = Counter()
        for k, line in enumerate(self._lines):
            if k < room and not line[2]:
                lost[line[1]] += 1
            else:
                kept.append(line)
        while len(kept) > ALARM_LINES:
            lost[kept.popleft()[1]] += 1
        self._lines = kept
        self.dropped += lost
        self._given_up += lost

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                if not self._lines:
                    return
                # All at once: one write, and the lock is held for a moment only.
                lines = [line for line, _, _ in self._lines]
                self._lines.clear()
                lost, self._given_up = self._given_up, Counter()
            if lost:
                lines.insert(0, _told(lost))
            try:
                self._stream.write(b"\n".join(lines) + b"\n")
                self._stream.flush()
            except (OSError, ValueError) as error:
                with self._changed:
                    self.failure = str(error)
                return


def _told(lost: Mapping[str, int]) -> bytes:
    """Return the line that stands where lines are missing."""
    return json.dumps({"type": "dropped", "events": dict(lost)}, separators=(",", ":")).encode()
