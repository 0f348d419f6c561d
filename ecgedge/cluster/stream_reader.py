"""Reading a stream of the bus to its end and on, a few messages at a time, by one who keeps how far it has come."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ecgedge.cluster.bus import Bus, Delivery, delivery_of, told
from ecgedge.schema import from_plain

READER_S: Final = 60.0
"""The server forgets a reader that has asked for nothing for so long; it is made again."""

QUIET_S: Final = 10.0
"""So is one that was given nothing for so long: the server may have forgotten it and not said so."""


@dataclass(frozen=True)
class Mark:
    """How far a stream was read: `made` says which one, since another of its name may begin to count anew."""

    made: str
    after: int

    def to_bytes(self) -> bytes:
        """Return it as it is kept."""
        return json.dumps({"made": self.made, "after": self.after}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Mark | None:
        """Read what `to_bytes` gave; None if it is none."""
        try:
            return from_plain(cls, json.loads(data))
        except (ValueError, RecursionError):  # SchemaError is one
            return None


class Reader:
    """Reads a stream in order, a few messages at a time; made by `open_reader`. It has read up to `reached`."""

    def __init__(self, js: Any, stream: str, mark: Mark) -> None:
        self._js, self._stream, self.reached = js, stream, mark
        self._subscription: Any = None
        self._heard_s = 0.0

    def mark(self, sequence: int) -> Mark:
        """Return the mark of a reader that has read up to a sequence."""
        return Mark(self.reached.made, sequence)

    async def read(self, most: int, *, wait_s: float) -> list[Delivery]:
        """Return the next messages as soon as there are any; none if none came in `wait_s`."""
        with told(f"give {self._stream}"):
            try:
                if self._subscription is None:
                    self._subscription = await self._subscribe()
                found = await self._subscription.fetch(most, timeout=wait_s)
            except (asyncio.TimeoutError, TimeoutError):
                if time.monotonic() - self._heard_s > QUIET_S:
                    await self.close()
                return []
            except BaseException:  # the server has forgotten it: the next call makes another
                await self.close()
                raise
        self._heard_s = time.monotonic()
        # A server that was started again may have forgotten how far it had given.
        deliveries = [one for one in map(delivery_of, found) if one.sequence > self.reached.after]
        if deliveries:
            self.reached = self.mark(deliveries[-1].sequence)
        return deliveries

    async def close(self) -> None:
        """End it; safe to call twice."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(Exception):  # a bus that has gone has forgotten it anyway
                await subscription.unsubscribe()

    async def _subscribe(self) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        self._heard_s = time.monotonic()
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.reached.after + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=READER_S,
        )
        return await self._js.pull_subscribe(f"{self._stream.lower()}.*", stream=self._stream, config=config)


async def open_reader(bus: Bus, stream: str, mark: Mark | None, *, from_now: bool = False) -> Reader:
    """Return what reads EVENTS or JOURNAL behind a mark; without one all that is there, or `from_now` on.

    Raises
    ------
    BusError
        If the bus does not say which stream it has.
    """
    at = await newest(bus, stream)
    if mark is None:
        mark = at if from_now else Mark(at.made, 0)
    return Reader(bus.jetstream, stream, mark if mark.made == at.made else Mark(at.made, 0))


async def newest(bus: Bus, stream: str) -> Mark:
    """Return the mark of a reader that has read all that a stream has.

    Raises
    ------
    BusError
        If the bus does not say it.
    """
    with told(f"give {stream}"):
        info = await bus.jetstream.stream_info(stream)
    return Mark(str(info.created), info.state.last_seq)
