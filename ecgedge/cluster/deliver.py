"""The events of a cluster to sinks: one process reads them off the bus, and the sinks are those of a ward.

Each sink has its own place in the events, which the bus keeps: who comes back goes on from there, and a sink that is
away holds up no other. What it does not take, it is given again, some of it twice. How delivery fares stands on the
bus, renewed every two seconds; every node reads it there and tells its beds (DELIVERY_FAILED), also where it is renewed
no more: then nobody delivers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Final

from ecgedge.cluster.bus import EVENTS, Bus, BusError, Delivery
from ecgedge.cluster.stream_reader import Mark, Reader, open_reader
from ecgedge.cluster.tell import tell_bed
from ecgedge.errors import UsageError
from ecgedge.events import event_from_dict
from ecgedge.sinks import Output, first_trouble
from ecgedge.tasks import end_tasks

STATE: Final = "deliver"
RENEW_S: Final = 2.0
"""How often the state is renewed."""

GONE_S: Final = 10.0
"""A state that was not renewed for so long is one of nobody."""

KEEP_S: Final = 1.0
"""How often the bus keeps how far a sink has come."""

AGAIN_S: Final = 1.0
READ_AT_ONCE: Final = 100

_NOT_EVENTS: Final = ("answer", "moved")
"""Lines of EVENTS that are no beds' events."""


class Deliverer:
    """Gives each output the events of all beds.

    Parameters
    ----------
    bus
        Left open.
    outputs
        By their URIs; left open.
    say
        Takes what people must know.

    Attributes
    ----------
    dropped
        Lines that were no event, by why.
    """

    def __init__(self, bus: Bus, outputs: Mapping[str, Output], *, say: Callable[[str], None]) -> None:
        self._bus, self._outputs, self._say = bus, outputs, say
        self._stop = asyncio.Event()
        self.dropped: Counter[str] = Counter()

    def stop(self) -> None:
        """End `run` in good order."""
        self._stop.set()

    async def run(self) -> None:
        """Deliver until `stop`; then nobody is meant to deliver, and no bed says that nobody does.

        Raises
        ------
        UsageError
            If another process delivers.
        """
        await self._require_alone()
        routes = [
            await _Route.open(self._bus, uri, output, self.dropped, self._say)
            for uri, output in self._outputs.items()
        ]
        tasks = [asyncio.create_task(route.run(), name=f"events for {route.output.name}") for route in routes]
        try:
            await self._renew()
        finally:
            await end_tasks(*tasks)
            await self._say_state(None)

    async def _require_alone(self) -> None:
        first = await self._bus.state(STATE)
        if first is None:
            return
        await asyncio.sleep(RENEW_S * 1.5)
        again = await self._bus.state(STATE)
        if again is not None and again.revision != first.revision:
            raise UsageError(
                "another process delivers this cluster's events; end it first, or give it all sinks"
            )

    async def _renew(self) -> None:
        while not self._stop.is_set():
            await self._say_state(json.dumps({"why": first_trouble(self._outputs.values())}).encode())
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RENEW_S)

    async def _say_state(self, state: bytes | None) -> None:
        try:
            await self._bus.set_state(STATE, state)
        except BusError as error:
            self._say(str(error))


class _Route:
    """One sink's way through the events."""

    def __init__(
        self, bus: Bus, uri: str, output: Output, dropped: Counter[str], say: Callable[[str], None]
    ) -> None:
        self._bus, self.output, self._dropped, self._say = bus, output, dropped, say
        # The URI itself may hold a secret.
        self._name = f"sink-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
        self._reader: Reader
        self._done = self._kept = 0
        self._next_keep_s = 0.0

    @classmethod
    async def open(
        cls, bus: Bus, uri: str, output: Output, dropped: Counter[str], say: Callable[[str], None]
    ) -> _Route:
        """Find out how far the sink has come; a new one begins now, and again there should this process die at once."""
        route = cls(bus, uri, output, dropped, say)
        kept = await bus.state(route._name)
        mark = None if kept is None else Mark.from_bytes(kept.data)
        route._reader = await open_reader(bus, EVENTS, mark, from_now=True)
        await bus.set_state(route._name, route._reader.reached.to_bytes())
        return route

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                try:
                    await self._deliver()
                except BusError as error:
                    self._say(f"{error}; trying again")
                    await asyncio.sleep(AGAIN_S)
        finally:
            with suppress(BusError):  # what is not kept is delivered again
                await self._keep()
            await self._reader.close()

    async def _deliver(self) -> None:
        deliveries = await self._reader.read(READ_AT_ONCE, wait_s=0.5)
        for delivery in deliveries:
            self._put(delivery)
        await self.output.taken()
        if deliveries:
            self._done = deliveries[-1].sequence
        if time.monotonic() >= self._next_keep_s:
            self._next_keep_s = time.monotonic() + KEEP_S
            await self._keep()

    async def _keep(self) -> None:
        """Have the bus keep how far the sink has come."""
        if self._done > self._kept:
            await self._bus.set_state(self._name, self._reader.mark(self._done).to_bytes())
            self._kept = self._done

    def _put(self, delivery: Delivery) -> None:
        try:
            line = dict(json.loads(delivery.data))
            if line.get("type") in _NOT_EVENTS:
                return
            bed = str(line.pop("bed"))
            event = event_from_dict(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._dropped["no event"] += 1
            return
        if (
            delivery.mode is None
        ):  # of what is not known to be simulated, nobody may be told as though it were real
            self._dropped["no mode"] += 1
            return
        self.output.put(
            bed, delivery.mode, event, at=datetime.fromtimestamp(delivery.published_s, timezone.utc)
        )


async def acknowledge_at(bus: Bus, bed: str, condition: str, user: str) -> None:
    """Have a bed acknowledge what a user acknowledges at a sink; UsageError if it does not."""
    answer = await tell_bed(bus, bed, "acknowledge", {"condition": condition, "user": user})
    if not answer.get("ok"):
        raise UsageError(str(answer.get("error", "there was no reason given")))


class DeliveryWatch:
    """What a node knows of delivery: it looks at the state on the bus, and when that was last renewed.

    Attributes
    ----------
    why
        What keeps events from the sinks; None if nothing does, or nobody is meant to deliver.
    is_known
        Whether `why` is more than a beginning.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self.is_known = False
        self._revision: int | None = None
        self._renewed_s = time.monotonic()

    async def look(self, bus: Bus) -> None:
        """Look at the state; where the bus does not give it, nothing new is known."""
        try:
            kept = await bus.state(STATE)
        except BusError:
            self._renewed_s = time.monotonic()
            return
        now_s = time.monotonic()
        if kept is None:
            self.why, self.is_known, self._revision, self._renewed_s = None, True, None, now_s
        elif self._revision is not None and kept.revision != self._revision:
            self._renewed_s, self.is_known = now_s, True
            self.why = _why(kept.data)
        elif now_s - self._renewed_s > GONE_S:
            self.is_known = True
            self.why = f"nobody has delivered events for {GONE_S:g} s"
        self._revision = None if kept is None else kept.revision


def _why(state: bytes) -> str | None:
    try:
        why = json.loads(state)["why"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "how delivery fares cannot be read"
    return None if why is None else str(why)
