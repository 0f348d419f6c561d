"""What a viewer's messages ask for, read without I/O: garbage is dropped and counted under a name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from ecgedge.alarms import check_acknowledge, check_resume
from ecgedge.control import Acknowledge, Command, PauseAudio, ResumeAudio

LONGEST_MESSAGE: Final = 4096
"""In bytes; a longer one closes the connection."""

Fault = Literal["not_json", "unknown_command", "bad_command"]


@dataclass(frozen=True)
class Watch:
    """Look at one bed."""

    bed: str


@dataclass(frozen=True)
class WatchWard:
    """Look at all beds' tiles."""


@dataclass(frozen=True)
class Asked:
    """Something that a bed shall do; `number` comes back with the answer."""

    number: int
    bed: str
    command: Command


@dataclass(frozen=True)
class Garbled:
    """A message that asks for nothing; one with a `number` gets an answer that says why."""

    fault: Fault
    reason: str
    number: int | None = None


def read_message(text: str, *, user: str | None) -> Watch | WatchWard | Asked | Garbled:
    """Read a message; `user` is who has logged in, and stands before the name that the message gives."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return Garbled("not_json", "a message must be one JSON object")
    if not isinstance(message, dict):
        return Garbled("not_json", "a message must be one JSON object")
    do = message.get("do")
    if do == "watch_ward":
        return WatchWard()
    if do == "watch":
        bed = message.get("bed")
        return Watch(bed) if isinstance(bed, str) else Garbled("bad_command", "expected bed as a text")
    if do not in ("ack", "pause", "resume"):
        return Garbled("unknown_command", "expected do to be watch, watch_ward, ack, pause or resume")
    return _asked(do, message, user)


def _asked(do: str, message: dict[str, Any], user: str | None) -> Asked | Garbled:
    number = message.get("id")
    if type(number) is not int or not 0 <= number < 2**53:
        return Garbled("bad_command", "expected id to be a whole number that the answer will carry")
    who = user if user is not None else message.get("user")
    bed = message.get("bed")
    if not isinstance(who, str) or not isinstance(bed, str):
        return Garbled("bad_command", "expected bed and user as texts", number)
    try:
        return Asked(number, bed, _command(do, message, who))
    except (ValueError, TypeError) as error:
        return Garbled("bad_command", str(error), number)


LONGEST_USER: Final = 100


def _command(do: str, message: dict[str, Any], user: str) -> Command:
    if len(user) > LONGEST_USER:
        raise ValueError(f"a user's name may have {LONGEST_USER} characters")
    if do == "ack":
        condition = message.get("condition")
        if not isinstance(condition, str):
            raise TypeError("expected condition as a text")
        return Acknowledge(condition, check_acknowledge(condition, user))
    name = check_resume(user)
    if do == "resume":
        return ResumeAudio(name)
    duration_s = message.get("duration_s")
    if isinstance(duration_s, bool) or not isinstance(duration_s, (int, float)) or not 0 < duration_s <= 120:
        raise ValueError("expected duration_s in seconds, above 0 and at most 120")
    return PauseAudio(float(duration_s), name)
