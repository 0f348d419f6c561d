"""A recorder that sends as VitalDB's Vital Recorder does, as `ecgedge.feeds.vital` takes it. Extra `vital`.

As the recorder, it sends a second at a time, six digits a value, and waveforms at 100 Hz at most, of which it takes
samples without a filter before. What it sends is declared test or demo (MSH-11), never real.
"""

from __future__ import annotations

import asyncio
import gzip
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import positive_setting
from ecgedge.feeds.vital import import_socketio
from ecgedge.hl7.message import escape, write_segment
from ecgedge.rig.address import options_of

MESSAGE_S: Final = 1.0
"""Of samples in a message, as recorders send them."""

MAX_RATE_HZ: Final = 100.0
"""Of a waveform that a recorder sends."""

CONNECT_TIMEOUT_S: Final = 5.0
WRITE_S: Final = 5.0
"""How long a message may take to be written."""


class VitalSender:
    """One recorder with one bed."""

    def __init__(self, client: Any, info: FeedInfo, *, vr: str, bed: str, rate_hz: float) -> None:
        self._client, self._info, self._vr, self._bed = client, info, vr, bed
        self._rate_hz = min(rate_hz, info.rate_hz)
        self._n = max(1, round(MESSAGE_S * info.rate_hz))
        self._begin = datetime.now(timezone.utc)
        self._pieces: list[NDArray[np.float32]] = []
        self._first_s: float | None = None
        self._number = 0

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that a chunk makes whole."""
        self._first_s = chunk.t_s if self._first_s is None else self._first_s
        self._pieces.append(chunk.samples_mv)
        messages: list[bytes] = []
        while sum(piece.shape[1] for piece in self._pieces) >= self._n:
            messages.append(self._message(self._n))
        return messages

    async def send(self, message: bytes) -> None:
        """Send one; FeedError where nobody takes it any more."""
        try:
            await self._client.emit("send_data", message)
            # The package's queue has no limit, and what stands in it is lost when the client disconnects.
            await asyncio.wait_for(self._client.eio.queue.join(), WRITE_S)
        except (import_socketio().exceptions.SocketIOError, asyncio.TimeoutError) as error:
            why = str(error) or f"it took nothing for {WRITE_S:g} s"
            raise FeedError(f"the server has closed the connection ({why})") from error

    async def close(self) -> None:
        """Send what is left, and disconnect."""
        if left := sum(piece.shape[1] for piece in self._pieces):
            with suppress(FeedError):
                await self.send(self._message(left))
        await self._client.disconnect()

    def _message(self, n: int) -> bytes:
        joined = np.concatenate(self._pieces, axis=1)
        self._pieces = [joined[:, n:]] if joined.shape[1] > n else []
        first_s = self._first_s or 0.0
        self._first_s = first_s + n / self._info.rate_hz
        self._number += 1
        # As the recorder decimates each block: every ratio-th sample from its first, rounded down, unfiltered.
        ratio = self._info.rate_hz / self._rate_hz
        picked = (np.arange(math.ceil(n / ratio)) * ratio).astype(np.intp)
        return gzip.compress(self._hl7(joined[:, picked], first_s, self._first_s), compresslevel=1)

    def _hl7(self, samples_mv: NDArray[np.float32], begin_s: float, end_s: float) -> bytes:
        begin, end = (f"{self._begin + timedelta(seconds=x):%Y%m%d%H%M%S}" for x in (begin_s, end_s))
        mode = "D" if self._info.mode == "demo" else "T"
        lines = [
            write_segment(
                *("MSH", "^~\\&", "VitalRecorder", escape(self._vr), "", "", end, ""),
                *("ORU^R01", str(self._number), mode, "2.6"),
            ),
            write_segment("PID", "", "", ""),
            write_segment("PV1", "", "I", escape(self._bed)),
            write_segment("OBR", "1", "", "", "VITAL_SIGNS", "", "", begin, end),
        ]
        for number, (lead, row) in enumerate(zip(self._info.leads, samples_mv.tolist(), strict=True), 1):
            values = "^".join("" if math.isnan(value) else f"{value:g}" for value in row)
            track = f"ECG_WAV^Monitor/ECG_{lead}@{self._rate_hz:g}"
            lines.append(
                write_segment("OBX", str(number), "NA", track, "", values, "mV", "", "", "", "", "R")
            )
        return b"".join(lines)


async def send_vital(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> VitalSender:
    """Connect to `vital://HOST:PORT?vr=CODE&bed=BED-1&rate_hz=100`; a recorder's rate is 100 Hz at most."""
    parts = urlsplit(uri)
    options = options_of(uri, parts.query, ("vr", "bed", "rate_hz"))
    if not parts.hostname or not parts.port or not options.get("vr"):
        raise FeedError(f"{uri}: expected vital://HOST:PORT?vr=CODE, and bed, rate_hz if wanted")
    rate_hz = positive_setting(options, "rate_hz", MAX_RATE_HZ, uri=uri)
    if rate_hz > MAX_RATE_HZ:
        raise FeedError(f"{uri}: rate_hz is {rate_hz:g}; Vital Recorder sends {MAX_RATE_HZ:g} Hz at most")
    socketio = import_socketio()
    client = socketio.AsyncClient(reconnection=False)
    try:
        await client.connect(
            f"http://{parts.netloc}", transports=["websocket"], wait_timeout=CONNECT_TIMEOUT_S
        )
        await client.emit("join_vr", options["vr"])
    except socketio.exceptions.SocketIOError as error:
        await client.disconnect()
        raise FeedError(f"{uri}: cannot connect ({error}); does the server listen?") from error
    say(f"sending to {uri}")
    return VitalSender(client, info, vr=options["vr"], bed=options.get("bed", "BED-1"), rate_hz=rate_hz)
