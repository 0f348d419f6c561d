"""A monitor that sends HL7 v2 waveforms, as `ecgedge.feeds.mllp` takes them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Final

import numpy as np

from ecgedge.errors import FeedError, Hl7Error
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import positive_setting
from ecgedge.hl7 import Envelope, MllpDecoder, Waveforms, frame, read_acknowledgement, write_waveforms
from ecgedge.rig.address import parse_address
from ecgedge.rig.writing import LSB_NV

MESSAGE_S: Final = 1.0
"""Of samples in a message, unless the URI says otherwise: as monitors send them."""

ANSWER_S: Final = 2.0
"""How long a message waits for its acknowledgement."""


class MllpSender:
    """One connection to a receiver; each message waits for its acknowledgement."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        info: FeedInfo,
        *,
        resolution_mv: float,
        message_s: float,
        patient: str,
    ) -> None:
        self._reader, self._writer = streams
        self._info, self._patient, self._resolution_mv = info, patient, resolution_mv
        self._n = max(1, round(message_s * info.rate_hz))
        self._begin = datetime.now(timezone.utc)
        self._pieces: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
        self._first_s: float | None = None
        self._decoder = MllpDecoder()
        self._number = self.refused = 0

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that a chunk makes whole."""
        self._first_s = chunk.t_s if self._first_s is None else self._first_s
        self._pieces.append(chunk.samples_mv)
        messages: list[bytes] = []
        while sum(piece.shape[1] for piece in self._pieces) >= self._n:
            messages.append(self._message(self._n))
        return messages

    async def send(self, message: bytes) -> None:
        """Send one, and wait for its acknowledgement.

        Raises
        ------
        FeedError
            If the receiver is gone, or does not answer.
        """
        try:
            self._writer.write(message)
            await self._writer.drain()
            await asyncio.wait_for(self._answer(), ANSWER_S)
        except asyncio.TimeoutError:
            self.refused += 1  # a damaged message is not answered
        except OSError as error:
            raise FeedError(f"the receiver has closed the connection ({error})") from error

    async def close(self) -> None:
        """Send what is left, and close the connection."""
        if left := sum(piece.shape[1] for piece in self._pieces):
            with suppress(FeedError):
                await self.send(self._message(left))
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _message(self, n: int) -> bytes:
        joined = np.concatenate(self._pieces, axis=1)
        self._pieces = [joined[:, n:]] if joined.shape[1] > n else []
        first_s = self._first_s or 0.0
        self._first_s = first_s + n / self._info.rate_hz
        self._number += 1
        waveforms = Waveforms(
            start=self._begin + timedelta(seconds=first_s),
            rate_hz=self._info.rate_hz,
            leads=self._info.leads,
            samples_mv=joined[:, :n],
            patient_id=self._patient,
            mode="demo" if self._info.mode == "demo" else "test",
        )
        envelope = Envelope(datetime.now(timezone.utc), str(self._number), application="ECGEDGE RIG")
        return frame(write_waveforms(waveforms, envelope, resolution_mv=self._resolution_mv))

    async def _answer(self) -> None:
        while not (messages := self._decoder.push(await self._received())):
            pass
        for message in messages:
            try:
                self.refused += not read_acknowledgement(message).accepted
            except Hl7Error:
                self.refused += 1

    async def _received(self) -> bytes:
        received = await self._reader.read(4096)
        if not received:
            raise FeedError("the receiver has closed the connection")
        return received


async def send_mllp(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> MllpSender:
    """Connect to `mllp://HOST:PORT?patient=TEST&lsb_nv=1000&message_s=1`; `mllps://` and `ca=FILE` for TLS."""
    form = "mllp://HOST:PORT, and patient, lsb_nv, message_s, ca if wanted"
    address = parse_address(uri, options=("patient", "lsb_nv", "message_s", "ca"), form=form)
    options = address.options
    lsb_nv = positive_setting(options, "lsb_nv", LSB_NV, uri=uri)
    message_s = positive_setting(options, "message_s", MESSAGE_S, uri=uri)
    try:
        tls = ssl.create_default_context(cafile=options.get("ca")) if uri.startswith("mllps:") else None
        streams = await asyncio.open_connection(address.host, address.port, ssl=tls)
    except OSError as error:
        raise FeedError(f"{uri}: cannot connect ({error}); does the receiver listen?") from error
    say(f"sending to {uri}")
    return MllpSender(
        streams,
        info,
        resolution_mv=lsb_nv * 1e-6,
        message_s=message_s,
        patient=options.get("patient", "TEST"),
    )
