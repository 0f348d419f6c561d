"""The contract of every sink."""

from __future__ import annotations

from typing import Protocol

from ecgedge.events import Event


class Sink(Protocol):
    """Takes events in order."""

    async def send(self, event: Event) -> None:
        """Deliver one event."""
        ...

    async def close(self) -> None:
        """Flush and release; safe to call twice."""
        ...
