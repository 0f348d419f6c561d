"""What a bed hands to the page: its samples as they come, and all that it says."""

from __future__ import annotations

from ecgedge.events import Event
from ecgedge.feeds import Chunk
from ecgedge.monitor.beds import BedFacts, Health
from ecgedge.monitor.hub import Hub


class PageTap:
    """A bed's way to the hub: a sink of events that takes samples, too. It never waits."""

    def __init__(self, hub: Hub, name: str, health: Health) -> None:
        hub.add(name, health)
        self._hub, self._name = hub, name

    def describe(self, facts: BedFacts) -> None:
        """Tell what the bed's feed has, once it has said so."""
        self._hub.describe(self._name, facts)

    def samples(self, chunk: Chunk) -> None:
        """Show samples as they came."""
        self._hub.take_samples(self._name, chunk)

    async def send(self, event: Event) -> None:
        """Show an event."""
        self._hub.take_event(self._name, event)

    async def close(self) -> None:
        """Leave the bed on the page: what it said last is to be seen."""

    def forget(self) -> None:
        """Take the bed off the page."""
        self._hub.remove(self._name)
