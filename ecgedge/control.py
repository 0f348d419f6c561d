"""What a user does at the bedside, as lines of text: acknowledge, pause the sound, calibrate.

    ack CONDITION USER        pause SECONDS USER        resume USER        calibrate MMHG USER        uncalibrate USER

USER is the rest of the line and may hold spaces; it is believed, not checked. Bytes come in however they are
cut, commands come out. A line that is none is dropped, counted under the name of what is wrong with it, and
explained: it never stops a bed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Final, Literal

from ecgedge.alarms import CONDITIONS, Reading
from ecgedge.policy import AlarmPolicy

LONGEST_LINE: Final = 200
"""In bytes, without the line end."""

_READ_BYTES: Final = 4096
_FORMS: Final = (
    "expected: ack CONDITION USER, pause SECONDS USER, resume USER, calibrate MMHG USER, or uncalibrate USER"
)

Fault = Literal[
    "too_long",
    "not_text",
    "unfinished",
    "unknown_command",
    "unknown_condition",
    "bad_duration",
    "bad_pressure",
    "refused",
    "no_user",
]


@dataclass(frozen=True)
class Acknowledge:
    """`user` has seen `condition`."""

    condition: str
    user: str


@dataclass(frozen=True)
class PauseAudio:
    """`user` wants the alarms silent for `duration_s`."""

    duration_s: float
    user: str


@dataclass(frozen=True)
class ResumeAudio:
    """`user` ends the pause."""

    user: str


@dataclass(frozen=True)
class Uncalibrate:
    """`user` wants the estimates as the model says them."""

    user: str


Command = Acknowledge | PauseAudio | ResumeAudio | Reading | Uncalibrate
"""A `Reading` asks for a calibration against it."""


@dataclass(frozen=True)
class Dropped:
    """A line that was no command: the name it is counted under, and what to do instead."""

    fault: Fault
    reason: str


_OF_NOTHING: Final[dict[str, Callable[[str], Command]]] = {"resume": ResumeAudio, "uncalibrate": Uncalibrate}
"""Commands whose line has nothing but their user."""


class Inbox:
    """Commands of users who ask over a network, and are told what became of them."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()

    async def acknowledge(self, _bed: str, condition: str, user: str) -> None:
        """Have the bed acknowledge: it is the only one here, whatever it is called."""
        await self.ask(Acknowledge(condition, user))

    async def ask(self, command: Command) -> None:
        """Have the bed obey; UsageError if it cannot now."""
        asked = Asked(command, asyncio.get_running_loop().create_future())
        self._asked.put_nowait(asked)
        await asked.done

    async def __aiter__(self) -> AsyncIterator[Asked]:
        """Deliver what is asked, for ever."""
        while True:
            yield await self._asked.get()


@dataclass(frozen=True, eq=False)
class Asked:
    """A command, and where what became of it is waited for."""

    command: Command
    done: asyncio.Future[None]

    def obeyed(self) -> None:
        """Tell whoever still waits that it is done."""
        if not self.done.done():
            self.done.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Tell whoever still waits why it is not done."""
        if not self.done.done():
            self.done.set_exception(error)


class CommandReader:
    """Cuts bytes into lines and lines into commands, without I/O.

    Parameters
    ----------
    policy
        Says how long a pause may be.
    """

    def __init__(self, policy: AlarmPolicy) -> None:
        self._policy = policy
        self._line = bytearray()
        self._skipping = False
        self.dropped: Counter[str] = Counter()

    def push(self, data: bytes) -> list[Command | Dropped]:
        """Take bytes; return what their finished lines say, in order. Blank lines say nothing."""
        *lines, rest = data.split(b"\n")
        found = [item for line in lines for item in self._finish(line)]
        return found + list(self._keep(rest))

    def close(self) -> list[Command | Dropped]:
        """Take that no more will come. A line without its end may have been cut off, and is not obeyed."""
        unfinished = bool(self._line.strip())
        self._line.clear()
        return [self._drop("unfinished", "the last line has no end")] if unfinished else []

    def refuse(self, reason: str) -> Dropped:
        """Count a command that the bed did not obey."""
        return self._drop("refused", reason)

    def _keep(self, part: bytes) -> Iterator[Dropped]:
        """Add to the line in hand; one that grows too long is dropped at once, and the rest of it skipped."""
        if not self._skipping:
            self._line += part
            if len(self._line) > LONGEST_LINE:
                self._skipping = True
                self._line.clear()
                yield self._drop("too_long", f"a line is longer than {LONGEST_LINE} bytes")

    def _finish(self, part: bytes) -> Iterator[Command | Dropped]:
        yield from self._keep(part)
        line, skipped = bytes(self._line), self._skipping
        self._line.clear()
        self._skipping = False
        if not skipped and line.strip():
            yield self._parse(line)

    def _parse(self, line: bytes) -> Command | Dropped:
        text = line.decode("utf-8", "replace").strip()
        if "\ufffd" in text or not text.isprintable():
            return self._drop("not_text", f"a line is not printable UTF-8 text: {text!r}")
        word, _, rest = text.partition(" ")
        if word in _OF_NOTHING:
            return _OF_NOTHING[word](rest.strip()) if rest.strip() else self._nobody(text)
        of_something = {"ack": self._acknowledge, "pause": self._pause, "calibrate": self._calibrate}
        if word not in of_something:
            return self._drop("unknown_command", f"unknown command {word!r}; {_FORMS}")
        what, _, user = rest.strip().partition(" ")
        command = of_something[word](what, user.strip())
        return command if isinstance(command, Dropped) or user.strip() else self._nobody(text)

    def _acknowledge(self, condition: str, user: str) -> Command | Dropped:
        if condition not in CONDITIONS:
            known = ", ".join(CONDITIONS)
            return self._drop("unknown_condition", f"unknown condition {condition!r}; known are {known}")
        return Acknowledge(condition, user)

    def _pause(self, duration: str, user: str) -> Command | Dropped:
        longest_s = self._policy.audio_pause_max_s
        try:
            duration_s = float(duration)
        except ValueError:
            duration_s = 0.0
        if not 0.0 < duration_s <= longest_s:
            return self._drop(
                "bad_duration",
                f"a pause of {duration!r} seconds; it must be above 0 and at most {longest_s:g}",
            )
        return PauseAudio(duration_s, user)

    def _calibrate(self, pressure: str, user: str) -> Command | Dropped:
        try:
            return Reading(float(pressure), user or "nobody")
        except ValueError as error:
            return self._drop("bad_pressure", f"a catheter value of {pressure!r} mmHg: {error}")

    def _nobody(self, text: str) -> Dropped:
        return self._drop("no_user", f"who does {text!r}? {_FORMS}")

    def _drop(self, fault: Fault, reason: str) -> Dropped:
        self.dropped[fault] += 1
        return Dropped(fault, reason)


class Control:
    """The commands that come over a file descriptor, as an async iterator; it ends where the input ends.

    Reading goes on in a thread of its own, which neither a slow user nor the end of the program waits for: a
    terminal, a pipe and a file are all read alike.

    Parameters
    ----------
    fd
        Where the lines come from; left open.
    policy
        Of the bed that obeys.
    say
        Gets a sentence on each line that is dropped.
    """

    def __init__(self, fd: int, *, policy: AlarmPolicy, say: Callable[[str], None]) -> None:
        self._fd = fd
        self._reader = CommandReader(policy)
        self._say = say

    @property
    def dropped(self) -> dict[str, int]:
        """How many lines were dropped, by what was wrong with them."""
        return dict(self._reader.dropped)

    async def __aiter__(self) -> AsyncIterator[Command]:
        """Yield the commands as they come."""
        # One piece at a time: a flood waits in the pipe, not in memory.
        pieces: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=1)
        arguments = (self._fd, pieces, asyncio.get_running_loop())
        threading.Thread(target=_read, args=arguments, daemon=True, name="control").start()
        while data := await pieces.get():
            if isinstance(data, OSError):
                self._say(f"control input lost, no more commands are taken: {data.strerror}")
                break
            for item in self._heed(self._reader.push(data)):
                yield item
        for item in self._heed(self._reader.close()):
            yield item

    def refuse(self, reason: str) -> None:
        """Say that the bed did not obey the latest command, and count it among the lines that were dropped."""
        self._tell(self._reader.refuse(reason))

    def _tell(self, dropped: Dropped) -> None:
        self._say(f"control line dropped ({dropped.fault}): {dropped.reason}")

    def _heed(self, items: list[Command | Dropped]) -> Iterator[Command]:
        for item in items:
            if isinstance(item, Dropped):
                self._tell(item)
            else:
                yield item


def _read(fd: int, pieces: asyncio.Queue[bytes | OSError], loop: asyncio.AbstractEventLoop) -> None:
    """Hand on what comes, piece by piece, until an empty piece (the end) or an error."""
    piece: bytes | OSError = b"-"
    while piece and not isinstance(piece, OSError):
        try:
            piece = os.read(fd, _READ_BYTES)
        except OSError as error:
            piece = error
        putting = pieces.put(piece)
        try:
            asyncio.run_coroutine_threadsafe(putting, loop).result()
        except (RuntimeError, CancelledError):  # the stream ended first
            putting.close()
            return
