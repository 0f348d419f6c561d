"""Feed `ws://HOST:PORT/PATH`: samples from a gateway's WebSocket; `wss://` over TLS.

ecgedge connects. The first message is text: what the device declares. Then binary messages are DATA frames, and text
messages JSON samples (`ecgedge.feeds.messages`). The connection is asked every few seconds whether it still stands.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from ecgedge.errors import FeedError
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.eeb import MODULUS
from ecgedge.feeds.live import LiveFeed
from ecgedge.feeds.messages import MAX_MESSAGE, MessageReader, read_declared

CONNECT_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 4.0

_IN_GOOD_ORDER: Final = (1000, 1001)
"""Close codes: done, and going away (RFC 6455, 7.4.1)."""

_EXAMPLE: Final = "ws://127.0.0.1:9000/bed1"


class WsSource:
    """Messages of one WebSocket, as packets."""

    def __init__(self, session: ClientSession, socket: Any, reader: MessageReader, uri: str) -> None:
        self._session, self._socket, self._reader, self._uri = session, socket, reader, uri
        self._closed = False

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages by what was wrong with them."""
        return self._reader.dropped

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets until the gateway closes the connection.

        Raises
        ------
        FeedError
            When the connection breaks, or nobody answers on it any more.
        """
        while (message := await self._socket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
            packet = self._packet(message)
            if packet is not None:
                yield packet
        # Not by the socket's own close code: it is "abnormal" where our answer to a close found the line closed.
        if not self._closed and not (message.type == WSMsgType.CLOSE and message.data in _IN_GOOD_ORDER):
            why = message.data or "without a word"
            raise FeedError(f"{self._uri}: the connection broke ({why}); open the feed again")

    def _packet(self, message: Any) -> Packet | None:
        if message.type == WSMsgType.BINARY:
            return self._reader.binary(message.data, arrived_s=time.monotonic())
        return self._reader.json(message.data.encode(), arrived_s=time.monotonic())

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._closed = True
        await self._socket.close()
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


async def open_ws(uri: str, *, speed: float) -> LiveFeed:
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
        When the URI is wrong, nobody answers, or the first message is no declaration.
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
        declared = read_declared(_bytes(first), uri=uri)
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
    return LiveFeed(
        declared.info(uri), WsSource(session, socket, MessageReader(declared, uri=uri), uri), modulus=MODULUS
    )


def _bytes(message: Any) -> bytes:
    """Return a message's text; nothing for another kind."""
    return str(message.data).encode() if message.type == WSMsgType.TEXT else b""
