"""Events to a receiver over a network: they wait in a bounded queue, are tried again, and none is lost in silence.

A receiver that does not take what it is sent is a trouble, which the beds tell as DELIVERY_FAILED: a local technical
alarm, since nobody else would hear of it. What was sent in vain is sent again, so a receiver may get it twice: `number`
tells it apart, and shows what is missing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Final, Protocol

from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError
from ecgedge.events import Event, event_to_dict
from ecgedge.sinks.waiting import Waiting
from ecgedge.tasks import end_tasks

MOST_WAITING: Final = 20_000
"""Events that are no alarms and may wait before the older half of them is given up."""

LATE_S: Final = 10.0
"""An event that has waited for so long is a trouble."""

AGAIN_S: Final = (0.5, 15.0)
"""A receiver that took nothing is tried again after the first, then twice as late each time, up to the second."""

ATTEMPT_S: Final = 10.0
"""How long a receiver may take to take a batch."""

REFUSED_S: Final = 60.0
"""That a receiver refused an event stays a trouble for so long."""

ROOM: Final = 200
"""Who can wait, waits while more events than this do: so many are soon taken at the end."""

CLOSE_S: Final = 5.0
"""How long the end waits for what was said last to be taken."""

URGENT: Final = frozenset({"alarm", "audio", "calibration", "expired"})
"""Events that no slow receiver may miss: who misses the last shows a number that is too old."""


class SinkError(EcgedgeError):
    """A receiver does not take what it is sent; it is to be tried again."""


class RefusedError(SinkError):
    """A receiver will never take what it was sent, and has taken none of it."""


@dataclass(frozen=True)
class Told:
    """An event on its way to a receiver.

    Attributes
    ----------
    bed, mode
        Whose it is, and what kind of samples it follows from.
    at
        When it was told, in the world's time.
    number
        Counts up by one per bed, from 0, for as long as the process lives.
    run
        The process; with bed and number it names an event.
    """

    bed: str
    mode: Mode
    event: Event
    at: datetime
    number: int
    run: str
    since_s: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> str:
        """What it is counted as, should it be given up."""
        return self.event.type

    @property
    def urgent(self) -> bool:
        """Whether it may not be given up."""
        return self.event.type in URGENT

    @property
    def id(self) -> str:
        """A name that no other event has."""
        return f"{self.run}-{self.bed}-{self.number}"

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The event as plain JSON types, with whose it is, and that it is for research use only."""
        head = {"bed": self.bed, "at": self.at.isoformat(timespec="milliseconds"), "number": self.number}
        return {
            **head,
            "run": self.run,
            "mode": self.mode,
            "research_use_only": True,
            **event_to_dict(self.event),
        }


class Receiver(Protocol):
    """What stands behind an outbox. All is called from one task, one call at a time."""

    @property
    def name(self) -> str:
        """Whom people know it as; without a secret."""
        ...

    @property
    def most(self) -> int:
        """How many events it takes at once."""
        ...

    @property
    def kinds(self) -> frozenset[str] | None:
        """The types of events that it has a form for; None for all."""
        ...

    async def deliver(self, told: Sequence[Told]) -> None:
        """Deliver all, in order; connect first if need be.

        Raises
        ------
        SinkError
            If not all were taken; they will come again, the same and more.
        RefusedError
            If they will never be taken as they are: then each is sent alone.
        """
        ...

    async def close(self) -> None:
        """Release what it holds; safe to call twice."""
        ...


class Outbox:
    """Events of all beds to one receiver.

    Parameters
    ----------
    receiver
        Closed with the outbox.
    say
        Takes what people must know and no event tells.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        say: Callable[[str], None],
        most_waiting: int = MOST_WAITING,
        late_s: float = LATE_S,
        again_s: tuple[float, float] = AGAIN_S,
        attempt_s: float = ATTEMPT_S,
    ) -> None:
        self._receiver, self._say, self._late_s = receiver, say, late_s
        self._again_s, self._attempt_s = again_s, attempt_s
        self._waiting: Waiting[Told] = Waiting(most_waiting=most_waiting)
        self._batch: list[Told] = []
        self._n_at_once = 0
        self._room = min(ROOM, most_waiting // 2)
        self._run = uuid.uuid4().hex[:12]
        self._numbers: Counter[str] = Counter()
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.delivered = 0
        self.refused: Counter[str] = Counter()
        self._failure: str | None = None
        self._refused_s = -REFUSED_S
        self._why_refused = ""
        self._closed = False
        self._task = asyncio.create_task(self._send(), name=f"outbox of {receiver.name}")

    @property
    def name(self) -> str:
        """Whom people know the receiver as."""
        return self._receiver.name

    @property
    def n_waiting(self) -> int:
        """How many events wait."""
        return len(self._waiting) + len(self._batch)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many events were given up, by type."""
        return self._waiting.dropped

    @property
    def trouble(self) -> str | None:
        """What keeps events from the receiver, or None."""
        oldest = self._batch[0] if self._batch else self._waiting.oldest if len(self._waiting) else None
        if oldest is not None and time.monotonic() - oldest.since_s >= self._late_s:
            why = self._failure or f"events wait for more than {self._late_s:g} s"
            return f"{self.name}: {why}"
        if time.monotonic() - self._refused_s < REFUSED_S:
            return f"{self.name}: {self._why_refused}"
        return None

    def put(self, bed: str, mode: Mode, event: Event, *, at: datetime | None = None) -> None:
        """Take an event; it never waits and never fails."""
        kinds = self._receiver.kinds
        if self._closed or (kinds is not None and event.type not in kinds):
            return
        number = self._numbers[bed]
        self._numbers[bed] += 1
        self._waiting.put(Told(bed, mode, event, at or datetime.now(timezone.utc), number, self._run))
        self._came.set()
        self._idle.clear()

    async def room(self) -> None:
        """Wait while many events wait and the receiver takes them: for who can wait, so that none is given up."""
        while len(self._waiting) >= self._room and self.trouble is None:
            await asyncio.sleep(0.01)

    async def taken(self) -> None:
        """Wait until nothing waits: all was delivered, or refused."""
        await self._idle.wait()

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        return {
            "delivered": self.delivered,
            "waiting": self.n_waiting,
            "dropped": dict(self.dropped),
            "refused": dict(self.refused),
            "trouble": self.trouble,
        }

    async def close(self, *, wait_s: float = CLOSE_S) -> None:
        """Deliver what waits, for `wait_s` at most; count what was not taken, and say so. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), wait_s)
        await end_tasks(self._task)
        self._waiting.lose(self._batch)
        self._batch = []
        await self._receiver.close()
        for what, counted in (("never taken", self.dropped), ("refused", self.refused)):
            if counted:
                lost = ", ".join(f"{n} of type {kind}" for kind, n in counted.items())
                self._say(f"sink {self.name}: events that were {what}: {lost}")

    # --- the task ---

    async def _send(self) -> None:
        wait_s = self._again_s[0]
        while True:
            await self._next()
            if await self._attempt():
                wait_s = self._again_s[0]
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(2.0 * wait_s, self._again_s[1])

    async def _next(self) -> None:
        """Wait for events, and make a batch of the oldest; what is left of the last one goes first."""
        while not self._batch:
            self._batch = self._waiting.take(self._receiver.most)
            self._n_at_once = len(self._batch)
            if not self._batch:
                self._idle.set()
                self._came.clear()
                await self._came.wait()

    async def _attempt(self) -> bool:
        """Try to deliver of the batch, and return whether there is nothing to wait for."""
        told = self._batch[: self._n_at_once]
        try:
            await asyncio.wait_for(self._receiver.deliver(told), self._attempt_s)
        except RefusedError as error:
            self._n_at_once = 1
            if len(told) == 1:
                self._refuse(self._batch.pop(0), str(error))
            return True
        except asyncio.TimeoutError:
            self._fail(f"no answer within {self._attempt_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is: it is told, and the events wait
            self._fail(str(error) if isinstance(error, EcgedgeError) else f"{type(error).__name__}: {error}")
        else:
            self.delivered += len(told)
            del self._batch[: len(told)]
            if self._failure is not None:
                self._failure = None
                self._say(f"sink {self.name} takes events again")
            return True
        return False

    def _refuse(self, told: Told, why: str) -> None:
        self.refused[told.kind] += 1
        self._refused_s, self._why_refused = time.monotonic(), f"refused an event: {why}"
        self._say(
            f"sink {self.name} refused an event of type {told.kind}: {why}; it is counted and not sent again"
        )

    def _fail(self, why: str) -> None:
        if self._failure is None:
            self._say(f"sink {self.name}: {why}; events wait and are sent again")
        self._failure = why


class Output(Protocol):
    """Where events of many beds go: an `Outbox`, or a page that is asked for."""

    @property
    def name(self) -> str:
        """Whom people know it as."""
        ...

    @property
    def trouble(self) -> str | None:
        """What keeps events from being delivered, or None."""
        ...

    def put(self, bed: str, mode: Mode, event: Event, *, at: datetime | None = None) -> None:
        """Take an event that was told at a time, now if it is left out; it never waits and never fails."""
        ...

    async def room(self) -> None:
        """Wait until there is room."""
        ...

    async def taken(self) -> None:
        """Wait until nothing that was put there waits."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        ...

    async def close(self) -> None:
        """Deliver what waits, and release what it holds; safe to call twice."""
        ...


def first_trouble(outputs: Iterable[Output]) -> str | None:
    """Return what keeps events from the first output that does not deliver, or None."""
    return next((output.trouble for output in outputs if output.trouble is not None), None)


class BedOutlet:
    """One bed's way to an output, as a `Sink`.

    Parameters
    ----------
    patient
        Whether who sends can wait, as one that plays a recording can: then no event is given up for want of room.
    """

    def __init__(self, output: Output, bed: str, mode: Mode, *, patient: bool = False) -> None:
        self._output, self._bed, self._mode, self._patient = output, bed, mode, patient

    async def send(self, event: Event) -> None:
        """Put the event there."""
        self._output.put(self._bed, self._mode, event)
        if self._patient:
            await self._output.room()

    async def close(self) -> None:
        """Leave the output open: other beds use it."""
