"""Feed `ws://HOST:PORT/PATH`: samples from a gateway's WebSocket; `wss://` over TLS.

ecgedge connects. Binary messages are frames of the bridge protocol (firmware_bridge/PROTOCOL.md), one each and without
COBS, in both directions; text messages are JSON samples (`ecgedge.feeds.messages`). What the device declares comes
first: as text, or as INFO. The connection is asked every few seconds whether it still stands.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from ecgedge.errors import FeedError
from ecgedge.feeds.declared import Declared
from ecgedge.feeds.eeb_feed import NEVER, EebFeed, open_eeb
from ecgedge.feeds.eeb_host import EebHost
from ecgedge.feeds.eeb_info import settings_of
from ecgedge.feeds.live import WAIT_S
from ecgedge.feeds.messages import MAX_MESSAGE, read_declared

CONNECT_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 4.0

_IN_GOOD_ORDER: Final = (1000, 1001)
"""Close codes: done, and going away (RFC 6455, 7.4.1)."""

_EXAMPLE: Final = "ws://127.0.0.1:9000/bed1"


class WsLink:
    """One WebSocket as a connection of the bridge: each binary message is a frame, text is samples as JSON."""

    framed = False

    def __init__(self, session: ClientSession, socket: Any, uri: str) -> None:
        self._session, self._socket, self._uri = session, socket, uri
        self._waiting: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._closed = self._deaf = False

    @property
    def unsent(self) -> int:
        """Bytes that wait; of a closed connection more than will ever go."""
        return NEVER if self._closed or self._deaf else sum(map(len, self._waiting))

    async def receive(self) -> bytes | str | None:
        """Return the next message, None where the gateway closed in good order; FeedError when the connection broke."""
        message = await self._socket.receive()
        if message.type == WSMsgType.BINARY:
            return bytes(message.data)
        if message.type == WSMsgType.TEXT:
            return str(message.data)
        # Not by the socket's own close code: it is "abnormal" where our answer to a close found the line closed.
        if not self._closed and not (message.type == WSMsgType.CLOSE and message.data in _IN_GOOD_ORDER):
            why = message.data or "without a word"
            raise FeedError(f"{self._uri}: the connection broke ({why}); open the feed again")
        return None

    def write(self, message: bytes) -> None:
        """Send, some time."""
        self._waiting.append(message)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            try:
                await self._socket.send_bytes(self._waiting[0])
            except (OSError, ClientError, RuntimeError):
                self._deaf = True  # whoever reads hears of it
                return
            self._waiting.popleft()

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._closed = True
        if self._sending is not None:
            self._sending.cancel()
        try:
            await self._socket.close()
        finally:
            await self._session.close()


def parse_ws_uri(uri: str) -> tuple[str, ssl.SSLContext | None]:
    """Return the address to connect to, and what TLS trusts: of the query, `ca=FILE` is ours.

    Raises
    ------
    FeedError
        Naming what is missing or wrong.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
        pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
        trusted = ssl.create_default_context(cafile=pairs.pop("ca", None)) if parts.scheme == "wss" else None
    except (ValueError, OSError) as error:
        raise FeedError(f"{uri}: {error}. Expected ws://HOST[:PORT]/PATH, for example {_EXAMPLE}") from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0 or parts.fragment:
        raise FeedError(f"{uri}: expected ws://HOST[:PORT]/PATH or wss://...?ca=FILE, for example {_EXAMPLE}")
    return urlunsplit(parts._replace(query=urlencode(pairs))), trusted


async def open_ws(uri: str, *, speed: float) -> EebFeed:
    """Connect to a gateway, and wait for what the device declares.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, nobody answers, or the first message is text and no declaration, or no INFO comes.
    """
    del speed
    address, trusted = parse_ws_uri(uri)
    session = ClientSession(timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S))
    socket: Any = None
    try:
        tls = True if trusted is None else trusted
        connecting = session.ws_connect(address, ssl=tls, heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE)
        socket = await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
        first = await asyncio.wait_for(socket.receive(), CONNECT_TIMEOUT_S)
        host, early = _host(first, uri)
    except BaseException as error:
        if socket is not None:
            await socket.close()
        await session.close()
        if isinstance(error, (ClientError, OSError, asyncio.TimeoutError)):
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
            raise FeedError(
                f"{uri}: cannot connect ({reason}). Is the gateway on, and the address right?"
            ) from error
        raise
    return await open_eeb(WsLink(session, socket, uri), host, uri=uri, early=early)


def _host(first: Any, uri: str) -> tuple[EebHost, bytes]:
    """Return the host's side by the first message, and what of it is a frame."""
    if first.type == WSMsgType.BINARY:
        return _whole(uri, None), bytes(first.data)
    text = str(first.data).encode() if first.type == WSMsgType.TEXT else b""
    return _whole(uri, read_declared(text, uri=uri)), b""


def _whole(uri: str, declared: Declared | None) -> EebHost:
    return EebHost(
        uri=uri,
        declared=declared,
        settings={} if declared is None else settings_of(declared),
        framed=False,
        wait_s=WAIT_S,
        by="its declaration",
    )
