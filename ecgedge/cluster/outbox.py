"""What a bed has said, on its way to the bus: in order, none lost, each alarm behind a checkpoint that knows it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ecgedge.cluster.bus import Bus, BusError
from ecgedge.cluster.checkpoint import Message

T = TypeVar("T")

AGAIN_S: Final = 0.2
"""A bus that does not take something is asked again after so long."""


@dataclass
class _Batch:
    checkpoint: bytes | None
    messages: deque[Message]


class Outbox:
    """Writes for one bed, for as long as the bed is this node's.

    Parameters
    ----------
    bed, bus
        Whose, and where to.
    revision
        Of the checkpoint that the first one here must follow; None if there is none.
    """

    def __init__(self, bed: str, bus: Bus, *, revision: int | None) -> None:
        self._bed, self._bus, self._revision = bed, bus, revision
        self._batches: deque[_Batch] = deque()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.trouble: str | None = None

    @property
    def unsent(self) -> tuple[Message, ...]:
        """What is not known to be on the bus."""
        return tuple(message for batch in self._batches for message in batch.messages)

    @property
    def keeping(self) -> bool:
        """Whether a checkpoint waits to be kept."""
        return any(batch.checkpoint is not None for batch in self._batches)

    async def claim(self, checkpoint: bytes) -> None:
        """Keep a checkpoint at once, before anything is written.

        Raises
        ------
        BedTaken
            If there is another than the one that this one must follow.
        """
        self._revision = await self._again(
            lambda: self._bus.keep(self._bed, checkpoint, revision=self._revision)
        )

    def put(self, messages: Sequence[Message], *, checkpoint: bytes | None = None) -> None:
        """Send messages, behind the checkpoint if there is one."""
        self._batches.append(_Batch(checkpoint, deque(messages)))
        self._empty.clear()
        self._more.set()

    async def sent(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    async def write(self) -> None:
        """Write what comes, until cancelled.

        Raises
        ------
        BedTaken
            When another node has kept a checkpoint: nothing more of this bed may be told from here.
        """
        while True:
            await self._more.wait()
            batch = self._batches[0]
            if batch.checkpoint is not None:
                self._revision = await self._again(self._keep)
                batch.checkpoint = None
            while batch.messages:
                await self._again(self._tell)
                batch.messages.popleft()
            self._batches.popleft()
            if not self._batches:
                self._more.clear()
                self._empty.set()

    async def _keep(self) -> int:
        return await self._bus.keep(self._bed, self._batches[0].checkpoint or b"", revision=self._revision)

    async def _tell(self) -> None:
        message = self._batches[0].messages[0]
        if message.to == "journal":
            await self._bus.record(self._bed, message.text.encode())
        else:
            await self._bus.tell(self._bed, message.text.encode(), mode=message.mode)

    async def _again(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                done = await work()
            except BusError as error:
                self.trouble = str(error)
                await asyncio.sleep(AGAIN_S)
            else:
                self.trouble = None
                return done
