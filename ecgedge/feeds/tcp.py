"""Feed `tcp://HOST:PORT`: EEB frames (firmware_bridge/PROTOCOL.md) from a device over a TCP connection.

The device listens and ecgedge connects. Time is the device's sample index, never the arrival time, so lost
frames are a hole in time and nothing shifts. RESULT frames can go back over the same connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, cast, get_args
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode, check_rate
from ecgedge.errors import FeedError, RecordError
from ecgedge.feeds.base import Chunk, FeedInfo
from ecgedge.feeds.dejitter import Dejitter, Packet
from ecgedge.leads import canonical_lead, order_leads
from ecgedge_bridge import Counters, Data, Decoder

CONNECT_TIMEOUT_S: Final = 5.0
READ_SIZE: Final = 4096
MAX_UNSENT: Final = 2048
"""Bytes of results that may wait for a device that does not read; an old result is worth nothing."""

SPARE: Final = "-"
"""Stands in `leads` for a channel that is no ECG lead; it is not delivered."""

_WELL: Final = ("chunks", "frames", "long_payload", "results_sent")
"""Counters of what went well."""

_EXAMPLE: Final = "tcp://192.168.1.20:5000?leads=I,II,V1&rate_hz=500&lsb_nv=286.1"
_REQUIRED: Final = ("leads", "rate_hz", "lsb_nv")
_OPTIONAL: Final = ("mode", "chunk_ms")


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


@dataclass(frozen=True)
class TcpAddress:
    """A `tcp://` URI, read. `channels` holds one lead name or "-" per channel on the wire."""

    uri: str
    host: str
    port: int
    channels: tuple[str, ...]
    rate_hz: float
    lsb_nv: float
    mode: Mode
    chunk_s: float

    @property
    def leads(self) -> tuple[str, ...]:
        """The leads delivered, in standard order."""
        return order_leads([name for name in self.channels if name != SPARE])


def parse_tcp_uri(uri: str) -> TcpAddress:
    """Read a `tcp://` URI.

    Raises
    ------
    FeedError
        Naming what is missing or wrong, with an example.
    """
    try:
        return _parse(uri)
    except (ValueError, RecordError) as error:
        raise FeedError(
            f"{uri}: {error}. Expected tcp://HOST:PORT?leads=...&rate_hz=...&lsb_nv=... with, if wanted, "
            f"mode=real|test|demo and chunk_ms=...; for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> TcpAddress:
    parts = urlsplit(uri)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError("host and port are not both there")
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a setting stands twice")
    if unknown := values.keys() - {*_REQUIRED, *_OPTIONAL}:
        raise ValueError(f"unknown setting '{min(unknown)}'")
    if missing := [name for name in _REQUIRED if name not in values]:
        raise ValueError(f"'{missing[0]}' is missing")
    mode = values.get("mode", "real")
    if mode not in get_args(Mode):
        raise ValueError(f"mode '{mode}' is not one of {', '.join(get_args(Mode))}")
    address = TcpAddress(
        uri=uri,
        host=parts.hostname,
        port=parts.port,
        channels=tuple(_channel(name) for name in values["leads"].split(",")),
        rate_hz=_positive(values, "rate_hz"),
        lsb_nv=_positive(values, "lsb_nv"),
        mode=cast("Mode", mode),
        chunk_s=_positive({"chunk_ms": "20", **values}, "chunk_ms") / 1e3,
    )
    check_rate(address.rate_hz, source="rate_hz")
    _ = address.leads  # Raises on a repeated lead, or none.
    return address


def _channel(name: str) -> str:
    return SPARE if name.strip() == SPARE else canonical_lead(name)


def _positive(values: dict[str, str], name: str) -> float:
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is '{values[name]}', not a number above 0")
    return number


class FrameReader:
    """Bytes in, chunks out (no I/O)."""

    def __init__(self, address: TcpAddress) -> None:
        self.counters = TcpCounters()
        self._address = address
        self._decoder = Decoder()
        self._order = Dejitter(rate_hz=address.rate_hz, modulus=2**32)
        self._stale, self._t_us = 0, 0
        self._gain_id: int | None = None
        self._rows = np.array([address.channels.index(lead) for lead in address.leads])

    def push(self, received: bytes) -> list[Chunk]:
        """Take bytes in any portions and return the chunks that they complete.

        Raises
        ------
        FeedError
            When the device started anew, or sends simulated samples to a feed that was opened as real.
        """
        chunks: list[Chunk] = []
        for frame in self._decoder.push(received):
            if not isinstance(frame, Data):
                self.counters.not_data += 1
            elif self._is_ours(frame):
                chunks += self._order.push(Packet(self._millivolts(frame), frame.sample_index))
        disorder = self._order.disorder
        self.counters.chunks += len(chunks)
        self.counters.lost_samples = disorder.lost_samples
        self.counters.stale = self._stale + disorder.duplicates + disorder.late
        self.counters.wire = self._decoder.counters
        return chunks

    def _is_ours(self, data: Data) -> bool:
        if data.simulated and self._address.mode == "real":
            raise FeedError(
                f"{self._address.uri}: the device marks its samples as simulated; add mode=demo (or mode=test)"
            )
        if data.n_channels != len(self._address.channels):
            self.counters.wrong_channels += 1
            return False
        if self._gain_id is None:
            self._gain_id = data.gain_id
        if data.gain_id != self._gain_id:
            self.counters.gain_changed += 1
            return False
        if data.t_us < self._t_us and not self._order.is_past(data.sample_index, data.n_samples):
            self._stale += 1  # the count went on, and the clock did not
            return False
        self._t_us = max(self._t_us, data.t_us)
        return True

    def _millivolts(self, data: Data) -> NDArray[np.float32]:
        counts = np.array(data.counts, np.float64).reshape(data.n_samples, data.n_channels).T
        samples_mv = (counts * (self._address.lsb_nv * 1e-6)).astype(np.float32)
        either_off = (data.lead_off | data.lead_off >> 16) & 0xFFFF
        samples_mv[[bool(either_off >> i & 1) for i in range(data.n_channels)]] = np.nan
        return np.ascontiguousarray(samples_mv[self._rows])


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
        a = self._address
        return FeedInfo(
            uri=a.uri, leads=a.leads, rate_hz=a.rate_hz, mode=a.mode, chunk_s=a.chunk_s, live=True
        )

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
