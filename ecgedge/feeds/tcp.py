"""Feed `tcp://HOST:PORT`: the bridge protocol (firmware_bridge/PROTOCOL.md) over a TCP connection.

The device listens and ecgedge connects. Time is the device's sample index, never the arrival time, so lost
frames are a hole in time and nothing shifts. Results, alerts and questions go back over the same connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ecgedge.errors import FeedError
from ecgedge.feeds.declared import Declared, from_settings
from ecgedge.feeds.eeb_config import CONFIG_SETTINGS, Wanted, read_wanted
from ecgedge.feeds.eeb_feed import NEVER, EebFeed, open_eeb
from ecgedge.feeds.eeb_host import DRIFT_PPM, EebHost
from ecgedge.feeds.eeb_info import check_settings, is_whole

CONNECT_TIMEOUT_S: Final = 5.0
READ_SIZE: Final = 4096
SETTINGS_FORM: Final = (
    "leads=..., rate_hz=... and lsb_nv=... (where the device sends no INFO), mode=real|test|demo, chunk_ms=..., "
    "band_hz=LOW,HIGH, calibrated=0|1, drift_ppm=..., and what the device shall be set to: set_rate_hz=..., "
    "set_channels=0,1, set_samples=..., set_format=i16|i24, set_gain_id=..., set_filter=none|diagnostic|monitoring, "
    "set_mode=real|test|demo"
)

_EXAMPLE: Final = "tcp://192.168.1.20:5000 or tcp://192.168.1.20:5000?leads=I,II,V1&rate_hz=500&lsb_nv=286.1"


@dataclass(frozen=True, kw_only=True)
class EebSettings:
    """What a URI says of a device, as `values` as they stand there, and what it wants of it."""

    values: Mapping[str, str]
    drift_ppm: float = DRIFT_PPM
    wanted: Wanted | None = None

    @property
    def declared(self) -> Declared | None:
        """What is known of the device without INFO; None if that is too little."""
        return from_settings(self.values) if is_whole(self.values) else None


def read_settings(query: str, *, own: tuple[str, ...] = ()) -> tuple[EebSettings, dict[str, str]]:
    """Read a URI's query: what it says of the device, and the settings named in `own`.

    Raises
    ------
    ValueError
        Naming what is wrong.
    """
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a setting stands twice")
    others = {name: values.pop(name) for name in own if name in values}
    wanted = read_wanted({name: values.pop(name) for name in CONFIG_SETTINGS if name in values})
    drift = values.pop("drift_ppm", str(DRIFT_PPM))
    check_settings(values)
    try:
        drift_ppm = float(drift)
    except ValueError:
        drift_ppm = 0.0
    if not 0.0 < drift_ppm < 1e6:
        raise ValueError(f"drift_ppm is '{drift}', not a number above 0")
    return EebSettings(values=values, drift_ppm=drift_ppm, wanted=wanted), others


@dataclass(frozen=True, kw_only=True)
class TcpAddress:
    """A `tcp://` URI, read."""

    uri: str
    host: str
    port: int
    settings: EebSettings


def parse_tcp_uri(uri: str) -> TcpAddress:
    """Read a `tcp://` URI.

    Raises
    ------
    FeedError
        Naming what is missing or wrong, with an example.
    """
    try:
        return _parse(uri)
    except ValueError as error:
        raise FeedError(
            f"{uri}: {error}. Expected tcp://HOST:PORT with, if wanted, {SETTINGS_FORM}; for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> TcpAddress:
    parts = urlsplit(uri)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError("host and port are not both there")
    settings, _ = read_settings(parts.query)
    return TcpAddress(uri=uri, host=parts.hostname, port=parts.port, settings=settings)


class TcpLink:
    """A connection's bytes, each way for itself.

    Not asyncio's streams: there a device that hangs up while something is sent to it takes the samples with it that
    have come and were not read yet.
    """

    framed = True

    def __init__(self, uri: str, connection: socket.socket) -> None:
        self._uri, self._socket = uri, connection
        self._unsent = bytearray()
        self._sending: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[bytes] | None = None
        self._closed = asyncio.Event()
        self._deaf = False

    @property
    def unsent(self) -> int:
        """Bytes that wait; of a closed connection more than will ever go."""
        return NEVER if self._deaf or self._closed.is_set() else len(self._unsent)

    async def receive(self) -> bytes | None:
        """Return what came, None at the end; FeedError when the connection breaks."""
        if self._closed.is_set():
            return None
        self._reading = asyncio.create_task(self._receive())
        try:
            return await self._reading or None
        except OSError as error:
            raise FeedError(f"{self._uri}: the connection broke ({error}); open the feed again") from error
        except asyncio.CancelledError:
            if not self._closed.is_set():
                raise
            return None  # closed here
        finally:
            self._reading.cancel()

    async def _receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, READ_SIZE)

    def write(self, message: bytes) -> None:
        """Send, some time."""
        self._unsent += message
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsent:
            piece = bytes(self._unsent)
            try:
                await loop.sock_sendall(self._socket, piece)
            except OSError:
                self._deaf = True  # whoever reads hears of it
                return
            del self._unsent[: len(piece)]

    async def close(self) -> None:
        """Close the connection; safe to call twice. What the device has not read by now does not keep us waiting."""
        if self._closed.is_set():
            return
        self._closed.set()
        tasks = [task for task in (self._reading, self._sending) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            # Who reads or writes leaves first: the number of a closed socket may be the next one's.
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._socket.close()


async def _connect(host: str, port: int) -> socket.socket:
    """Return a connection to the first of a name's addresses that answers."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for family, kind, protocol, _, where in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(0.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(connection, where)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            last = error
        else:
            return connection
    raise last or OSError(f"{host} has no address")


async def open_tcp(uri: str, *, speed: float) -> EebFeed:
    """Connect to a device that speaks the bridge protocol.

    Parameters
    ----------
    uri
        `tcp://HOST:PORT` where the device sends INFO. What it does not say, or all if it sends none, stands in the
        URI: `?leads=I,II,V1&rate_hz=500&lsb_nv=286.1`, the channels' leads in their order on the wire ("-" for a
        channel that is no lead), samples per second, nanovolts per count; if wanted, `mode` (real, test, demo) and
        `chunk_ms` (usual length of a frame, 20). `drift_ppm` is by how much the device's clock may be off.
        `set_rate_hz` and the like are asked of the device (CONFIG), see `eeb_config`.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, nobody answers, or nothing says what the device sends.
    """
    del speed
    address = parse_tcp_uri(uri)
    try:
        connection = await asyncio.wait_for(_connect(address.host, address.port), CONNECT_TIMEOUT_S)
    except (asyncio.TimeoutError, OSError, UnicodeError) as error:
        reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
        raise FeedError(
            f"{uri}: cannot connect ({reason}). Is the device on, does it listen on port {address.port}, "
            "and is the address right?"
        ) from error
    return await open_eeb(TcpLink(uri, connection), host_of(uri, address.settings), uri=uri)


def host_of(uri: str, settings: EebSettings) -> EebHost:
    """Return the host's side of a stream of bytes."""
    return EebHost(
        uri=uri,
        declared=settings.declared,
        settings=settings.values,
        framed=True,
        drift_ppm=settings.drift_ppm,
        wanted=settings.wanted,
    )
