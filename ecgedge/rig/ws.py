"""A gateway that listens for one host and speaks with it in messages, as `ecgedge.feeds.ws` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import WSMsgType, web

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.messages import write_declared
from ecgedge.rig.address import parse_address
from ecgedge.rig.eeb import EebDevice, device_of
from ecgedge.rig.writing import MessageWriter
from ecgedge_bridge import pack


class WsSender:
    """One host's WebSocket."""

    def __init__(
        self, runner: web.AppRunner, socket: web.WebSocketResponse, writer: MessageWriter, device: EebDevice
    ) -> None:
        self._runner, self._socket, self._writer = runner, socket, writer
        self.device = device

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that carry a chunk, and before them what the device has to answer."""
        if self._writer.is_json:
            return self._writer.encode(chunk)
        return [pack(frame) for frame in self.device.encode(chunk, now_s=time.monotonic())]

    def restart(self) -> None:
        """Let the device start anew; the connection stays."""
        self.device.restart()

    async def send(self, message: bytes) -> None:
        """Send one; FeedError when the host is gone."""
        try:
            if self._writer.is_json:
                await self._socket.send_str(message.decode("utf-8", "replace"))
            else:
                await self._socket.send_bytes(message)
        except (OSError, RuntimeError) as error:
            raise FeedError(f"the host has closed the connection ({error})") from error

    async def close(self) -> None:
        """Close the connection in good order."""
        await self._socket.close()
        await self._runner.cleanup()


async def send_ws(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> WsSender:
    """Listen on the address of `ws://HOST:PORT/PATH?format=binary&lsb_nv=1000` (port 0 for any); wait for a host."""
    form = "ws://HOST:PORT/PATH, and format, lsb_nv, info if wanted"
    address = parse_address(uri, options=("format", "lsb_nv", "info"), form=form)
    kind, path = address.options.get("format", "binary"), address.path or "/"
    device = device_of(info, address.options, uri=uri, say=say)
    writer = MessageWriter(info, device.declared, kind=kind, uri=uri)
    came: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()

    async def greet(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(write_declared(device.declared).decode())
        came.put_nowait(socket)
        async for message in socket:  # this answers its pings, too
            if message.type == WSMsgType.BINARY:
                device.message(message.data, now_s=time.monotonic())
        return socket

    app = web.Application()
    app.router.add_get(path, greet)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, address.host, address.port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise FeedError(f"{uri}: cannot listen there: {error.strerror}") from error
    port = runner.addresses[0][1]
    say(f"waiting for a host: ws://{address.host}:{port}{path}")
    return WsSender(runner, await came.get(), writer, device)
