"""The front end of a ward's bed that shows what the bed says: the sink `bridge`, for as long as its feed is open."""

from __future__ import annotations

from collections.abc import Sequence

from ecgedge.bundle import Bundle
from ecgedge.events import Alarm, Event
from ecgedge.feeds import Feed
from ecgedge.sinks import BridgeSink
from ecgedge.sinks.sdc import Acknowledge


class FrontEnd:
    """A sink whose connection comes and goes; what is said while there is none is not sent later.

    Parameters
    ----------
    bed
        What the bed is called.
    acknowledge
        Has the bed acknowledge what a user acknowledges at the front end.
    """

    def __init__(self, bed: str, acknowledge: Acknowledge) -> None:
        self._bed, self._acknowledge = bed, acknowledge
        self._sink: BridgeSink | None = None

    async def connect(self, feed: Feed, bundle: Bundle, alarms: Sequence[Alarm]) -> None:
        """Answer on this feed from now on, with this bundle's id; `alarms` are what is on or latched.

        Raises
        ------
        UsageError
            If the feed does not speak the bridge protocol.
        """
        self._sink = BridgeSink(feed, bundle, bed=self._bed, acknowledge=self._acknowledge)
        for alarm in alarms:
            await self._sink.send(alarm)

    def disconnect(self) -> None:
        """Answer no more: the feed is closed."""
        self._sink = None

    async def send(self, event: Event) -> None:
        """Send what has a frame, if there is a connection."""
        if self._sink is not None:
            await self._sink.send(event)

    async def close(self) -> None:
        """Nothing to release: the connection is the feed's."""
