"""Plays a feed into a sender."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ecgedge.feeds import Chunk, Feed
from ecgedge.rig.eeb import EebDevice
from ecgedge.rig.faults import FaultyLine


class Sender(Protocol):
    """A transport's sending end: what it makes of chunks, and where it sends that."""

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that carry a chunk."""
        ...

    async def send(self, message: bytes) -> None:
        """Send one; FeedError where nobody takes it any more."""
        ...

    async def close(self) -> None:
        """Say that nothing more comes, and release the connection."""
        ...


@runtime_checkable
class TwoWay(Protocol):
    """A sender whose device hears the host, and can start anew."""

    @property
    def device(self) -> EebDevice:
        """What hears."""
        ...

    def restart(self) -> None:
        """Count everything from the beginning."""
        ...


async def play(feed: Feed, sender: Sender, line: FaultyLine, *, duration_s: float = math.inf) -> int:
    """Play a feed to its end, or for `duration_s` of its time; return how many samples a lead it had."""
    n, begin_s, was_away = 0, None, False
    async for chunk in feed:
        begin_s = chunk.t_s if begin_s is None else begin_s
        if chunk.t_s - begin_s >= duration_s:
            break
        n += chunk.samples_mv.shape[1]
        if line.is_away(chunk):
            was_away = True
            continue
        if was_away and isinstance(sender, TwoWay):
            sender.restart()
        was_away = False
        for message in sender.encode(line.chunk(chunk)):
            await _send(sender, line, line.messages(message))
    await _send(sender, line, line.rest())
    return n


async def _send(sender: Sender, line: FaultyLine, messages: Sequence[bytes]) -> None:
    for message in messages:
        if (delay_s := line.delay_s()) > 0.0:
            await asyncio.sleep(delay_s)
        await sender.send(message)
