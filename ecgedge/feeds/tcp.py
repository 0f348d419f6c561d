"""Feed `tcp://HOST:PORT`: EEB frames (firmware_bridge/PROTOCOL.md) from a device over a TCP connection.

The device listens and ecgedge connects. Time is the device's sample index, never the arrival time, so lost
frames are a hole in time and nothing shifts. RESULT frames can go back over the same connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk, FeedInfo
from ecgedge.feeds.declared import SETTINGS, Declared, from_settings
from ecgedge.feeds.dejitter import Dejitter
from ecgedge.feeds.eeb import MODULUS, DataFrames
from ecgedge_bridge import Counters, Decoder

CONNECT_TIMEOUT_S: Final = 5.0
READ_SIZE: Final = 4096
MAX_UNSENT: Final = 2048
"""Bytes of results that may wait for a device that does not read; an old result is worth nothing."""

_WELL: Final = ("chunks", "frames", "long_payload", "results_sent")
"""Counters of what went well."""

_EXAMPLE: Final = "tcp://192.168.1.20:5000?leads=I,II,V1&rate_hz=500&lsb_nv=286.1"


@dataclass
class TcpCounters:
    """What became of the DATA frames whose bytes were sound; `wire` counts below that.

    Attributes
    ----------
    chunks
        Delivered.
    lost_samples
        Per channel: holes in the sample index, those of dropped frames among them.
    wrong_channels
        Frames dropped: another number of channels than the URI names.
    gain_changed
        Frames dropped: another gain setting than at the start, so `lsb_nv` is not theirs.
    stale
        Frames dropped: their sample index or clock went back.
    not_data
        Frames of a type that a device has no reason to send (RESULT).
    results_sent, results_dropped
        Results handed to the connection, and those dropped because the device does not read.
    wire
        The decoder's counters.
    """

    chunks: int = 0
    lost_samples: int = 0
    wrong_channels: int = 0
    gain_changed: int = 0
    stale: int = 0
    not_data: int = 0
    results_sent: int = 0
    results_dropped: int = 0
    wire: Counters = field(default_factory=Counters)


@dataclass(frozen=True, kw_only=True)
class TcpAddress(Declared):
    """A `tcp://` URI, read."""

    uri: str
    host: str
    port: int


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
            f"{uri}: {error}. Expected tcp://HOST:PORT?leads=...&rate_hz=...&lsb_nv=... with, if wanted, "
            f"mode=real|test|demo, chunk_ms=..., band_hz=LOW,HIGH and calibrated=0|1; for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> TcpAddress:
    parts = urlsplit(uri)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError("host and port are not both there")
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a setting stands twice")
    if unknown := values.keys() - set(SETTINGS):
        raise ValueError(f"unknown setting '{min(unknown)}'")
    declared = from_settings(values)
    return TcpAddress(uri=uri, host=parts.hostname, port=parts.port, **vars(declared))


class FrameReader:
    """Bytes in, chunks out (no I/O)."""

    def __init__(self, address: TcpAddress) -> None:
        self.counters = TcpCounters()
        self._decoder = Decoder()
        self._frames = DataFrames(address, uri=address.uri)
        self._order = Dejitter(rate_hz=address.rate_hz, modulus=MODULUS)

    def push(self, received: bytes) -> list[Chunk]:
        """Take bytes in any portions and return the chunks that they complete.

        Raises
        ------
        FeedError
            When the device started anew, or sends simulated samples to a feed that was opened as real.
        """
        chunks: list[Chunk] = []
        for frame in self._decoder.push(received):
            packet = self._frames.packet(frame)
            if packet is not None:
                chunks += self._order.push(packet)
        self._count(len(chunks))
        return chunks

    def _count(self, n_chunks: int) -> None:
        counters, dropped, disorder = self.counters, self._frames.dropped, self._order.disorder
        counters.chunks += n_chunks
        counters.lost_samples = disorder.lost_samples
        counters.stale = dropped["stale"] + disorder.duplicates + disorder.late
        for name in ("wrong_channels", "gain_changed", "not_data"):
            setattr(counters, name, dropped[name])
        counters.wire = self._decoder.counters


class TcpFeed:
    """An open connection; made by `open_tcp`."""

    def __init__(
        self, address: TcpAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(address)

    @property
    def info(self) -> FeedInfo:
        """What the URI declares; leads in standard order."""
        return self._address.info(self._address.uri)

    @property
    def counters(self) -> TcpCounters:
        """A copy of the counters as they stand."""
        return replace(self._frames.counters)

    @property
    def dropped(self) -> Mapping[str, int]:
        """The counters of what could not be delivered."""
        counted = {**vars(self._frames.counters), **vars(self._frames.counters.wire)}
        return {name: n for name, n in counted.items() if isinstance(n, int) and n and name not in _WELL}

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks until the device closes the connection.

        Raises
        ------
        FeedError
            When the connection breaks or the device starts anew.
        """
        while received := await self._receive():
            for chunk in self._frames.push(received):
                yield chunk

    async def _receive(self) -> bytes:
        try:
            return await self._reader.read(READ_SIZE)
        except OSError as error:
            raise FeedError(
                f"{self._address.uri}: the connection broke ({error}); open the feed again"
            ) from error

    async def send_result(self, result: bytes) -> None:
        """Send a RESULT frame (its wire bytes) to the device; dropped and counted if the device does not read.

        Raises
        ------
        FeedError
            When the connection is closed.
        """
        if self._writer.is_closing():
            raise FeedError(f"{self._address.uri}: the connection is closed; a result cannot be sent")
        if self._writer.transport.get_write_buffer_size() + len(result) > MAX_UNSENT:
            self._frames.counters.results_dropped += 1
            return
        self._writer.write(result)
        self._frames.counters.results_sent += 1

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        # What the device has not read by now must not keep us waiting.
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # The peer was faster; closed is closed.


async def open_tcp(uri: str, *, speed: float) -> TcpFeed:
    """Connect to a device that sends EEB frames.

    Parameters
    ----------
    uri
        `tcp://HOST:PORT?leads=I,II,V1&rate_hz=500&lsb_nv=286.1`: the channels' leads in their order on the wire
        ("-" for a channel that is no lead), samples per second, nanovolts per count; if wanted, `mode` (real, test,
        demo) and `chunk_ms` (usual length of a frame, 20).
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong or nobody answers.
    """
    del speed
    address = parse_tcp_uri(uri)
    try:
        connecting = asyncio.open_connection(address.host, address.port)
        reader, writer = await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
    except (asyncio.TimeoutError, OSError, UnicodeError) as error:
        reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
        raise FeedError(
            f"{uri}: cannot connect ({reason}). Is the device on, does it listen on port {address.port}, "
            "and is the address right?"
        ) from error
    return TcpFeed(address, reader, writer)
