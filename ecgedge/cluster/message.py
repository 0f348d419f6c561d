"""What stands in a message of the bus: one chunk of a bed's samples, with all that a bed must know to begin.

    offset  size  field
    0       4     b"ECG1": the format and its version
    4       1     mode: 0 real, 1 test, 2 demo; and 128 where the feed is live: samples come as they are measured
    5       1     number of leads, L
    6       2     which leads: bit k stands for lead k of the standard order
    8       8     rate_hz, float64
    16      8     t_s, float64: the feed's time of the first sample
    24      8     sequence: counts up by one per chunk of the publisher
    32      4     number of samples per lead, n
    36      4     CRC-32 of all other bytes
    40      4Ln   millivolts, float32, lead by lead; NaN is a sample that was not measured

All little-endian. A reader drops what is not this, and counts it under a name.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import MAX_ABS_MV, MAX_RATE_HZ, MIN_RATE_HZ, Mode
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS

MAGIC: Final = b"ECG1"
MODES: Final[tuple[Mode, ...]] = ("real", "test", "demo")
LARGEST_BYTES: Final = 1 << 20
"""No larger message: it is what a NATS server takes by default (max_payload)."""

_HEAD: Final = struct.Struct("<4sBBHddQII")
_CRC_AT: Final = _HEAD.size - 4
_LIVE: Final = 128

Fault = Literal["format", "length", "checksum", "leads", "mode", "rate", "time", "samples"]
"""Why a message was dropped: no or another format, cut short or too long, altered, or values that no bed takes."""


@dataclass(frozen=True, eq=False)
class BedChunk:
    """One message, read.

    Attributes
    ----------
    leads
        Standard names in standard order, one per row.
    rate_hz, mode
        Of the feed.
    t_s
        The feed's time of the first sample.
    sequence
        Counts up by one per chunk of a publisher.
    samples_mv
        (n_leads, n) float32 millivolts, not to be written to; NaN marks what was not measured.
    live
        Samples come as they are measured: whether they do at their rate, and in time, can be told.
    """

    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    t_s: float
    sequence: int
    samples_mv: NDArray[np.float32]
    live: bool = False


def encode_chunk(chunk: BedChunk) -> bytes:
    """Return the message of a chunk.

    Raises
    ------
    UsageError
        If it is one that no reader would take: `decode_chunk` says what those are.
    """
    n_leads, n = chunk.samples_mv.shape
    if n_leads != len(chunk.leads) or chunk.leads != _leads(_bits(chunk.leads)):
        raise UsageError(
            f"{n_leads} rows of samples for leads {','.join(chunk.leads)}: expected one row a lead, standard names "
            "in standard order"
        )
    body = np.ascontiguousarray(chunk.samples_mv, "<f4").tobytes()
    facts = (
        MODES.index(chunk.mode) | _LIVE * chunk.live,
        n_leads,
        _bits(chunk.leads),
        chunk.rate_hz,
        chunk.t_s,
        chunk.sequence,
        n,
    )
    head = _HEAD.pack(MAGIC, *facts, 0)[:_CRC_AT]
    message = head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
    found = decode_chunk(message)
    if isinstance(found, str):
        raise UsageError(
            f"a chunk of {n} samples at {chunk.rate_hz:g} Hz cannot be sent: its {found} is wrong"
        )
    return message


def decode_chunk(message: bytes) -> BedChunk | Fault:
    """Read a message, or say what is wrong with it; never raises."""
    if len(message) < _HEAD.size or not message.startswith(MAGIC):
        return "format"
    _, kind, n_leads, bits, rate_hz, t_s, sequence, n, crc = _HEAD.unpack_from(message)
    mode, live = kind & ~_LIVE, bool(kind & _LIVE)
    if len(message) != _HEAD.size + 4 * n_leads * n or len(message) > LARGEST_BYTES:
        return "length"
    if zlib.crc32(message[_HEAD.size :], zlib.crc32(message[:_CRC_AT])) != crc:
        return "checksum"
    samples_mv = np.frombuffer(message, "<f4", offset=_HEAD.size).reshape(n_leads, n)
    fault = _fault(mode, n_leads, bits, rate_hz, t_s, samples_mv)
    return fault or BedChunk(_leads(bits), rate_hz, MODES[mode], t_s, sequence, samples_mv, live)


def _fault(
    mode: int, n_leads: int, bits: int, rate_hz: float, t_s: float, samples_mv: NDArray[np.float32]
) -> Fault | None:
    faults: dict[Fault, bool] = {
        "mode": mode >= len(MODES),
        "leads": bits == 0 or bits >= 1 << len(STANDARD_LEADS) or bits.bit_count() != n_leads,
        "rate": not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ,
        "time": not math.isfinite(t_s),
        # A NaN compares as false: it is a sample that was not measured.
        "samples": samples_mv.shape[1] == 0 or bool((np.abs(samples_mv) > MAX_ABS_MV).any()),
    }
    return next((fault for fault, wrong in faults.items() if wrong), None)


def _bits(leads: tuple[str, ...]) -> int:
    return sum(1 << k for k, lead in enumerate(STANDARD_LEADS) if lead in leads)


def _leads(bits: int) -> tuple[str, ...]:
    return tuple(lead for k, lead in enumerate(STANDARD_LEADS) if bits >> k & 1)
