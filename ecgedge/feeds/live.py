"""A live feed over whatever brings packets: order, silence, and what was dropped, for every transport alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk, FeedInfo
from ecgedge.feeds.dejitter import Dejitter, Packet

WAIT_S: Final = 0.5
"""A missing packet is waited for until so much has come after it."""

SILENT_S: Final = 15.0
"""A connection that brings nothing for so long is taken for dead, for no peer tells of a cable that was cut. Whoever
serves opens the feed again; that the bed is without samples is told long before (`feed_lost_s`)."""


class PacketSource(Protocol):
    """A transport: packets as they come. A connection that breaks raises FeedError."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """What came and was no packet, by name."""
        ...

    def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets; the end is the end of the feed."""
        ...

    async def close(self) -> None:
        """Release the connection; safe to call twice."""
        ...


class LiveFeed:
    """Packets of a source, as chunks in their order.

    Parameters
    ----------
    info
        What the device declares.
    source
        Where packets come from; closed with the feed.
    wait_s, modulus
        As in `Dejitter`.
    silent_s
        How long nothing may come.
    """

    def __init__(
        self,
        info: FeedInfo,
        source: PacketSource,
        *,
        wait_s: float = WAIT_S,
        modulus: int | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._info, self._source, self._silent_s = info, source, silent_s
        self._order = Dejitter(rate_hz=info.rate_hz, wait_s=wait_s, modulus=modulus)

    @property
    def info(self) -> FeedInfo:
        """What the device declares."""
        return self._info

    @property
    def dropped(self) -> Mapping[str, int]:
        """What could not be delivered as it came, by name: of the transport, and of `Disorder`."""
        counted = {**self._source.dropped, **vars(self._order.disorder)}
        return {name: n for name, n in counted.items() if n}

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks until the source ends.

        Raises
        ------
        FeedError
            When the connection breaks, nothing has come for `silent_s`, or the device starts anew.
        """
        packets = aiter(self._source)
        while (packet := await self._next(packets)) is not None:
            for chunk in self._order.push(packet):
                yield chunk
        for chunk in self._order.flush():
            yield chunk

    async def _next(self, packets: AsyncIterator[Packet]) -> Packet | None:
        try:
            return await asyncio.wait_for(anext(packets), self._silent_s)
        except StopAsyncIteration:
            return None
        except asyncio.TimeoutError:
            raise FeedError(
                f"{self._info.uri}: nothing has come for {self._silent_s:g} s; is the sender on, and the network? "
                "Open the feed again"
            ) from None

    async def close(self) -> None:
        """Close the source; safe to call twice."""
        await self._source.close()
