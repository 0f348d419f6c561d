"""Feed `mqtt://HOST:PORT/TOPIC`: samples from an MQTT v5 broker; `mqtts://` over TLS. Needs the extra `mqtt`.

Below TOPIC: `info` (retained: what the device declares), `data` (binary messages), `json` (JSON messages), `status`
(retained: "online"; the device's last will sets "offline"). The messages are those of `ecgedge.feeds.messages`.
A password stands in the environment variable ECGEDGE_MQTT_PASSWORD, never in the URI.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ecgedge.errors import FeedError, missing_extra
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.eeb import MODULUS
from ecgedge.feeds.live import LiveFeed
from ecgedge.feeds.messages import MessageReader, read_declared
from ecgedge.query import read_query

VARIABLE: Final = "ECGEDGE_MQTT_PASSWORD"
CONNECT_TIMEOUT_S: Final = 5.0
MOST_QUEUED: Final = 1000
"""Messages that wait for who reads them; what comes then is dropped by the client."""

ONLINE, OFFLINE = b"online", b"offline"
_OPTIONS: Final = ("qos", "ca")
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class MqttAddress:
    """An `mqtt://` URI, read. `tls` is what the connection is wrapped in; `options` are those asked for by name."""

    uri: str
    host: str
    port: int
    topic: str
    user: str | None
    qos: int
    tls: ssl.SSLContext | None
    options: Mapping[str, str]


def parse_mqtt_uri(uri: str, *, more: tuple[str, ...] = ()) -> MqttAddress:
    """Read an MQTT URI, with `more` options than `qos` and `ca` (a file of the broker's certificate authority).

    Raises
    ------
    FeedError
        Naming what is missing or wrong.
    """
    try:
        return _parse(uri, (*_OPTIONS, *more))
    except ValueError as error:
        raise FeedError(
            f"{uri}: {error}. Expected mqtt://[USER@]HOST[:PORT]/TOPIC?qos=0 or mqtts://...?ca=FILE, for example "
            f"mqtt://127.0.0.1:1883/ward/bed1 (a password in the environment: {VARIABLE})"
        ) from error


def _parse(uri: str, known: tuple[str, ...]) -> MqttAddress:
    parts = urlsplit(uri)
    topic = unquote(parts.path.lstrip("/"))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the host is missing")
    if not topic or any(sign in topic for sign in "+#\0") or topic.endswith("/"):
        raise ValueError("a topic without + and # is missing")
    if parts.password is not None:
        raise ValueError("a password in a URI ends up in logs")
    options = read_query(parts.query, known)
    qos = options.pop("qos", "0")
    if qos not in ("0", "1"):
        raise ValueError(f"qos is '{qos}', neither 0 nor 1")
    port = parts.port or _PORTS[parts.scheme]
    user = None if parts.username is None else unquote(parts.username)
    tls = _tls(parts.scheme, options.pop("ca", None))
    return MqttAddress(uri, parts.hostname, port, topic, user, int(qos), tls, options)


def _tls(scheme: str, ca: str | None) -> ssl.SSLContext | None:
    if scheme == "mqtt":
        if ca is not None:
            raise ValueError("ca is for mqtts://")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"the certificate authority {ca} cannot be read: {error}") from error
    context.sslsocket_class = _SslSocket
    return context


class _SslSocket(ssl.SSLSocket):
    """Is closed where the handshake fails: Paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise


def import_aiomqtt() -> ModuleType:
    """Return the package; UsageError names the extra."""
    try:
        import aiomqtt
    except ImportError as error:
        raise missing_extra(extra="mqtt", package="aiomqtt", purpose="MQTT") from error
    return aiomqtt


async def connect(address: MqttAddress, **more: Any) -> Any:
    """Return a client that is connected.

    Raises
    ------
    FeedError
        If the broker does not answer, or refuses.
    """
    aiomqtt = import_aiomqtt()
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=address.user,
        password=os.environ.get(VARIABLE),
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=address.tls,
        timeout=CONNECT_TIMEOUT_S,
        keepalive=10,
        **more,
    )
    try:
        await asyncio.wait_for(client.__aenter__(), CONNECT_TIMEOUT_S)
    except (aiomqtt.MqttError, asyncio.TimeoutError, OSError) as error:
        reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
        raise FeedError(
            f"{address.uri}: cannot connect ({reason}). Is the broker on, does it listen on port {address.port}, and "
            "does it know us (user, password, certificate)?"
        ) from error
    return client


class MqttSource:
    """Messages of one device out of a broker, as packets."""

    def __init__(self, client: Any, address: MqttAddress, reader: MessageReader, info: bytes) -> None:
        self._client, self._address, self._reader, self._info = client, address, reader, info
        self._more: Counter[str] = Counter()

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages by what was wrong with them; `other_topic` are those that mean nothing here."""
        return {**self._reader.dropped, **self._more}

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets.

        Raises
        ------
        FeedError
            When the broker is gone, the device is (its last will), or it declares something else.
        """
        mqtt_error = import_aiomqtt().MqttError
        try:
            async for message in self._client.messages:
                packet = self._packet(str(message.topic), bytes(message.payload or b""))
                if packet is not None:
                    yield packet
        except mqtt_error as error:
            raise FeedError(
                f"{self._address.uri}: the broker is gone ({error}); open the feed again"
            ) from error

    def _packet(self, topic: str, payload: bytes) -> Packet | None:
        kind = topic.removeprefix(self._address.topic + "/")
        if kind == "data":
            return self._reader.binary(payload, arrived_s=time.monotonic())
        if kind == "json":
            return self._reader.json(payload, arrived_s=time.monotonic())
        if kind == "status":
            if payload == OFFLINE:
                raise FeedError(f"{self._address.uri}: the device is gone, as its last will says")
        elif kind == "info":
            if payload != self._info:
                raise FeedError(
                    f"{self._address.uri}: the device declares something else now; open the feed again"
                )
        else:
            self._more["other_topic"] += 1
        return None

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        client, self._client = self._client, _Closed()
        with suppress(import_aiomqtt().MqttError, asyncio.TimeoutError, OSError):
            await client.__aexit__(None, None, None)


class _Closed:
    """Stands where a client was: it brings nothing, and closes as often as asked."""

    @property
    def messages(self) -> AsyncIterator[Any]:
        return self._nothing()

    async def _nothing(self) -> AsyncIterator[Any]:
        return
        yield

    async def __aexit__(self, *_: object) -> None:
        return None


async def open_mqtt(uri: str, *, speed: float) -> LiveFeed:
    """Connect to a broker, and wait for what the device declares of itself.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, the broker does not answer, or holds nothing of such a device.
    UsageError
        If aiomqtt is not installed.
    """
    del speed
    address = parse_mqtt_uri(uri)
    client = await connect(address, max_queued_incoming_messages=MOST_QUEUED)
    try:
        # All at once: of a device that begins after us, nothing is missed.
        await client.subscribe([(f"{address.topic}/{kind}", qos) for kind, qos in _topics(address).items()])
        info = await asyncio.wait_for(_info(client, address), CONNECT_TIMEOUT_S)
        declared = read_declared(info, uri=uri)
    except BaseException as error:
        await client.__aexit__(None, None, None)
        if isinstance(error, (asyncio.TimeoutError, import_aiomqtt().MqttError)):
            raise FeedError(
                f"{uri}: the broker has no {address.topic}/info within {CONNECT_TIMEOUT_S:g} s; is the device on, and "
                "does it retain what it declares?"
            ) from error
        raise
    source = MqttSource(client, address, MessageReader(declared, uri=uri), info)
    return LiveFeed(declared.info(uri), source, modulus=MODULUS)


def _topics(address: MqttAddress) -> dict[str, int]:
    """Return what is listened to below the topic, with its quality of service."""
    return {"info": 1, "status": 1, "data": address.qos, "json": address.qos}


async def _info(client: Any, address: MqttAddress) -> bytes:
    async for message in client.messages:
        if str(message.topic) == f"{address.topic}/info" and message.payload:
            return bytes(message.payload)
    raise FeedError(f"{address.uri}: the broker is gone; open the feed again")
