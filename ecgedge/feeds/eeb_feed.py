"""A connection to a device that speaks the bridge protocol, whatever carries it: serial line, TCP, WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from ecgedge.errors import EcgedgeError, FeedError
from ecgedge.feeds.base import Chunk, FeedInfo
from ecgedge.feeds.eeb_host import EebHost
from ecgedge.feeds.live import SILENT_S
from ecgedge_bridge import Alert, Counters, Frame, Result, pack, to_wire

INFO_WAIT_S: Final = 11.0
"""A device sends INFO every 5 s: so one may be lost."""

MAX_UNSENT: Final = 2048
"""Bytes that may wait in a connection for a device that does not read; the rest waits where the old can still go."""

NEVER: Final = 1 << 30
"""Bytes that wait where nothing can go any more."""

LOOK_S: Final = 0.25
"""How often it is looked whether something is due."""

Acknowledged = Callable[[str, str], Awaitable[None]]
"""Takes a condition and who acknowledged it at the device."""


class EebLink(Protocol):
    """What carries the bytes. `framed`: as a stream; else each message is a decoded frame."""

    @property
    def framed(self) -> bool:
        """Whether bytes come as a stream."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent; a closed connection takes none, and so has no end of them."""
        ...

    async def receive(self) -> bytes | str | None:
        """Return what came, None at the end; FeedError when the connection breaks."""
        ...

    def write(self, message: bytes) -> None:
        """Send, some time."""
        ...

    async def close(self) -> None:
        """Close; safe to call twice."""
        ...


class EebFeed:
    """An open connection; made by `open_eeb`."""

    def __init__(self, link: EebLink, host: EebHost, *, uri: str, silent_s: float = SILENT_S) -> None:
        self._link, self._host, self._uri, self._silent_s = link, host, uri, silent_s
        self._say: Callable[[str], None] | None = None
        self._acknowledge: Acknowledged | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._refused: Counter[str] = Counter()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self._early: list[Chunk] = []

    @property
    def info(self) -> FeedInfo:
        """What the URI, INFO or both declare; leads in standard order."""
        declared = self._host.declared
        if declared is None:
            raise FeedError(f"{self._uri}: the device has not said what it is")
        return declared.info(self._uri)

    @property
    def dropped(self) -> Mapping[str, int]:
        """What came or was to go, and could not be delivered as it was, by name."""
        return {**self._host.losses(), **self._refused}

    @property
    def wire(self) -> Counters:
        """What became of all bytes, by PROTOCOL.md's names."""
        return self._host.counters

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know of the device, as plain JSON types."""
        return self._host.status()

    def tell(self, say: Callable[[str], None]) -> None:
        """Have `say` hear what people should know of the device, from its connection on."""
        self._say = say
        self._tell()

    def acknowledge(self, acknowledge: Acknowledged) -> None:
        """Have `acknowledge` hear what a user acknowledges at the device; UsageError if the bed cannot."""
        self._acknowledge = acknowledge

    def device_index(self, t_s: float) -> int:
        """Return the device's number of the sample at a stream time, below 0 if that was before its last start."""
        return self._host.device_index(t_s)

    # --- out ---

    def send_result(self, result: Result) -> None:
        """Send a result once there is room; a newer one takes its place."""
        self._host.out.result(result)
        self._flush()

    def send_alert(self, alert: Alert) -> None:
        """Send the state of an alarm once there is room, and again every few seconds until its signal is off."""
        self._host.out.alert(alert, now_s=time.monotonic())
        self._flush()

    def _flush(self) -> None:
        if self._closed or self._link.unsent > MAX_UNSENT:
            return
        for frame in self._host.due(now_s=time.monotonic()):
            self._link.write(self._bytes(frame))
            if self._link.unsent > MAX_UNSENT:
                return

    def _bytes(self, frame: Frame) -> bytes:
        return to_wire(frame) if self._link.framed else pack(frame)

    async def _keep(self) -> None:
        """Send what is due, for as long as the feed is open."""
        while True:
            self._flush()
            await asyncio.sleep(LOOK_S)

    # --- in ---

    async def greet(self, wait_s: float) -> None:
        """Wait for INFO, where nothing else says what the device sends, and until it is set as the URI wants it.

        Raises
        ------
        FeedError
            If it is not so in time.
        """
        end_s = time.monotonic() + wait_s
        while self._host.declared is None:
            self._host.check(now_s=time.monotonic())
            left_s = max(0.0, end_s - time.monotonic())
            look_s = min(LOOK_S, left_s) if self._host.config_wait_s else left_s
            try:
                received = await asyncio.wait_for(self._link.receive(), look_s)
            except asyncio.TimeoutError:
                if look_s == left_s:
                    raise FeedError(f"{self._uri}: {self._no_info(wait_s)}") from None
                self._flush()
                continue
            if received is None:
                closed = "the device closed the connection before it said what it is"
                raise FeedError(f"{self._uri}: {self._host.version_trouble() or closed}")
            self.take(received)
            self._flush()

    def take(self, received: bytes | str) -> None:
        """Take what came before anybody iterates; its samples are the first."""
        self._early += self._host.take(received, now_s=time.monotonic())

    def _no_info(self, wait_s: float) -> str:
        trouble = self._host.version_trouble() or self._host.config_trouble()
        if trouble is not None:
            return trouble
        found = self._host.counters
        heard = f"{found.frames} frames of the bridge protocol" if found.frames else "no whole frame"
        return (
            f"the device has sent {heard} and no INFO for {wait_s:g} s; is the sender on? One of version 1.0 sends "
            "none: then name its leads, rate_hz and lsb_nv in the URI"
        )

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks until the device closes the connection.

        Raises
        ------
        FeedError
            When the connection breaks, nothing whole has come for `silent_s`, or the device is not what it was.
        """
        began_s = time.monotonic()
        early, self._early = self._early, []
        for chunk in early:
            yield chunk
        while (received := await self._receive(began_s)) is not None:
            try:
                chunks = self._host.take(received, now_s=time.monotonic())
            finally:
                self._flush()
                self._tell()
            self._ask()
            for chunk in chunks:
                yield chunk
        for chunk in self._host.rest():
            yield chunk

    async def _receive(self, began_s: float) -> bytes | str | None:
        """Return what came next; garbage without end is silence, too."""
        silent_s = time.monotonic() - max(self._host.heard_s or began_s, began_s)
        try:
            return await asyncio.wait_for(self._link.receive(), max(0.0, self._silent_s - silent_s))
        except asyncio.TimeoutError:
            trouble = self._host.version_trouble() or "is the sender on, and the line? Open the feed again"
            raise FeedError(
                f"{self._uri}: nothing whole has come for {self._silent_s:g} s; {trouble}"
            ) from None

    def _tell(self) -> None:
        while self._say is not None and self._host.said:
            self._say(self._host.said.popleft())

    def _ask(self) -> None:
        """Have the bed acknowledge; it may take its time, and samples do not wait for it."""
        while self._host.acks:
            asking = asyncio.create_task(self._asked(*self._host.acks.popleft()))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _asked(self, condition: str, user: str) -> None:
        try:
            if self._acknowledge is None:
                self._refused["unheard_acks"] += 1
            else:
                await self._acknowledge(condition, user)
        except EcgedgeError as error:
            self._refused["refused_acks"] += 1
            self._host.said.append(f"{self._uri}: {user} acknowledged {condition} in vain: {error}")

    def keep(self) -> None:
        """Begin to send what is due."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self._uri}")

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._closed = True
        tasks = [*self._asking, *([] if self._keeper is None else [self._keeper])]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._link.close()


async def open_eeb(
    link: EebLink, host: EebHost, *, uri: str, wait_s: float = INFO_WAIT_S, early: bytes = b""
) -> EebFeed:
    """Return the feed of a connection, once it is known what the device sends; the connection is closed with it.

    `early` has come already.

    Raises
    ------
    FeedError
        When nothing says what the device sends, or INFO contradicts the URI.
    """
    feed = EebFeed(link, host, uri=uri)
    try:
        if early:
            feed.take(early)
        await feed.greet(wait_s + host.config_wait_s)
    except BaseException:
        await feed.close()
        raise
    feed.keep()
    return feed
