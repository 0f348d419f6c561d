"""What reaches a bed beside its samples: noted in the journal, so that a stream can be run again bit for bit.

A bed's events follow from its samples, from users' commands, and from what the wall clock and the disk did: a
tick that found the feed silent, a feed that broke off, a journal that could not be written, a clock that nobody
held. The samples can be had again from a recording; the rest is an entry of type "input":

    {"type":"input","call":"acknowledge","samples":15250,"t_s":61.003,"condition":"LEAD_OFF","user":"Nurse Seven"}

It stands before the events that followed from it. `samples` counts those pushed before, per lead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ecgedge.alarms import Reading
from ecgedge.control import Acknowledge, Command, PauseAudio, Uncalibrate
from ecgedge.events import Event, Summary

Call = Literal[
    "advance",
    "acknowledge",
    "pause_audio",
    "resume_audio",
    "calibrate",
    "uncalibrate",
    "feed_lost",
    "journal",
    "model_late",
    "clock_unsync",
    "feed_rate",
    "feed_delay",
    "delivery",
    "end",
]


class Watched(Protocol):
    """What a bed is to those who give it inputs; see `ecgedge.stream.Bed`."""

    def push(self, samples_mv: NDArray[np.float32], *, t_s: float) -> list[Event]:
        """Do what `Bed.push` does."""
        ...

    def advance(self, t_s: float) -> list[Event]:
        """Do what `Bed.advance` does."""
        ...

    def feed_lost(self) -> list[Event]:
        """Do what `Bed.feed_lost` does."""
        ...

    def journal(self, t_s: float, *, why: str | None) -> list[Event]:
        """Do what `Bed.journal` does."""
        ...

    def model_late(self, t_s: float, *, why: str | None) -> list[Event]:
        """Do what `Bed.model_late` does."""
        ...

    def clock_unsync(self, t_s: float, *, why: str | None) -> list[Event]:
        """Do what `Bed.clock_unsync` does."""
        ...

    def feed_rate(self, t_s: float, *, why: str | None) -> list[Event]:
        """Do what `Bed.feed_rate` does."""
        ...

    def feed_delay(self, t_s: float, *, why: str | None) -> list[Event]:
        """Do what `Bed.feed_delay` does."""
        ...

    def delivery(self, t_s: float, *, why: str | None, user: str | None = None) -> list[Event]:
        """Do what `Bed.delivery` does."""
        ...

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[Event]:
        """Do what `Bed.acknowledge` does."""
        ...

    def pause_audio(self, t_s: float, *, duration_s: float, user: str) -> list[Event]:
        """Do what `Bed.pause_audio` does."""
        ...

    def resume_audio(self, t_s: float, *, user: str) -> list[Event]:
        """Do what `Bed.resume_audio` does."""
        ...

    def calibrate(self, t_s: float, *, reading: Reading) -> list[Event]:
        """Do what `Bed.calibrate` does."""
        ...

    def uncalibrate(self, t_s: float, *, user: str) -> list[Event]:
        """Do what `Bed.uncalibrate` does."""
        ...


@dataclass(frozen=True)
class Input:
    """One call. `why` says what is wrong with journal, estimates, clock, rate or delivery; None there: all is well."""

    type: ClassVar[str] = "input"
    call: Call
    samples: int
    t_s: float
    condition: str | None = None
    duration_s: float | None = None
    user: str | None = None
    why: str | None = None
    mpcwp_mmhg: float | None = None
    sd_mmhg: float | None = None


def input_to_dict(given: Input) -> dict[str, Any]:
    """Turn an input into plain JSON types; what it does not need is left out."""
    values = ((f.name, getattr(given, f.name)) for f in fields(given))
    return {"type": given.type, **{name: value for name, value in values if value is not None}}


def from_command(command: Command, *, samples: int, t_s: float) -> Input:
    """Return what a user's command asks of the bed."""
    if isinstance(command, Acknowledge):
        return Input("acknowledge", samples, t_s, condition=command.condition, user=command.user)
    if isinstance(command, PauseAudio):
        return Input("pause_audio", samples, t_s, duration_s=command.duration_s, user=command.user)
    if isinstance(command, Reading):
        mmhg, sd_mmhg = command.mpcwp_mmhg, command.sd_mmhg
        return Input("calibrate", samples, t_s, user=command.user, mpcwp_mmhg=mmhg, sd_mmhg=sd_mmhg)
    call: Call = "uncalibrate" if isinstance(command, Uncalibrate) else "resume_audio"
    return Input(call, samples, t_s, user=command.user)


def apply(bed: Watched, given: Input) -> Sequence[Event]:
    """Make the call and return what follows from it; the end of a stream brings nothing."""
    user = given.user or ""
    if given.call == "acknowledge":
        return bed.acknowledge(given.t_s, condition=given.condition or "", user=user)
    if given.call == "pause_audio":
        return bed.pause_audio(given.t_s, duration_s=given.duration_s or 0.0, user=user)
    if given.call == "resume_audio":
        return bed.resume_audio(given.t_s, user=user)
    if given.call == "calibrate":
        return bed.calibrate(given.t_s, reading=Reading(given.mpcwp_mmhg or 0.0, user, given.sd_mmhg or 0.0))
    if given.call == "uncalibrate":
        return bed.uncalibrate(given.t_s, user=user)
    return _BY_THE_WORLD[given.call](bed, given)


_BY_THE_WORLD: Final[Mapping[Call, Callable[[Watched, Input], Sequence[Event]]]] = {
    "advance": lambda bed, given: bed.advance(given.t_s),
    "feed_lost": lambda bed, _: bed.feed_lost(),
    "journal": lambda bed, given: bed.journal(given.t_s, why=given.why),
    "model_late": lambda bed, given: bed.model_late(given.t_s, why=given.why),
    "clock_unsync": lambda bed, given: bed.clock_unsync(given.t_s, why=given.why),
    "feed_rate": lambda bed, given: bed.feed_rate(given.t_s, why=given.why),
    "feed_delay": lambda bed, given: bed.feed_delay(given.t_s, why=given.why),
    "delivery": lambda bed, given: bed.delivery(given.t_s, why=given.why, user=given.user),
    "end": lambda _bed, _given: [],
}


def time_of(event: Event) -> float | None:
    """Return the stream time of an event; the summary has none."""
    return None if isinstance(event, Summary) else event.t_s
