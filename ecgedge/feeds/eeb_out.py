"""What a host has to say to a device, until there is room for it: no clock and no I/O.

An old result is worth nothing: the newest takes its place. An alert tells a state: of each condition the newest is kept
until it was sent, and sent again every few seconds while its signal is not off (PROTOCOL.md, 5.4).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ecgedge_bridge import Alert, Error, Frame, Pong, Result, SignalPresence

REPEAT_S: Final = 5.0
"""An alert whose signal is not off is sent again so often."""

OFF_TOLD: Final = 3
"""A signal that went off is told so often: the frame that says so may be lost, too."""

REFUSAL_S: Final = 1.0
"""Of one code no more than one ERROR may be sent in so long."""

MOST_ANSWERS: Final = 8
"""PONGs and ERRORs that wait at most."""


@dataclass
class _Told:
    """An alert, when it is due, and how often it is still to be told where its signal is off."""

    alert: Alert
    due_s: float
    left: int


class Outgoing:
    """Frames that wait, and the numbers of those that were sent.

    Attributes
    ----------
    sent, dropped
        Frames by type: those handed to the transport, and those that were given up (an older result, an answer to a
        device that asks more than it reads).
    """

    def __init__(self) -> None:
        self._answers: deque[Frame] = deque()
        self._result: Result | None = None
        self._told: dict[int, _Told] = {}
        self._refused_s: dict[int, float] = {}
        self._seq = 0
        self.sent: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def answer(self, frame: Frame) -> None:
        """Take a frame that goes before all others; the oldest is dropped where too many wait."""
        self._answers.append(frame)
        while len(self._answers) > MOST_ANSWERS:
            self.dropped[kind_of(self._answers.popleft())] += 1

    def refuse(self, error: Error, *, now_s: float) -> None:
        """Take an ERROR, unless one of its code has gone within a second."""
        if now_s - self._refused_s.get(error.code, now_s - REFUSAL_S) >= REFUSAL_S:
            self._refused_s[error.code] = now_s
            self.answer(error)

    def result(self, result: Result) -> None:
        """Take a result in the place of one that still waits."""
        if self._result is not None:
            self.dropped["result"] += 1
        self._result = result

    def forget_result(self) -> None:
        """Give up a result that waits: it was of samples before the device started anew."""
        if self._result is not None:
            self.dropped["result"] += 1
            self._result = None

    def alert(self, alert: Alert, *, now_s: float) -> None:
        """Take the state of a condition in the place of an older one."""
        self._told[alert.condition] = _Told(alert, now_s, OFF_TOLD)

    def begin_anew(self, *, now_s: float) -> None:
        """Tell all alerts again: the device knows none."""
        for told in self._told.values():
            told.due_s = now_s

    def take(self, *, now_s: float) -> Iterator[Frame]:
        """Yield the frames that are due, each for as long as the caller has room, with their numbers."""
        while self._answers:
            yield self._number(_going(self._answers.popleft(), now_s))
        for told in sorted(self._told.values(), key=lambda told: told.due_s):
            if told.due_s <= now_s:
                told.due_s = now_s + REPEAT_S
                self._tell_off(told)
                yield self._number(told.alert)
        if self._result is not None:
            result, self._result = self._result, None
            yield self._number(result)

    def _tell_off(self, told: _Told) -> None:
        if told.alert.signal is SignalPresence.OFF:
            told.left -= 1
            if told.left == 0:
                del self._told[told.alert.condition]

    def _number(self, frame: Frame) -> Frame:
        numbered = replace(frame, seq=self._seq)
        self._seq = (self._seq + 1) % 2**16
        self.sent[kind_of(frame)] += 1
        return numbered


def _going(frame: Frame, now_s: float) -> Frame:
    """Return an answer with the time at which it goes: it may have waited for room."""
    return replace(frame, t3_us=max(frame.t2_us, round(now_s * 1e6))) if isinstance(frame, Pong) else frame


def kind_of(frame: Frame) -> str:
    """Return a frame's type as a counter's name."""
    return type(frame).__name__.lower()
