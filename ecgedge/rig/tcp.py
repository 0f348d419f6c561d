"""A device that listens for one host and sends it DATA frames, as `ecgedge.feeds.tcp` reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlencode

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import declared_of, positive_setting
from ecgedge.rig.address import parse_address
from ecgedge.rig.play import LSB_NV, FrameWriter
from ecgedge_bridge import to_wire


class TcpSender:
    """One host's connection."""

    def __init__(self, writer: asyncio.StreamWriter, server: asyncio.Server, frames: FrameWriter) -> None:
        self._writer, self._server, self._frames = writer, server, frames

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return DATA frames as a byte stream carries them."""
        return [to_wire(frame) for frame in self._frames.frames(chunk)]

    async def send(self, message: bytes) -> None:
        """Send one; FeedError when the host is gone."""
        try:
            self._writer.write(message)
            await self._writer.drain()
        except OSError as error:
            raise FeedError(f"the host has closed the connection ({error})") from error

    async def close(self) -> None:
        """Close the connection."""
        self._server.close()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def send_tcp(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> TcpSender:
    """Listen on the address of `tcp://HOST:PORT?lsb_nv=1000` (port 0 for any), and wait for a host."""
    form = "tcp://HOST:PORT, and lsb_nv=... if wanted, for example tcp://127.0.0.1:5000"
    address = parse_address(uri, options=("lsb_nv",), form=form)
    declared = declared_of(info, lsb_nv=positive_setting(address.options, "lsb_nv", LSB_NV, uri=uri))
    came: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(writer)

    try:
        server = await asyncio.start_server(greet, address.host, address.port)
    except OSError as error:
        raise FeedError(f"{uri}: cannot listen there: {error.strerror}") from error
    port = server.sockets[0].getsockname()[1]
    settings = urlencode(
        {
            "leads": ",".join(info.leads),
            "rate_hz": f"{info.rate_hz:g}",
            "lsb_nv": f"{declared.lsb_nv:g}",
            "mode": declared.mode,
        },
        safe=",",
    )
    say(f"waiting for a host: tcp://{address.host}:{port}?{settings}")
    return TcpSender(await came.get(), server, FrameWriter(info, declared))
