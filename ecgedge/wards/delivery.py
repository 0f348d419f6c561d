"""Delivery that a receiver confirms: who listens, what was confirmed, and what that means for each bed.

A receiver listens on the ward's control socket under a station's name. It is sent the events of all beds; alarm, audio,
calibration and expired events carry a number of their own, which it confirms once its user has them. A station that
does not confirm in time, or that has listened and is gone, is a trouble of the beds: DELIVERY_FAILED. It stays one
until the station has confirmed all that is overdue, or a user dismisses it. Every other way to hear of alarms is for
information only.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ecgedge.errors import RecordError, UsageError
from ecgedge.patience import Patient
from ecgedge.wards.config import check_name
from ecgedge.wards.outlet import Line, LineQueue
from ecgedge.wards.state import replace_file

MOST_STATIONS: Final = 32

MOST_WAITING: Final = 5_000
"""Lines that are no alarms and may wait for one station before the older half of them is given up."""

MOST_UNCONFIRMED: Final = 10_000
"""A station that owes more confirmations than this is cut off: when it listens again, it is told what is on."""

FLUSH_S: Final = 1.0
"""How long the end of the ward waits for what it said last to be taken."""


@dataclass(frozen=True)
class Trouble:
    """What delivery means for a bed.

    Attributes
    ----------
    why
        What is wrong; None if nothing is.
    user
        Who dismissed the last station that was a trouble.
    sure
        Whether all stations that should listen do, and have what was on first; before, "nothing is wrong" is no news.
    """

    why: str | None
    user: str | None
    sure: bool


class Listener:
    """One connection that listens; it sends as fast as the other side reads, and holds up nobody.

    Attributes
    ----------
    unconfirmed
        By number: the bed, and when it was told.
    confirmed
        How many were confirmed.
    first
        Up to which number it was told what was on when it began to listen.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting = asyncio.Event()
        self.lines = LineQueue(most_waiting=MOST_WAITING)
        self.unconfirmed: dict[int, tuple[str, float]] = {}
        self.number = self.first = self.confirmed = 0
        self._sending = asyncio.create_task(self._send(), name="delivery")

    def put(self, bed: str, event: str, kind: str, *, urgent: bool) -> None:
        """Take an event as JSON; an urgent one is to be confirmed."""
        head = f'{{"bed":"{bed}",'
        if urgent:
            self.number += 1
            self.unconfirmed[self.number] = bed, time.monotonic()
            head += f'"delivery":{self.number},'
        self._put(Line((head + event[1:]).encode(), kind, urgent))

    def say(self, answer: Mapping[str, Any]) -> None:
        """Take an answer."""
        self._put(
            Line(json.dumps(answer, separators=(",", ":"), default=str).encode(), "answer", urgent=False)
        )

    def confirm(self, number: int) -> None:
        """Take that the receiver's user has it; UsageError if it never was, or was confirmed before."""
        if self.unconfirmed.pop(number, None) is None:
            raise UsageError(f"delivery {number} does not wait to be confirmed")
        self.confirmed += 1

    def overdue(self, since_s: float) -> Iterable[str]:
        """Yield the beds of what was told before a time and is not confirmed."""
        for bed, told_s in self.unconfirmed.values():
            if told_s > since_s:
                return
            yield bed

    @property
    def is_new(self) -> bool:
        """Whether something of what was on at first is not confirmed yet."""
        return next(iter(self.unconfirmed), self.first + 1) <= self.first

    async def close(self) -> None:
        """End the connection when it has taken all, or is gone."""
        while self.lines and not self._sending.done():
            await asyncio.sleep(0.01)
        with suppress(OSError):
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()

    def cut_off(self) -> None:
        """End the connection at once."""
        self._sending.cancel()
        self._writer.transport.abort()

    def _put(self, line: Line) -> None:
        self.lines.put(line)
        self._waiting.set()

    async def _send(self) -> None:
        with suppress(OSError):  # it has gone: who reads its connection hears of it
            while await self._waiting.wait():
                self._waiting.clear()
                for line in self.lines.take():
                    self._writer.write(line.text + b"\n")
                    await self._writer.drain()


@dataclass
class _Station:
    """Someone who is to listen.

    `grace_s` is until when one that listened to an earlier process has time to come back; `is_behind` says that what it
    has missed must be confirmed before all is well.
    """

    listener: Listener | None = None
    grace_s: float = 0.0
    is_behind: bool = False


class Deliveries:
    """The stations of a ward.

    Parameters
    ----------
    delivery_s
        How long a station has to confirm.
    remembered
        File that keeps the names of the stations over a restart, if any.
    say
        Takes what people must know and no event tells.
    """

    def __init__(self, *, delivery_s: float, remembered: Path | None, say: Callable[[str], None]) -> None:
        self.delivery_s, self._remembered, self._say = delivery_s, remembered, say
        self._disk = Patient("the names of the stations")
        now_s = time.monotonic()
        self._stations = {name: _Station(grace_s=now_s + delivery_s) for name in self._recall()}
        self._of_all: str | None = None
        self._of_bed: dict[str, str] = {}
        self._user: str | None = None
        self._sure = not self._stations

    @property
    def is_heard(self) -> bool:
        """Whether any station listens."""
        return any(station.listener is not None for station in self._stations.values())

    def put(self, bed: str, event: str, kind: str, *, urgent: bool) -> None:
        """Send an event, as JSON, to all who listen."""
        for name, station in self._stations.items():
            if (listener := station.listener) is None:
                continue
            listener.put(bed, event, kind, urgent=urgent)
            if len(listener.unconfirmed) > MOST_UNCONFIRMED:
                self._say(f"station {name} owes {MOST_UNCONFIRMED} confirmations and is cut off")
                listener.cut_off()
                self.left(listener)

    def listen(self, name: str, writer: asyncio.StreamWriter, on: Iterable[tuple[str, str]]) -> Listener:
        """Let a station listen on this connection from now on; first it is told what is `on`: beds and alarms as JSON.

        One of its name that listens already is cut off.

        Raises
        ------
        UsageError
            If there are too many.
        """
        if name not in self._stations and len(self._stations) >= MOST_STATIONS:
            raise UsageError(f"there are {MOST_STATIONS} stations already; dismiss one of them first")
        is_new = name not in self._stations
        station = self._stations.setdefault(name, _Station())
        now_s = time.monotonic()
        if (before := station.listener) is not None:
            station.is_behind |= any(True for _ in before.overdue(now_s - self.delivery_s))
            before.cut_off()
            self._say(f"station {name} listens on another connection; the one before has ended")
        station.is_behind |= 0.0 < station.grace_s <= now_s
        station.grace_s = 0.0
        station.listener = listener = Listener(writer)
        listener.say({"ok": True, "station": name, "delivery_s": self.delivery_s})
        for bed, alarm in on:
            listener.put(bed, alarm, "alarm", urgent=True)
        listener.first = listener.number
        if is_new:
            self._remember()
        return listener

    def left(self, listener: Listener) -> None:
        """Take that a connection has ended; that it is missed, if it was not dismissed or replaced."""
        for name, station in self._stations.items():
            if station.listener is listener:
                station.listener, station.is_behind = None, True
                self._say(f"station {name} has gone: nobody there hears of alarms")

    def dismiss(self, name: str, user: str) -> None:
        """Let a station go for good, in the name of `user`; UsageError if there is none of this name."""
        if name not in self._stations:
            known = ", ".join(self._stations) or "none"
            raise UsageError(f"there is no station {name}; there are {known}")
        station = self._stations.pop(name)
        if station.listener is not None:
            station.listener.cut_off()
        self._user = user
        self._say(f"station {name} was dismissed by {user}")
        self._remember()

    def look(self, now_s: float) -> None:
        """Find out which beds are in trouble, and why."""
        self._of_all, self._of_bed, self._sure = None, {}, True
        for name, station in self._stations.items():
            if (listener := station.listener) is None:
                if now_s < station.grace_s:
                    self._sure = False
                else:
                    self._of_all = f"station {name} does not listen any more"
                continue
            self._sure &= not listener.is_new
            station.is_behind &= listener.is_new
            if station.is_behind:
                self._of_all = f"station {name} listens again and has not confirmed what is on"
            for bed in listener.overdue(now_s - self.delivery_s):
                self._of_bed[bed] = f"station {name} has not confirmed an alarm in {self.delivery_s:g} s"
        if self._of_all is not None or self._of_bed:
            self._user = None

    def trouble(self, bed: str) -> Trouble:
        """Return what delivery meant for a bed at the last look."""
        return Trouble(self._of_bed.get(bed, self._of_all), self._user, self._sure)

    def status(self) -> dict[str, Any]:
        """Return how each station fares, as plain JSON types."""
        return {name: self._status(station) for name, station in self._stations.items()}

    async def close(self) -> None:
        """Wait until all have taken what was said last, but not for long."""
        listeners = [x.listener for x in self._stations.values() if x.listener is not None]
        self._stations.clear()
        if listeners:
            await asyncio.wait([asyncio.create_task(x.close()) for x in listeners], timeout=FLUSH_S)

    def _status(self, station: _Station) -> dict[str, Any]:
        listener = station.listener
        if listener is None:
            return {"delivery": "gone"}
        late = any(True for _ in listener.overdue(time.monotonic() - self.delivery_s))
        return {
            "delivery": "not confirmed" if late or (station.is_behind and listener.is_new) else "confirmed",
            "confirmed": listener.confirmed,
            "unconfirmed": len(listener.unconfirmed),
            "dropped_lines": dict(listener.lines.dropped),
        }

    def _recall(self) -> list[str]:
        """Return the stations of an earlier process."""
        if self._remembered is None or not self._remembered.exists():
            return []
        try:
            return [check_name(name) for name in json.loads(self._remembered.read_bytes())][:MOST_STATIONS]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._say(f"who listened before cannot be read from {self._remembered}: {error}")
            return []

    def _remember(self) -> None:
        if self._remembered is None:
            return
        try:
            self._disk.do(partial(replace_file, self._remembered, json.dumps(list(self._stations)).encode()))
        except RecordError as error:
            self._say(f"{error}; a restart would not miss the stations")
