"""Work that the disk may not answer: it is given a second, and then it goes on without us.

A disk that is full says so; one that hangs (a server that is gone, a worn card) says nothing, and whoever waits for it
watches over nobody. So what must reach the disk itself (fsync) is done on a thread of its own. Where that takes too
long, its owner goes on and asks again later; until it has come to an end, nothing else is done for that owner.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from ecgedge.errors import RecordError

PATIENCE_S: Final = 1.0
"""So long is waited for the disk."""

NONE_LEFT_S: Final = 0.02
"""And so long while it does not answer others: a ward's many beds may not wait a second each."""

_KEPT: Final = 4
"""Threads that are kept for the next work."""


class _Work:
    """One piece of work and how it ended."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do, self.began_s = do, time.monotonic()
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._do()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self.error = error
        self.ended.set()


class _Threads:
    """Threads that take one piece of work after the other; daemons, so that a disk that hangs holds up no exit."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Work]] = []

    def start(self, work: _Work) -> None:
        """Have a thread do it, a new one where none is idle."""
        try:
            todo = self._idle.pop()
        except IndexError:
            todo = SimpleQueue()
            threading.Thread(target=self._serve, args=(todo,), name="disk", daemon=True).start()
        todo.put(work)

    def _serve(self, todo: SimpleQueue[_Work]) -> None:
        while True:
            todo.get().run()
            if len(self._idle) >= _KEPT:
                return
            self._idle.append(todo)


_threads = _Threads()
_hanging: set[_Work] = set()
"""What was given up on and had not ended when anyone last looked."""


def _any_hangs() -> bool:
    _hanging.difference_update([work for work in _hanging if work.ended.is_set()])
    return bool(_hanging)


class Patient:
    """Does one owner's work, a piece at a time.

    Parameters
    ----------
    what
        What an error begins with, for example "the journal bed.jsonl".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._work: _Work | None = None

    @property
    def hangs(self) -> bool:
        """Whether there is work that was given up on and has not ended."""
        if self._work is not None and self._work.ended.is_set():
            self._work = None
        return self._work is not None

    def require_answer(self) -> None:
        """Raise RecordError if earlier work hangs."""
        if self.hangs and self._work is not None:
            waited_s = time.monotonic() - self._work.began_s
            raise RecordError(f"{self._what}: the disk has not answered for {waited_s:.0f} s")

    def do(self, work: Callable[[], None]) -> None:
        """Do it and wait for its end, or not any longer.

        Raises
        ------
        RecordError
            If it takes too long; it goes on, and may still be done. If earlier work hangs; then nothing is begun.
            And whatever it raises itself.
        """
        self.require_answer()
        begun = _Work(work)
        _threads.start(begun)
        if not begun.ended.wait(NONE_LEFT_S if _any_hangs() else PATIENCE_S):
            self._work = begun
            _hanging.add(begun)
            self.require_answer()
        if begun.error is not None:
            raise begun.error
