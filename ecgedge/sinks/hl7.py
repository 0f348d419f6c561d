"""Sink `mllp://HOST:PORT`, `mllps://HOST:PORT?ca=FILE`: estimates as ORU^R01, alarms as ORU^R40, each acknowledged.

    mllp://HOST:PORT?application=NAME&facility=NAME&to_application=NAME&to_facility=NAME&patients=BED:ID,BED:ID

One message at a time, in order; the next follows its acknowledgement. AE says that a message is wrong: it is refused,
counted and told. AR, and no answer, have it sent again, with the same control id.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Final
from urllib.parse import urlsplit

from ecgedge.errors import Hl7Error, UsageError
from ecgedge.events import Alarm, Estimate
from ecgedge.hl7 import (
    Acknowledgement,
    Envelope,
    MllpDecoder,
    frame,
    read_acknowledgement,
    write_alarm,
    write_estimate,
)
from ecgedge.sinks.outbox import RefusedError, SinkError, Told
from ecgedge.sinks.settings import parse_patients, sink_settings

CONNECT_S: Final = 5.0
_REFUSED: Final = ("AE", "CE")
_EXAMPLE: Final = "mllp://127.0.0.1:2575"


@dataclass(frozen=True)
class Names:
    """MSH-3 to MSH-6: who we are, and whom it is for."""

    application: str = "ECGEDGE"
    facility: str = ""
    to_application: str = ""
    to_facility: str = ""


@dataclass(frozen=True)
class MllpAddress:
    """An `mllp://` URI of a sink, read; `patients` are the ids by bed."""

    uri: str
    host: str
    port: int
    tls: ssl.SSLContext | None
    names: Names
    patients: Mapping[str, str]


def parse_mllp_sink(uri: str) -> MllpAddress:
    """Read the URI.

    Raises
    ------
    UsageError
        Naming what is missing or wrong.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
        known = [item.name for item in fields(Names)]
        options = sink_settings(parts.query, ("ca", "patients", *known), uri=uri)
        tls = ssl.create_default_context(cafile=options.get("ca")) if parts.scheme == "mllps" else None
    except (ValueError, OSError) as error:
        raise UsageError(f"{uri}: {error}. Expected mllp://HOST:PORT, for example {_EXAMPLE}") from error
    if not host or not port or ("ca" in options and tls is None):
        raise UsageError(
            f"{uri}: expected mllp://HOST:PORT or mllps://HOST:PORT?ca=FILE, for example {_EXAMPLE}"
        )
    names = Names(**{name: options[name] for name in known if name in options})
    return MllpAddress(uri, host, port, tls, names, parse_patients(options.get("patients", ""), uri=uri))


class _AlarmLog:
    """What a receiver has been told of each condition: the transition before, and the name of the alarm."""

    def __init__(self) -> None:
        self._on: dict[tuple[str, str], tuple[Alarm, str]] = {}

    def look(self, told: Told, alarm: Alarm) -> tuple[Alarm | None, str]:
        """Return the transition before this one, and the name of the alarm: the same from its onset to its end."""
        before = self._on.get((told.bed, alarm.condition))
        is_new = before is None or (before[0].presence == "off" and alarm.presence == "on")
        return (None, told.id) if before is None else (before[0], told.id if is_new else before[1])

    def told(self, told: Told, alarm: Alarm, alert_id: str) -> None:
        """Take that the receiver has it."""
        self._on[told.bed, alarm.condition] = alarm, alert_id


class Hl7Receiver:
    """A receiver of HL7 v2 messages; connected when there is something to deliver."""

    def __init__(self, address: MllpAddress) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._decoder = MllpDecoder()
        self._alarms = _AlarmLog()

    @property
    def name(self) -> str:
        """Its address."""
        return self._address.uri.partition("?")[0]

    @property
    def most(self) -> int:
        """One: MLLP has one message on its way."""
        return 1

    @property
    def kinds(self) -> frozenset[str]:
        """Estimates and alarms: other events have no message."""
        return frozenset({Estimate.type, Alarm.type})

    async def deliver(self, told: Sequence[Told]) -> None:
        """Send one message, and wait for its acknowledgement."""
        one = told[0]
        names = self._address.names
        envelope = Envelope(
            datetime.now(timezone.utc),
            _control_id(one),
            names.application,
            names.facility,
            names.to_application,
            names.to_facility,
        )
        patient = self._address.patients.get(one.bed)
        if isinstance(one.event, Alarm):
            previous, alert_id = self._alarms.look(one, one.event)
            message = write_alarm(
                one.event,
                envelope,
                at=one.at,
                mode=one.mode,
                alert_id=alert_id,
                previous=previous,
                patient_id=patient,
                location=one.bed,
            )
            await self._exchange(message, envelope.control_id)
            self._alarms.told(one, one.event, alert_id)
        elif isinstance(one.event, Estimate):
            message = write_estimate(one.event, envelope, at=one.at, patient_id=patient, location=one.bed)
            await self._exchange(message, envelope.control_id)

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with suppress(OSError):
                await streams[1].wait_closed()

    async def _exchange(self, message: bytes, control_id: str) -> None:
        try:
            reader, writer = await self._connected()
            writer.write(frame(message))
            await writer.drain()
            answer = await self._answer(reader, control_id)
        except BaseException as error:
            # An answer that still comes would be taken for that of the next message.
            await self.close()
            if isinstance(error, OSError):
                raise SinkError(f"the receiver cannot be reached ({error})") from error
            raise
        if answer.code in _REFUSED:
            raise RefusedError(f"it answered {answer.code}: {answer.text or 'without a reason'}")
        if not answer.accepted:
            raise SinkError(f"it answered {answer.code}: {answer.text or 'without a reason'}")

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            opening = asyncio.open_connection(self._address.host, self._address.port, ssl=self._address.tls)
            try:
                self._streams = await asyncio.wait_for(opening, CONNECT_S)
            except asyncio.TimeoutError:
                raise SinkError(f"no connection within {CONNECT_S:g} s") from None
            self._decoder = MllpDecoder()
        return self._streams

    async def _answer(self, reader: asyncio.StreamReader, control_id: str) -> Acknowledgement:
        """Wait for the acknowledgement of this message; what else comes is passed over."""
        while received := await reader.read(4096):
            for data in self._decoder.push(received):
                try:
                    answer = read_acknowledgement(data)
                except Hl7Error as error:
                    raise SinkError(f"its answer is no acknowledgement ({error})") from error
                if answer.control_id == control_id:
                    return answer
        raise SinkError("the receiver has closed the connection without an acknowledgement")


def _control_id(told: Told) -> str:
    """MSH-10 has 199 characters at most since v2.6, and 20 before: short, and the same when sent again."""
    return f"{told.run[:6]}{zlib.crc32(told.bed.encode()):08x}{told.number}"


def open_hl7_sink(uri: str) -> Hl7Receiver:
    """Make the receiver of an `mllp://` or `mllps://` URI; UsageError says what is wrong with it."""
    return Hl7Receiver(parse_mllp_sink(uri))
