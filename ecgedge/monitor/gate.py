"""The door of the page: who connects is counted before a byte is read, and who dawdles is shown out.

Each connection is a socket that the streams of beds and journals need as well, so there are at most so many, in all and
from one address, TLS handshakes among them; and who does not ask within a time is cut off (slowloris).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from ecgedge.errors import UsageError
from ecgedge.monitor.rates import network_of

TLS_S: Final = 5.0
"""A TLS handshake may take so long."""

BACKLOG: Final = 256

Fault = Literal["too_many", "too_many_of_address", "slow_request", "long_connection", "no_tls"]


@dataclass(frozen=True)
class Limits:
    """Of connections.

    Attributes
    ----------
    most, most_of_address
        At a time, in all and from one address.
    request_s
        From the first byte (or the connection) until a request is whole.
    connection_s
        That a connection which is no WebSocket may last.
    """

    most: int = 128
    most_of_address: int = 32
    request_s: float = 10.0
    connection_s: float = 60.0


class Guarded(asyncio.Protocol):
    """Hands on what a connection brings to the HTTP protocol behind it, and keeps the times."""

    def __init__(self, inner: asyncio.Protocol, gate: Gate, address: str) -> None:
        self._inner, self._gate, self.address = inner, gate, address
        self.transport: asyncio.Transport | None = None
        self._deadlines: dict[Fault, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin both times."""
        if isinstance(transport, asyncio.Transport):
            self.transport = transport
            self._gate.by_transport[transport] = self
        self._start("slow_request", self._gate.limits.request_s)
        self._start("long_connection", self._gate.limits.connection_s)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on bytes; the first of a request begin its time."""
        if "long_connection" in self._deadlines:
            self._start("slow_request", self._gate.limits.request_s)
        self._inner.data_received(data)

    def asked(self) -> None:
        """Take that a request is whole."""
        self._cancel("slow_request")

    def upgraded(self) -> None:
        """Take that this is a WebSocket from now on, which lasts as long as it likes."""
        self._cancel("slow_request")
        self._cancel("long_connection")

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool | None:
        """Hand on the end."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the peer is slow."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the peer has caught up."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        for fault in list(self._deadlines):
            self._cancel(fault)
        if self.transport is not None:
            self._gate.by_transport.pop(self.transport, None)
        self._inner.connection_lost(exc)

    def _start(self, fault: Fault, after_s: float) -> None:
        if fault not in self._deadlines:
            loop = asyncio.get_running_loop()
            self._deadlines[fault] = loop.call_later(after_s, self._late, fault)

    def _cancel(self, fault: Fault) -> None:
        deadline = self._deadlines.pop(fault, None)
        if deadline is not None:
            deadline.cancel()

    def _late(self, fault: Fault) -> None:
        self._deadlines.pop(fault, None)
        self._gate.refused[fault] += 1
        self.abort()


class Gate:
    """Takes connections and counts those that it refuses by why.

    Parameters
    ----------
    make
        Makes the HTTP protocol of a connection.
    limits
        How many, and how long.
    tls
        None: plain.
    """

    def __init__(
        self, make: Callable[[], asyncio.Protocol], *, limits: Limits, tls: ssl.SSLContext | None
    ) -> None:
        self._make, self.limits, self._tls = make, limits, tls
        self.refused: Counter[Fault] = Counter()
        self.by_transport: dict[asyncio.BaseTransport, Guarded] = {}
        self._held: dict[socket.socket, str] = {}
        self._of_address: Counter[str] = Counter()
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address, with the port that the system chose for 0.

        Raises
        ------
        UsageError
            If the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, proto, _, address = found[0]
            listener = socket.socket(family, kind, proto)
            self._listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.settimeout(0.0)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            await self.close()
            raise UsageError(
                f"the page cannot listen on {host}:{port}: {error.strerror or error}; give it another port"
            ) from error
        self._keep(asyncio.create_task(self._accept(listener), name="page"))
        name = listener.getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Take no more connections, and cut those that are there; safe to call twice."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for guarded in list(self.by_transport.values()):
            guarded.abort()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError:  # the peer has gone again, or there are no sockets left
                await asyncio.sleep(0.1)
                continue
            address = network_of(str(peer[0]))
            fault = self._fault(address)
            if fault is None:
                self._hold(connection, address)
                self._keep(asyncio.create_task(self._serve(connection, address)))
            else:
                self.refused[fault] += 1
                _hang_up(connection)
            # A flood of connections takes turns with the beds.
            await asyncio.sleep(0)

    def _fault(self, address: str) -> Fault | None:
        if len(self._held) >= self.limits.most:
            return "too_many"
        if self._of_address[address] >= self.limits.most_of_address:
            return "too_many_of_address"
        return None

    async def _serve(self, connection: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        wait_s = {} if self._tls is None else {"ssl_handshake_timeout": TLS_S}
        over: asyncio.Future[None] = loop.create_future()

        def make() -> asyncio.Protocol:
            return _Ending(self._make(), self, address, over)

        try:
            connection.settimeout(0.0)
            await loop.connect_accepted_socket(make, connection, ssl=self._tls, **wait_s)
            await over
        except (OSError, asyncio.TimeoutError):  # ssl.SSLError is an OSError
            self.refused["no_tls"] += 1
        finally:
            self._release(connection, address)

    def _hold(self, connection: socket.socket, address: str) -> None:
        self._held[connection] = address
        self._of_address[address] += 1

    def _release(self, connection: socket.socket, address: str) -> None:
        self._held.pop(connection, None)
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Ending(Guarded):
    """Tells when its connection is over."""

    def __init__(self, inner: asyncio.Protocol, gate: Gate, address: str, over: asyncio.Future[None]) -> None:
        super().__init__(inner, gate, address)
        self._over = over

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._over.done():
            self._over.set_result(None)


def _hang_up(connection: socket.socket) -> None:
    """Close at once: a refused connection leaves nothing behind here."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
