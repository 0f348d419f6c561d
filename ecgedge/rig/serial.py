"""A device at a serial port that speaks the bridge protocol, as `ecgedge.feeds.serial` does. Extra `serial`.

`serial:pty` makes a pseudo-terminal instead, and says its name: a cable between two programs of one machine (POSIX).
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.serial import parse_serial_uri
from ecgedge.feeds.serial_port import FdPort, SerialPort, open_port
from ecgedge.rig.address import options_of
from ecgedge.rig.eeb import EebDevice, device_of
from ecgedge_bridge import to_wire

PTY: Final = "pty"
LOOK_S: Final = 0.02
SETTLE_S: Final = 0.3
"""Whoever opens a port sets it up first, and throws away what had come."""

MOST_UNSENT: Final = 4096
"""A line that is slower than the feed holds it up: no more than this waits."""

SURELY: Final = 5
"""So many looks in turn find nothing unread: the terminal hands on what it holds in pieces."""

LAST_S: Final = 2.0
"""A host has so long to take the last bytes before a pseudo-terminal goes."""


class SerialSender:
    """One port."""

    def __init__(self, port: SerialPort, device: EebDevice, *, pty: str | None = None) -> None:
        self._port, self.device, self._pty = port, device, pty
        self._hearing = asyncio.create_task(self._hear())

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return frames as a byte stream carries them."""
        return [to_wire(frame) for frame in self.device.encode(chunk, now_s=time.monotonic())]

    def restart(self) -> None:
        """Let the device start anew."""
        self.device.restart()

    async def send(self, message: bytes) -> None:
        """Send one; FeedError when the host is gone."""
        if self._hearing.done():
            self._hearing.result()
        self._port.write(message)
        if self._port.unsent > MOST_UNSENT:
            await self._port.drained()

    async def _hear(self) -> None:
        while received := await self._port.receive():
            self.device.push(received, now_s=time.monotonic())

    async def _drained(self) -> None:
        await self._port.drained()
        if self._pty is not None:
            await _read_up(self._pty)

    async def close(self) -> None:
        """Send what waits, and close the port."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drained(), LAST_S)
        self._hearing.cancel()
        with suppress(asyncio.CancelledError, FeedError):
            await self._hearing
        await self._port.close()


async def send_serial(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> SerialSender:
    """Open the port of `serial:DEVICE?baud=921600&lsb_nv=1000`, or make the pseudo-terminal of `serial:pty`."""
    bare, _, query = uri.partition("?")
    known = ("baud", "rtscts")
    options = options_of(uri, query, (*known, "lsb_nv", "info"))
    device = device_of(info, options, uri=uri, say=say)
    line = "&".join(f"{name}={options[name]}" for name in known if name in options)
    address = parse_serial_uri(f"{bare}?{line}" if line else bare)
    if address.device == PTY:
        terminal, name = await _pty(uri, say)
        return SerialSender(terminal, device, pty=name)
    port = open_port(address.device, baud=address.baud, rtscts=address.rtscts, uri=uri)
    say(f"sending to {address.device}, whether somebody listens or not")
    return SerialSender(port, device)


async def _pty(uri: str, say: Callable[[str], None]) -> tuple[FdPort, str]:
    """Make a pseudo-terminal, and wait until a host opens it; return our end, and the name of the other."""
    if os.name != "posix":
        raise FeedError(f"{uri}: pseudo-terminals are of POSIX only; name a port")
    import tty

    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    tty.setraw(theirs)  # nothing is echoed, and no byte has a meaning
    os.close(theirs)
    os.set_blocking(ours, False)
    say(f"waiting for a host: serial:{name}")
    hung_up = select.poll()
    hung_up.register(ours, select.POLLHUP)
    # Until somebody has it open, the other end counts as hung up.
    while hung_up.poll(0):
        await asyncio.sleep(LOOK_S)
    await asyncio.sleep(SETTLE_S)
    return FdPort(ours, release=lambda: os.close(ours), uri=uri), name


async def _read_up(pty: str) -> None:
    """Wait until the host has read all: what it has not goes with the terminal."""
    import fcntl
    import termios

    theirs = os.open(pty, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        empty = 0
        while empty < SURELY:
            await asyncio.sleep(LOOK_S)
            waiting = int.from_bytes(fcntl.ioctl(theirs, termios.FIONREAD, bytes(4)), sys.byteorder)
            empty = 0 if waiting else empty + 1
    finally:
        os.close(theirs)
