"""Feed `mllp://HOST:PORT`: HL7 v2 waveforms (ORU^R01) that a monitor or a gateway sends here.

Over TLS it is `mllps://HOST:PORT?cert=FILE&key=FILE`; with `clients=FILE`, an authority, only from those it has signed.

ecgedge listens, as receivers of HL7 do; each message is acknowledged (AA; AE where it cannot be used). One feed is one
patient: a gateway may send several on one connection, so the feed takes the patient that the URI names
(`?patient=ID`, PID-3), or else the first that comes, and never another: those are counted and answered AE.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final
from urllib.parse import urlsplit

from ecgedge.ecg import check_rate
from ecgedge.errors import FeedError, Hl7Error, RecordError
from ecgedge.feeds.base import FeedInfo
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.live import LiveFeed
from ecgedge.hl7 import (
    Envelope,
    Message,
    MllpDecoder,
    Waveforms,
    acknowledge,
    frame,
    parse,
    read_waveforms,
)
from ecgedge.query import read_query

FIRST_S: Final = 60.0
"""How long a feed waits for its first waveform."""

READ_SIZE: Final = 65_536
MOST_QUEUED: Final = 64
"""Messages that wait for who reads them; then their sender is not read on, which TCP tells it."""

_EXAMPLE: Final = "mllp://0.0.0.0:2575?patient=12345"


@dataclass(frozen=True)
class MllpAddress:
    """An `mllp://` URI, read; `patient` None takes the first that comes."""

    uri: str
    host: str
    port: int
    patient: str | None
    tls: ssl.SSLContext | None = None


def parse_mllp_uri(uri: str) -> MllpAddress:
    """Read an `mllp://` URI; FeedError says what is missing or wrong."""
    try:
        return _parse(uri)
    except (ValueError, OSError) as error:
        raise FeedError(
            f"{uri}: {error}. Expected mllp://HOST:PORT to listen on, for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> MllpAddress:
    parts = urlsplit(uri)
    if parts.scheme not in ("mllp", "mllps") or not parts.hostname or parts.port is None:
        raise ValueError("host and port are not both there")
    tls_only = ("cert", "key", "clients") if parts.scheme == "mllps" else ()
    options = read_query(parts.query, (*tls_only, "patient"))
    tls = _tls(options) if parts.scheme == "mllps" else None
    return MllpAddress(uri, parts.hostname, parts.port, options.get("patient"), tls)


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    """Make what connections are wrapped in: our certificate, and whose certificates a monitor's must be signed by."""
    if "cert" not in options:
        raise ValueError("mllps needs cert=FILE, and key=FILE where the key is not in it")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.get("clients"))
    try:
        context.load_cert_chain(options["cert"], options.get("key"))
    except OSError as error:
        raise ValueError(f"the certificate {options['cert']} cannot be used: {error}") from error
    if "clients" in options:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class PatientMessages:
    """HL7 messages in, the waveforms of one patient out, and what each is answered; no I/O.

    Attributes
    ----------
    first
        The waveforms that came first: leads, rate and mode of the feed are theirs.
    dropped
        Messages by what was wrong: `bad_message` (no HL7), `no_waveform` (of another kind; acknowledged),
        `bad_waveform`, `other_patient`, `other_signal` (other leads, another rate or mode than at first).
    """

    def __init__(self, patient: str | None) -> None:
        self._patient = patient
        self.first: Waveforms | None = None
        self.dropped: Counter[str] = Counter()

    def take(self, data: bytes, now: datetime, number: int) -> tuple[Waveforms | None, bytes | None]:
        """Take a message at `now`; return its waveforms, if they are to be used, and the answer with this number."""
        envelope = Envelope(now, str(number))
        try:
            message = parse(data)
            taken = acknowledge(message, envelope)  # fails where nobody could be answered
            is_other = not any(x.field(2) in ("NA", "MA") for x in message.segments("OBX"))
        except Hl7Error:
            self.dropped["bad_message"] += 1
            return None, None
        if is_other:
            self.dropped["no_waveform"] += 1
            return None, taken
        try:
            waveforms = self._ours(message)
        except Hl7Error as error:
            self.dropped["bad_waveform"] += 1
            return None, acknowledge(message, envelope, "AE", str(error))
        if isinstance(waveforms, Waveforms):
            return waveforms, taken
        self.dropped[waveforms] += 1
        return None, acknowledge(message, envelope, "AE", f"not taken: {waveforms.replace('_', ' ')}")

    def _ours(self, message: Message) -> Waveforms | str:
        """Return a message's waveforms, or under which name they are dropped."""
        waveforms = read_waveforms(message)
        patient = self._patient if self.first is None or self._patient is not None else self.first.patient_id
        if patient is not None and waveforms.patient_id != patient:
            return "other_patient"
        if self.first is None:
            try:
                check_rate(waveforms.rate_hz, source="its sampling rate")
            except RecordError as error:
                raise Hl7Error(str(error), place="OBX") from error
            self.first = waveforms
        if self.first.patient_id != waveforms.patient_id:
            return "other_patient"
        if _signal(self.first) != _signal(waveforms):
            return "other_signal"
        return waveforms


def _signal(waveforms: Waveforms) -> tuple[object, ...]:
    return waveforms.leads, waveforms.rate_hz, waveforms.mode


class MllpSource:
    """Listens, and turns what one patient's monitor sends into packets."""

    def __init__(self, address: MllpAddress) -> None:
        self._messages, self._tls = PatientMessages(address.patient), address.tls
        self._queue: asyncio.Queue[tuple[Waveforms, float]] = asyncio.Queue(MOST_QUEUED)
        self._counters: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._number = 0

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages by what was wrong with them, and the bytes and messages that MLLP dropped."""
        return {**self._messages.dropped, **self._counters}

    @property
    def port(self) -> int:
        """Where it listens."""
        return 0 if self._server is None else int(self._server.sockets[0].getsockname()[1])

    async def listen(self, host: str, port: int) -> None:
        """Begin to listen; OSError where that cannot be."""
        self._server = await asyncio.start_server(self._greet, host, port, ssl=self._tls)

    async def first(self) -> Waveforms:
        """Return the first waveforms, which stay in the queue."""
        item = await self._queue.get()
        rest = [item] + [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        for one in rest:
            self._queue.put_nowait(one)
        return item[0]

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets, for as long as they come."""
        while True:
            waveforms, arrived_s = await self._queue.get()
            yield Packet(waveforms.samples_mv, t_s=waveforms.start.timestamp(), arrived_s=arrived_s)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            with suppress(asyncio.CancelledError):  # by `close`
                await self._talk(reader, writer)
        except OSError:
            self._counters["broken_connections"] += 1
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = MllpDecoder()
        while received := await reader.read(READ_SIZE):
            before = vars(decoder.counters)
            messages = decoder.push(received)
            after = vars(decoder.counters)
            self._counters.update(
                {k: n - before[k] for k, n in after.items() if n > before[k] and k != "messages"}
            )
            for data in messages:
                await self._take(data, writer)

    async def _take(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        waveforms, answer = self._messages.take(data, datetime.now(timezone.utc), self._number)
        if waveforms is not None:
            await self._queue.put((waveforms, time.monotonic()))
        if answer is not None:  # what is acknowledged is ours
            writer.write(frame(answer))
            await writer.drain()

    async def close(self) -> None:
        """Listen no more, and close all connections; safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in tuple(self._talks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if server is not None:
            await server.wait_closed()


def info_of(first: Waveforms, uri: str) -> FeedInfo:
    """Return what a feed declares whose first message has told leads, rate and mode."""
    return FeedInfo(
        uri=uri,
        leads=first.leads,
        rate_hz=first.rate_hz,
        mode=first.mode,
        chunk_s=first.samples_mv.shape[1] / first.rate_hz,
        live=True,
    )


async def open_mllp(uri: str, *, speed: float) -> LiveFeed:
    """Listen, and wait for the first waveform, which tells leads and rate.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a monitor keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, nobody may listen there, or no waveform comes within `FIRST_S`.
    """
    del speed
    address = parse_mllp_uri(uri)
    source = MllpSource(address)
    try:
        await source.listen(address.host, address.port)
        first = await asyncio.wait_for(source.first(), FIRST_S)
    except (OSError, asyncio.TimeoutError) as error:
        await source.close()
        if isinstance(error, asyncio.TimeoutError):
            dropped = ", ".join(f"{name} {n}" for name, n in source.dropped.items()) or "nothing at all"
            raise FeedError(
                f"{uri}: no waveform of this patient has come within {FIRST_S:g} s (came: {dropped}); is the monitor "
                "set to send ORU^R01 with waveforms to this address?"
            ) from error
        raise FeedError(
            f"{uri}: cannot listen there: {error.strerror}; give an address of this machine"
        ) from error
    except BaseException:
        await source.close()
        raise
    return LiveFeed(info_of(first, uri), source, wait_s=0.0)
