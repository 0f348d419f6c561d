"""What a bed hands to the page: its samples as they come, and all that it says."""

from __future__ import annotations

from ecgedge.events import Event
from ecgedge.feeds import Chunk
from ecgedge.monitor.hub import Hub


class PageTap:
    """A bed's way to the hub: a sink of events that takes samples, too. It never waits."""

    def __init__(self, hub: Hub, name: str) -> None:
        hub.add(name)
        self._hub, self._name = hub, name

    def samples(self, chunk: Chunk) -> None:
        """Show samples as they came."""
        self._hub.take_samples(self._name, chunk)

    async def send(self, event: Event) -> None:
        """Show an event."""
        self._hub.take_event(self._name, event)

    async def close(self) -> None:
        """Nothing is held."""
