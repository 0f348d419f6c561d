"""A device that listens for one host and speaks the bridge protocol with it, as `ecgedge.feeds.tcp` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.rig.address import parse_address
from ecgedge.rig.eeb import EebDevice, device_of
from ecgedge_bridge import to_wire

HANG_UP_S: Final = 5.0
"""A host that does not hang up, once it knows that nothing more comes, is waited for so long."""


class TcpSender:
    """One host's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.Server,
        device: EebDevice,
    ) -> None:
        self._reader, self._writer, self._server = reader, writer, server
        self.device = device
        self._hearing = asyncio.create_task(self._hear())

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return frames as a byte stream carries them."""
        return [to_wire(frame) for frame in self.device.encode(chunk, now_s=time.monotonic())]

    def restart(self) -> None:
        """Let the device start anew; the connection stays."""
        self.device.restart()

    async def send(self, message: bytes) -> None:
        """Send one; FeedError when the host is gone."""
        try:
            self._writer.write(message)
            await self._writer.drain()
        except OSError as error:
            raise FeedError(f"the host has closed the connection ({error})") from error

    async def _hear(self) -> None:
        with suppress(OSError):  # who sends is told
            while received := await self._reader.read(4096):
                self.device.push(received, now_s=time.monotonic())

    async def close(self) -> None:
        """Say that nothing more comes, and close the connection once the host has."""
        self._server.close()
        with suppress(OSError):
            self._writer.write_eof()
            # A connection that is closed with something unread takes with it what the host has not read yet.
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._hearing), HANG_UP_S)
        self._hearing.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def send_tcp(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> TcpSender:
    """Listen on the address of `tcp://HOST:PORT?lsb_nv=1000` (port 0 for any), and wait for a host."""
    form = "tcp://HOST:PORT, and lsb_nv=..., info=0 if wanted, for example tcp://127.0.0.1:5000"
    address = parse_address(uri, options=("lsb_nv", "info"), form=form)
    device = device_of(info, address.options, uri=uri, say=say)
    came: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait((reader, writer))

    try:
        server = await asyncio.start_server(greet, address.host, address.port)
    except OSError as error:
        raise FeedError(f"{uri}: cannot listen there: {error.strerror}") from error
    port = server.sockets[0].getsockname()[1]
    say(f"waiting for a host: tcp://{address.host}:{port}")
    reader, writer = await came.get()
    return TcpSender(reader, writer, server, device)
