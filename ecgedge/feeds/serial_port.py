"""A serial port's bytes in asyncio, each way for itself. Extra `serial` (pyserial).

On POSIX the event loop watches the port's file descriptor; elsewhere threads wait for it. A port that is gone (a cable
pulled out, a converter unplugged) is told once all that had come is read.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from ecgedge.errors import FeedError, missing_extra
from ecgedge.feeds.eeb_feed import NEVER

READ_SIZE: Final = 4096
MAX_UNREAD: Final = 1 << 16
"""Bytes that wait for who reads; then the driver's buffer fills, and the port loses bytes, which the frames show."""

DRAIN_S: Final = 0.005
"""Who waits for all to be sent looks so often."""

POLL_S: Final = 0.1
"""A thread looks so often whether it should end."""


class SerialPort(Protocol):
    """What the feed and the rig need of a port."""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        ...

    async def receive(self) -> bytes | None:
        """Return what came; None once the port is closed here, FeedError when it is gone."""
        ...

    def write(self, message: bytes) -> None:
        """Send, some time."""
        ...

    async def drained(self) -> None:
        """Wait until all is sent, or the port is gone."""
        ...

    async def close(self) -> None:
        """Close; safe to call twice."""
        ...


def import_serial() -> Any:
    """Return the package; UsageError names the extra, if it is not installed."""
    try:
        import serial
    except ImportError as error:
        raise missing_extra(extra="serial", package="pyserial", purpose="a serial port") from error
    return serial


def open_port(device: str, *, baud: int, rtscts: bool, uri: str) -> SerialPort:
    """Open a port, 8 data bits, no parity, one stop bit; nobody else may.

    Raises
    ------
    UsageError
        If pyserial is not installed.
    FeedError
        If there is no such port, it may not be opened, or it cannot be set so.
    """
    serial = import_serial()
    try:
        port = serial.Serial(device, baud, timeout=0, write_timeout=0, rtscts=rtscts, exclusive=True)
    except (serial.SerialException, ValueError, OSError) as error:
        raise FeedError(
            f"{uri}: cannot open the port ({error}). Is the device plugged in, may this user open {device} "
            "(on Linux the group dialout), and does no other program hold it?"
        ) from error
    if os.name == "posix":
        return FdPort(port.fileno(), release=port.close, uri=uri)
    port.timeout = POLL_S
    port.write_timeout = None
    return ThreadPort(port, uri=uri)


class _Inbox:
    """What came and waits to be read, and how it ended."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._unread = bytearray()
        self._gone: str | None = None
        self._closed = False
        self._news = asyncio.Event()

    @property
    def room(self) -> int:
        """For how many bytes there is room."""
        return MAX_UNREAD - len(self._unread)

    @property
    def is_open(self) -> bool:
        """Whether more may come and go."""
        return self._gone is None and not self._closed

    def put(self, received: bytes) -> None:
        """Take what came."""
        self._unread += received
        self._news.set()

    def lose(self, why: str) -> None:
        """Take that the port is gone."""
        self._gone = self._gone or why
        self._news.set()

    def close(self) -> None:
        """Take that nobody wants to hear more."""
        self._closed = True
        self._news.set()

    async def take(self) -> bytes | None:
        """Return what came."""
        while not self._closed:
            if self._unread:
                received = bytes(self._unread)
                self._unread.clear()
                return received
            if self._gone is not None:
                raise FeedError(
                    f"{self._uri}: the port is gone ({self._gone}); was the cable pulled out, or the device "
                    "switched off? Open the feed again"
                )
            self._news.clear()
            await self._news.wait()
        return None


class FdPort:
    """A port by its file descriptor, which does not block."""

    def __init__(self, fd: int, *, release: Callable[[], object], uri: str) -> None:
        self._fd, self._release = fd, release
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox(uri)
        self._unsent = bytearray()
        self._listening = False
        self._listen()

    @property
    def unsent(self) -> int:
        """Bytes that wait; of a port that is gone more than will ever go."""
        return len(self._unsent) if self._inbox.is_open else NEVER

    async def receive(self) -> bytes | None:
        """Return what came; None once the port is closed here, FeedError when it is gone."""
        received = await self._inbox.take()
        if self._inbox.is_open:
            self._listen()
        return received

    def write(self, message: bytes) -> None:
        """Send, some time."""
        if self._inbox.is_open:
            if not self._unsent:
                self._loop.add_writer(self._fd, self._send)
            self._unsent += message

    async def drained(self) -> None:
        """Wait until all is sent, or the port is gone."""
        while self._unsent and self._inbox.is_open:
            await asyncio.sleep(DRAIN_S)

    async def close(self) -> None:
        """Close the port; safe to call twice. What is not sent by now does not keep us waiting."""
        self._inbox.close()
        if self._fd >= 0:
            self._deafen()
            self._fd = -1
            with suppress(OSError):
                self._release()

    def _listen(self) -> None:
        if not self._listening:
            self._loop.add_reader(self._fd, self._read)
            self._listening = True

    def _read(self) -> None:
        try:
            received = os.read(self._fd, min(READ_SIZE, self._inbox.room))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if not received:
            self._lose("it ended")
            return
        self._inbox.put(received)
        if self._inbox.room == 0:
            self._loop.remove_reader(self._fd)
            self._listening = False

    def _send(self) -> None:
        try:
            n = os.write(self._fd, self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        del self._unsent[:n]
        if not self._unsent:
            self._loop.remove_writer(self._fd)

    def _lose(self, why: str) -> None:
        self._inbox.lose(why)
        self._deafen()

    def _deafen(self) -> None:
        self._listening = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)


class ThreadPort:
    """A port that only blocking calls can wait for: a thread reads, another writes."""

    def __init__(self, port: Any, *, uri: str) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox(uri)
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unsent = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    @property
    def unsent(self) -> int:
        """Bytes that wait; of a port that is gone more than will ever go."""
        return self._unsent if self._inbox.is_open else NEVER

    async def receive(self) -> bytes | None:
        """Return what came; None once the port is closed here, FeedError when it is gone."""
        return await self._inbox.take()

    def write(self, message: bytes) -> None:
        """Send, some time."""
        if self._inbox.is_open:
            self._unsent += len(message)
            self._waiting.put(message)

    async def drained(self) -> None:
        """Wait until all is sent, or the port is gone."""
        while self._unsent and self._inbox.is_open:
            await asyncio.sleep(DRAIN_S)

    async def close(self) -> None:
        """Close the port; safe to call twice."""
        self._inbox.close()
        self._stop.set()
        self._waiting.put(None)
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in self._threads))
        with suppress(OSError):
            self._port.close()

    # --- on threads ---

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                # One byte at least, or what waits: read(4096) would wait for all of them.
                received = self._port.read(max(1, min(READ_SIZE, self._port.in_waiting)))
            except (OSError, TypeError) as error:  # pyserial's own are OSErrors; TypeError: closed meanwhile
                self._tell(self._inbox.lose, str(error))
                return
            if received:
                self._tell(self._inbox.put, received)
            while self._inbox.room < READ_SIZE and not self._stop.wait(POLL_S):
                pass

    def _write(self) -> None:
        while (message := self._waiting.get()) is not None and not self._stop.is_set():
            try:
                self._port.write(message)
            except (OSError, TypeError) as error:
                self._tell(self._inbox.lose, str(error))
                return
            self._tell(self._sent, len(message))

    def _sent(self, n: int) -> None:
        self._unsent -= n

    def _tell(self, hear: Callable[[Any], None], what: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody hears any more
            self._loop.call_soon_threadsafe(hear, what)
