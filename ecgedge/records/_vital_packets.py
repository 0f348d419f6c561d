"""The packets of a .vital file (VitalRecorder): a gzip stream of a header, then type, length and body.

Read here because the published package vitaldb reads a damaged file as a shorter one, prints what went wrong,
and opens addresses. Its writer and reader are what this is tested against.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgedge.errors import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES: Final = 2**30
"""Unpacked. A day of eight waves at 500 Hz in 16 bits takes 0.7 GB; gzip can promise a thousand times a file's size."""
_CHUNK_BYTES: Final = 2**20
_TRACK, _SAMPLES = 0, 1
_WAVE = 1
_DTYPES: Final = {1: "<f4", 2: "<f8", 3: "<i1", 4: "<u1", 5: "<i2", 6: "<u2", 7: "<i4", 8: "<u4"}
_FLOATS: Final = (1, 2)
# What fills gaps: the lowest number of a signed type, the highest of an unsigned one
_MISSING: Final = {3: -(2**7), 4: 2**8 - 1, 5: -(2**15), 6: 2**16 - 1, 7: -(2**31), 8: 2**32 - 1}


@dataclass(frozen=True)
class Wave:
    """A wave track: `blocks` are (seconds since 1970, values in `unit`), in the file's order."""

    name: str
    unit: str
    rate_hz: float
    storage: int
    gain: float
    offset: float
    blocks: list[tuple[float, NDArray[np.float64]]] = field(default_factory=list)


def read_waves(path: Path) -> list[Wave]:
    """Return the wave tracks of a file, without the numbers and texts that it may hold beside them.

    Raises
    ------
    RecordError
        If the file is no .vital file, is cut or damaged, or too large.
    """
    source = str(path)
    data = _unpacked(path)
    try:
        if data[:4] != b"VITA":
            raise RecordError(
                f"{source}: not a .vital file (it begins with {bytes(data[:4])!r}); export it again"
            )
        (header_bytes,) = struct.unpack_from("<H", data, 8)
        # from version 3 on a flag says that blocks are joined, and gaps filled with a number for "missing"
        joined = header_bytes >= 27 and data[10 + 26] == 1
        waves: dict[int, Wave] = {}
        for kind, body in _packets(data, 10 + header_bytes, source):
            if kind == _TRACK:
                _add_track(waves, body)
            elif kind == _SAMPLES:
                _add_block(waves, body, joined=joined)
    except (struct.error, ValueError, LookupError, MemoryError) as error:
        raise RecordError(
            f"{source}: not a readable .vital file ({type(error).__name__}: {error}); it is damaged: "
            "export it again"
        ) from error
    return list(waves.values())


def _unpacked(path: Path) -> bytes:
    data = bytearray()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise RecordError(
                        f"{path}: more than {MAX_BYTES} bytes unpacked; cut the recording into parts"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise RecordError(
            f"{path}: not a readable .vital file ({type(error).__name__}: {error}); it is cut or damaged: "
            "export it again"
        ) from error
    return bytes(data)


def _packets(data: bytes, start: int, source: str) -> Iterator[tuple[int, bytes]]:
    at = start
    while at < len(data):
        kind, size = struct.unpack_from("<BL", data, at)
        at += 5 + size
        if at > len(data):
            raise RecordError(
                f"{source}: the last packet is cut ({at - len(data)} bytes missing); export it again"
            )
        yield kind, data[at - size : at]


def _text(body: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<L", body, at)
    end = at + 4 + size
    if end > len(body):
        raise ValueError("a text is longer than its packet")
    return body[at + 4 : end].decode("utf-8", "replace"), end


def _add_track(waves: dict[int, Wave], body: bytes) -> None:
    number, kind, storage = struct.unpack_from("<HBB", body)
    if kind != _WAVE:
        return
    name, at = _text(body, 4)
    unit, at = _text(body, at)
    # shown range (two floats) and colour (32 bits) are of no use here
    rate_hz, gain, offset = struct.unpack_from("<fdd", body, at + 12)
    if storage not in _DTYPES:
        raise ValueError(f"track {name!r} has the sample type {storage}")
    if number in waves:
        raise ValueError(f"two tracks have the number {number}")
    waves[number] = Wave(name, unit, rate_hz, storage, gain, offset)


def _add_block(waves: dict[int, Wave], body: bytes, *, joined: bool) -> None:
    info_bytes, time_s, number = struct.unpack_from("<HdH", body)
    wave = waves.get(number)
    if wave is None:
        return
    (n_samples,) = struct.unpack_from("<L", body, 2 + info_bytes)
    stored = np.frombuffer(body, _DTYPES[wave.storage], n_samples, 6 + info_bytes)
    # a signalling NaN is as good as any
    with np.errstate(invalid="ignore"):
        values = stored.astype(np.float64)
    if wave.storage not in _FLOATS:
        values = values * wave.gain + wave.offset
        if joined:
            values[stored == _MISSING[wave.storage]] = np.nan
    wave.blocks.append((time_s, values))
