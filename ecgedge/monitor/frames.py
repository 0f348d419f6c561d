"""Samples on their way to a page: binary messages that a browser reads without a parser.

Little endian: u8 kind = 1, u8 version = 1, u16 leads, u32 samples, f64 t_s (stream time of the first sample), f64
sent_ms (milliseconds of the epoch), u32 lsb_nv (nanovolts a count), u32 seq; then int16 counts, lead after lead.
-32768 marks a sample that was not measured. A hole in `seq` is a message that a slow viewer has lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

KIND: Final = 1
VERSION: Final = 1
MISSING: Final = -32768
MOST_SAMPLES: Final = 4096
"""Per lead in one message; a longer chunk is cut."""

FINEST_NV: Final = 1000
"""A microvolt a count, where all samples of a message fit; else so many times two of it as they need."""

_HEADER: Final = struct.Struct("<BBHIddII")
_LARGEST: Final = 32767


@dataclass(frozen=True)
class Samples:
    """A message of samples, read: (leads, n) float32 millivolts, NaN where not measured."""

    t_s: float
    samples_mv: NDArray[np.float32]
    sent_ms: float
    lsb_nv: int
    seq: int


def encode(samples_mv: NDArray[np.float32], *, t_s: float, sent_ms: float, seq: int) -> bytes:
    """Write (leads, n) millivolts as one message; what is not finite is missing."""
    finite = np.isfinite(samples_mv)
    clean = samples_mv if finite.all() else np.where(finite, samples_mv, np.float32(0.0))
    lsb_nv = _step_nv(float(np.abs(clean).max(initial=0.0)))
    counts = np.rint(clean * (1e6 / lsb_nv)).clip(-_LARGEST, _LARGEST).astype("<i2")
    if clean is not samples_mv:
        counts[~finite] = MISSING
    leads, n = counts.shape
    return _HEADER.pack(KIND, VERSION, leads, n, t_s, sent_ms, lsb_nv, seq & 0xFFFFFFFF) + counts.tobytes()


def _step_nv(largest_mv: float) -> int:
    step_nv = FINEST_NV
    while largest_mv * 1e6 > _LARGEST * step_nv and step_nv < 2**31:
        step_nv *= 2
    return step_nv


def decode(message: bytes) -> Samples:
    """Read a message of samples.

    Raises
    ------
    ValueError
        If it is none.
    """
    if len(message) < _HEADER.size:
        raise ValueError(f"{len(message)} bytes are no message of samples: its header has {_HEADER.size}")
    kind, version, leads, n, t_s, sent_ms, lsb_nv, seq = _HEADER.unpack_from(message)
    if (kind, version) != (KIND, VERSION) or len(message) != _HEADER.size + 2 * leads * n:
        raise ValueError(f"kind {kind}, version {version}, {leads} x {n} samples in {len(message)} bytes")
    counts = np.frombuffer(message, "<i2", offset=_HEADER.size).reshape(leads, n)
    mv = (counts * (lsb_nv / 1e6)).astype(np.float32)
    mv[counts == MISSING] = np.nan
    return Samples(t_s, mv, sent_ms, lsb_nv, seq)
