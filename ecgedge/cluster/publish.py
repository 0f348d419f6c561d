"""A feed onto the bus: what it delivers is joined into messages, and each is sent until the bus has it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.cluster.bus import REPLAY_S, Bus, BusError
from ecgedge.cluster.message import BedChunk, encode_chunk
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import Chunk, Feed, FeedInfo, open_feed

CHUNK_S: Final = 0.25
"""How long a message is: a bed waits so much longer, and a bus carries so many messages fewer."""

LONGEST_CHUNK_S: Final = 1.0
AGAIN_S: Final = (0.5, 30.0)
"""A lost feed is opened again after the first, then twice as late each time, up to the second."""

WAITING: Final = 8
"""So many messages of a feed that can wait do; of a live feed those of the replay window."""


class Joiner:
    """Chunks that follow each other become messages of one length (no I/O).

    Parameters
    ----------
    info
        Of the feed.
    chunk_s
        How long a message is; one before a hole in time, and the last, may be shorter.
    sequence
        Of the first message.
    """

    def __init__(self, info: FeedInfo, *, chunk_s: float = CHUNK_S, sequence: int = 0) -> None:
        if not 0.0 < chunk_s <= LONGEST_CHUNK_S:
            raise UsageError(f"a message of {chunk_s:g} s: expected above 0 and up to {LONGEST_CHUNK_S:g} s")
        self._info = info
        self._n = max(1, round(chunk_s * info.rate_hz))
        self.sequence = sequence
        self._parts: list[NDArray[np.float32]] = []
        self._fill, self._begin_s = 0, 0.0

    def push(self, chunk: Chunk) -> list[BedChunk]:
        """Take a chunk and return the messages that are whole."""
        due_s = self._begin_s + self._fill / self._info.rate_hz
        follows = self._fill and abs(chunk.t_s - due_s) * self._info.rate_hz < 0.5
        found = [] if follows else self.rest()
        if not follows:
            self._begin_s = chunk.t_s
        self._parts.append(chunk.samples_mv)
        self._fill += chunk.samples_mv.shape[1]
        while self._fill >= self._n:
            found.append(self._cut(self._n))
        return found

    def rest(self) -> list[BedChunk]:
        """Return what is left, if anything."""
        return [self._cut(self._fill)] if self._fill else []

    def _cut(self, n: int) -> BedChunk:
        info, joined = self._info, np.concatenate(self._parts, axis=1)
        made = BedChunk(info.leads, info.rate_hz, info.mode, self._begin_s, self.sequence, joined[:, :n])
        self._parts = [joined[:, n:]]
        self._fill -= n
        self._begin_s += n / info.rate_hz
        self.sequence += 1
        return made


@dataclass
class Published:
    """What became of a feed's messages: `sent` are safe on the bus, `dropped` went while it could not be reached."""

    sent: int = 0
    dropped: int = 0


async def publish_feed(
    bus: Bus,
    bed: str,
    uri: str,
    *,
    chunk_s: float = CHUNK_S,
    replay_s: float = REPLAY_S,
    speed: float = 1.0,
    say: Callable[[str], None],
) -> Published:
    """Play a feed onto the bus to its end; a live one that is lost is opened again, for ever.

    While the bus cannot be reached a recording waits; of a live feed the newest `replay_s` wait, and the oldest go.

    Raises
    ------
    FeedError, RecordError
        If a feed that is not live cannot be opened or read.
    """
    writer = _Writer(bus, bed, say=say)
    writing = asyncio.create_task(writer.write())
    wait_s = AGAIN_S[0]
    try:
        while True:
            before = writer.sequence
            try:
                feed = await open_feed(uri, speed=speed)
                if await _play(feed, writer, chunk_s=chunk_s, replay_s=replay_s):
                    break
                say(f"bed {bed}: the device has closed the connection; trying again")
            except FeedError as error:
                if not uri.startswith(("tcp:", "serial:")):
                    raise
                say(f"bed {bed}: {error}; trying again")
            wait_s = AGAIN_S[0] if writer.sequence > before else min(2.0 * wait_s, AGAIN_S[1])
            await asyncio.sleep(wait_s)
        await writer.sent()
    finally:
        writing.cancel()
    return writer.published


async def _play(feed: Feed, writer: _Writer, *, chunk_s: float, replay_s: float) -> bool:
    """Play one opening of a feed; return whether it has come to an end that is one."""
    info = feed.info
    joiner = Joiner(info, chunk_s=chunk_s, sequence=writer.sequence)
    most = math.ceil(replay_s / chunk_s) if info.live else WAITING
    try:
        async for chunk in feed:
            for made in joiner.push(chunk):
                await writer.put(made, most=most, wait=not info.live)
    finally:
        for made in joiner.rest():
            await writer.put(made, most=most, wait=False)
        await feed.close()
    return not info.live


class _Writer:
    """Messages that wait for the bus, in order."""

    def __init__(self, bus: Bus, bed: str, *, say: Callable[[str], None]) -> None:
        self._bus, self._bed, self._say = bus, bed, say
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._more, self._empty, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._empty.set()
        self.published = Published()
        self.sequence = 0

    async def put(self, chunk: BedChunk, *, most: int, wait: bool) -> None:
        """Add a message; where `most` wait, wait for room or give the oldest up."""
        try:
            message = encode_chunk(chunk)
        except UsageError as error:  # an amplitude that no electrode gives
            self.published.dropped += 1
            self._say(f"bed {self._bed}: {error}; it is dropped")
            return
        finally:
            self.sequence = chunk.sequence + 1
        while wait and len(self._waiting) >= most:
            self._room.clear()
            await self._room.wait()
        while len(self._waiting) > most:
            self._waiting.popleft()
            self.published.dropped += 1
        self._waiting.append((chunk.sequence, message))
        self._empty.clear()
        self._more.set()

    async def sent(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    async def write(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._more.wait()
            number, message = self._waiting[0]
            await self._send(message, number)
            if self._waiting and self._waiting[0][0] == number:  # it may have been given up meanwhile
                self._waiting.popleft()
            self.published.sent += 1
            self._room.set()
            if not self._waiting:
                self._more.clear()
                self._empty.set()

    async def _send(self, message: bytes, number: int) -> None:
        said = False
        while True:
            try:
                await self._bus.publish(self._bed, message, number=number)
            except BusError as error:
                if not said:
                    said = True
                    self._say(f"bed {self._bed}: {error}; trying again")
                await asyncio.sleep(AGAIN_S[0])
            else:
                return
