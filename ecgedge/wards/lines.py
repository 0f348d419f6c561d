"""A bed's way to those who read the ward's events as lines."""

from __future__ import annotations

from typing import Final

from ecgedge.events import Event, event_to_json
from ecgedge.wards.delivery import Deliveries
from ecgedge.wards.outlet import Outlet

URGENT: Final = ("alarm", "audio", "calibration", "expired")
"""Events that no slow reader may miss: who misses the last shows a number that is too old."""


class BedLines:
    """A sink of one bed: each event a JSON line that begins with the bed's name."""

    def __init__(self, name: str, outlet: Outlet | None, deliveries: Deliveries) -> None:
        self._name, self._head = name, f'{{"bed":"{name}",'
        self._outlet, self._deliveries = outlet, deliveries

    async def send(self, event: Event) -> None:
        """Write an event."""
        if self._outlet is None and not self._deliveries.is_heard:
            return
        line, urgent = event_to_json(event), event.type in URGENT
        if self._outlet is not None:
            self._outlet.put((self._head + line[1:]).encode(), kind=event.type, urgent=urgent)
        self._deliveries.put(self._name, line, event.type, urgent=urgent)

    async def close(self) -> None:
        """Leave the outlet open: it is the ward's."""
