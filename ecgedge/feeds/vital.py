"""Feed `vital://HOST:PORT?vr=CODE`: ECG that VitalDB's Vital Recorder sends here over Socket.IO. Extra `vital`.

ecgedge listens, as Vital Recorder's servers do; a recorder joins with its code (`join_vr`) and sends all its beds each
second (`send_data`, `ecgedge.feeds.vital_hl7`). One feed is one bed of one recorder: what others send is counted and
never mixed in. Nothing proves who a recorder is: listen on a network that you trust.

    vital://0.0.0.0:9100?vr=OR1&bed=BED-1&device=Intellivue&leads=ECG1:II,ECG2:V5&unit=mV
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import web

from ecgedge.errors import FeedError, missing_extra
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.live import LiveFeed
from ecgedge.feeds.mllp import info_of
from ecgedge.feeds.vital_hl7 import MAX_COMPRESSED, BedMessages, Selection
from ecgedge.hl7 import Waveforms
from ecgedge.leads import canonical_lead, order_leads
from ecgedge.query import read_query

FIRST_S: Final = 60.0
"""How long a feed waits for its first ECG."""

PING_S: Final = 5.0
"""How often a recorder is asked whether it is there, and how long its answer may take."""

MOST_QUEUED: Final = 64
"""Packets that wait for who reads them; what comes then is dropped and counted."""

_UNITS: Final = ("V", "mV", "uV", "nV")
_BAD_PACKET: Final = "bad_packet"
_NOT_SOUND: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_KNOWN: Final = ("vr", "bed", "device", "leads", "unit")
_EXAMPLE: Final = "vital://0.0.0.0:9100?vr=OR1&bed=BED-1"

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class VitalAddress:
    """A `vital://` URI, read."""

    uri: str
    host: str
    port: int
    selection: Selection


def parse_vital_uri(uri: str) -> VitalAddress:
    """Read a `vital://` URI; FeedError says what is missing or wrong."""
    try:
        return _parse(uri)
    except ValueError as error:
        raise FeedError(
            f"{uri}: {error}. Expected vital://HOST:PORT?vr=CODE to listen on, for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> VitalAddress:
    parts = urlsplit(uri)
    if parts.scheme != "vital" or not parts.hostname or parts.port is None:
        raise ValueError("host and port are not both there")
    options = read_query(parts.query, _KNOWN)
    if not options.get("vr"):
        raise ValueError("vr, the recorder's code, is missing")
    unit = options.get("unit")
    if unit is not None and unit not in _UNITS:
        raise ValueError(f"the unit '{unit}' is none of {', '.join(_UNITS)}")
    selection = Selection(
        vr=options["vr"],
        bed=options.get("bed"),
        device=options.get("device"),
        leads=_leads(options.get("leads", "")),
        unit=unit,
    )
    return VitalAddress(uri, parts.hostname, parts.port, selection)


def _leads(text: str) -> dict[str, str]:
    """Read TRACK:LEAD,TRACK:LEAD."""
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        track, mark, lead = pair.rpartition(":")
        if not mark or not track or track in found:
            raise ValueError(f"leads has '{pair}'; expected each track once, as in leads=ECG1:II,ECG2:V5")
        found[track] = canonical_lead(lead)
    if found:
        order_leads(list(found.values()))  # raises on a lead that two tracks are said to be
    return found


def import_socketio() -> ModuleType:
    """Return the package; UsageError names the extra."""
    try:
        import socketio
    except ImportError as error:
        raise missing_extra(extra="vital", package="python-socketio", purpose="Vital Recorder") from error
    module: ModuleType = socketio
    return module


class VitalSource:
    """A Socket.IO server, and packets of one recorder's bed out of what comes to it."""

    def __init__(self, address: VitalAddress) -> None:
        self._address = address
        self._messages = BedMessages(address.selection)
        self._queue: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._counters: Counter[str] = Counter()
        self._codes: dict[str, str] = {}
        self._ours: str | None = None
        self._runner: web.AppRunner | None = None
        self._server: Any = None
        self._first: asyncio.Event = asyncio.Event()

    @property
    def dropped(self) -> Mapping[str, int]:
        """As `BedMessages.dropped`, and what is told before: who sends, and whether it is Socket.IO.

        Also `other_connection` (a second one with our code), `unknown_event`, `bad_packet` (no Socket.IO),
        `broken_connections` (not even Engine.IO), `overrun` (more than `MOST_QUEUED` packets waited).
        """
        return Counter(self._messages.dropped) + self._counters

    @property
    def unknown(self) -> tuple[str, ...]:
        """Tracks with an ECG that names no lead."""
        return tuple(self._messages.unknown)

    async def listen(self) -> None:
        """Begin to listen; OSError where that cannot be."""
        socketio = import_socketio()
        # One event after the other: what a recorder sends must stay in its order.
        server = socketio.AsyncServer(
            async_mode="aiohttp",
            async_handlers=False,
            max_http_buffer_size=MAX_COMPRESSED,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            serializer=_careful_packets(socketio),
        )
        server.on("join_vr", self._join)
        server.on("send_data", self._take)
        server.on("disconnect", self._leave)
        server.on(_BAD_PACKET, self._bad_packet)
        server.on("*", self._other_event)

        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard])
        server.attach(app)
        self._server, self._runner = server, web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address.host, self._address.port).start()

    async def first(self) -> Waveforms:
        """Wait for the first ECG; its samples stay to be read."""
        await self._first.wait()
        if self._messages.first is None:
            raise FeedError(f"{self._address.uri}: the feed was closed")
        return self._messages.first

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets for as long as the recorder stays.

        Raises
        ------
        FeedError
            When the recorder has gone.
        """
        while (packet := await self._queue.get()) is not None:
            yield packet
        raise FeedError(
            f"{self._address.uri}: the recorder {self._address.selection.vr} has disconnected; open the feed again"
        )

    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Close a connection that brings no Engine.IO; the package leaves such errors to whoever serves."""
        try:
            return await handler(request)
        except _NOT_SOUND:
            self._counters["broken_connections"] += 1
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=400)

    async def _join(self, sid: str, *said: object) -> None:
        self._codes[sid] = str(said[0])[:64] if said else ""

    async def _leave(self, sid: str, *_: object) -> None:
        self._codes.pop(sid, None)
        if sid == self._ours:
            self._queue.put_nowait(None)

    async def _other_event(self, *_: object) -> None:
        self._counters["unknown_event"] += 1

    async def _bad_packet(self, *_: object) -> None:
        self._counters[_BAD_PACKET] += 1

    async def _take(self, sid: str, *said: object) -> None:
        if self._codes.get(sid) != self._address.selection.vr:
            self._counters["other_recorder"] += 1
        elif self._ours not in (None, sid):
            self._counters["other_connection"] += 1
        elif not said or not isinstance(said[0], bytes):
            self._counters["bad_gzip"] += 1
        else:
            self._deliver(sid, self._messages.take(said[0], arrived_s=time.monotonic()))

    def _deliver(self, sid: str, packets: list[Packet]) -> None:
        for packet in packets:
            self._ours = sid
            if self._queue.qsize() < MOST_QUEUED:
                self._queue.put_nowait(packet)
            else:
                self._counters["overrun"] += 1
            self._first.set()

    async def close(self) -> None:
        """Listen no more, and close all connections; safe to call twice."""
        server, runner, self._server, self._runner = self._server, self._runner, None, None
        if server is None or runner is None:
            return
        self._ours = None
        for connection in tuple(server.eio.sockets.values()):
            await connection.close(
                wait=False
            )  # waiting, it would wait for ever for who asks no more (long polling)
        await server.shutdown()
        await runner.cleanup()


def _careful_packets(socketio: ModuleType) -> type[Any]:
    """Return the package's packets, but what is none becomes an event of its own, to be counted; nothing raises.

    One attachment at most, as a recorder sends it: a peer could announce thousands, and all would be kept.
    """
    kinds = socketio.packet

    class CarefulPacket(kinds.Packet):  # type: ignore[misc,name-defined]  # the package has no types
        def decode(self, encoded_packet: str) -> int:
            try:
                count = int(super().decode(encoded_packet) or 0)
                is_sound = _is_sound(kinds, self, count)
            except _NOT_SOUND:
                is_sound = False
            if is_sound:
                return count
            self.packet_type, self.namespace, self.id, self.data = kinds.EVENT, "/", None, [_BAD_PACKET]
            return 0

        def add_attachment(self, attachment: bytes) -> bool:
            try:
                return bool(super().add_attachment(attachment))
            except _NOT_SOUND:
                self.id, self.data = None, [_BAD_PACKET]
                return True

    return CarefulPacket


def _is_sound(kinds: ModuleType, packet: Any, count: int) -> bool:
    """Tell whether a packet with so many attachments is one that a recorder sends."""
    if packet.namespace not in (None, "/"):
        return False
    if packet.packet_type in (kinds.CONNECT, kinds.DISCONNECT):
        return count == 0
    data = packet.data
    is_event = isinstance(data, list) and len(data) > 0 and isinstance(data[0], str)
    return is_event and packet.packet_type == {0: kinds.EVENT, 1: kinds.BINARY_EVENT}.get(count)


async def open_vital(uri: str, *, speed: float) -> LiveFeed:
    """Listen, and wait for the first ECG, which tells leads and rate.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a recorder keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, nobody may listen there, or no ECG comes within `FIRST_S`.
    UsageError
        Without the extra `vital`.
    """
    del speed
    address = parse_vital_uri(uri)
    source = VitalSource(address)
    try:
        await source.listen()
        first = await asyncio.wait_for(source.first(), FIRST_S)
    except (OSError, asyncio.TimeoutError) as error:
        await source.close()
        raise _not_opened(uri, source, error) from error
    except BaseException:
        await source.close()
        raise
    return LiveFeed(info_of(first, uri), source, wait_s=0.0)


def _not_opened(uri: str, source: VitalSource, error: Exception) -> FeedError:
    if not isinstance(error, asyncio.TimeoutError):
        return FeedError(f"{uri}: cannot listen there: {error}; give an address of this machine")
    came = ", ".join(f"{name} {n}" for name, n in source.dropped.items()) or "nothing at all"
    unknown = (
        f"; tracks without a lead, for leads=TRACK:LEAD: {', '.join(source.unknown)}"
        if source.unknown
        else ""
    )
    return FeedError(
        f"{uri}: no ECG of this recorder has come within {FIRST_S:g} s (came: {came}{unknown}); is this address the "
        "server in Vital Recorder's settings, and the code its own?"
    )
