"""XLI, the compression of Philips' Sierra XML: LZW over second differences. Needs the extra `records`.

The package sierraecg knows the LZW; its own way through the chunks loops for ever on a negative size and
expands without a limit, so chunks and differences are gone through here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import RecordError, missing_extra

_HEADER_BYTES: Final = 8
_CODE_BITS: Final = 10


def decode_xli(data: bytes, *, n_leads: int, n_samples: int, source: str) -> NDArray[np.int64]:
    """Return the stored integers (n_leads, n_samples) of one XLI chunk a lead.

    A chunk is its size (int32), two bytes that are not known, and the first difference (int16), all
    little-endian, then LZW codes of ten bits. Devices write sixteen chunks, those without a lead empty.

    Raises
    ------
    RecordError
        If there are fewer chunks, or one holds more or fewer samples.
    UsageError
        If the package sierraecg is not installed.
    """
    rows = []
    at = 0
    for number in range(1, n_leads + 1):
        header = data[at : at + _HEADER_BYTES]
        size = int.from_bytes(header[:4], "little", signed=True)
        at += _HEADER_BYTES + size
        if len(header) < _HEADER_BYTES or size < 0 or at > len(data):
            raise RecordError(
                f"{source}: the compressed samples of lead {number} of {n_leads} are cut; export the file again"
            )
        packed = _expand(data[at - size : at], n_samples, number, source)
        rows.append(_undo_differences(packed, int.from_bytes(header[6:], "little", signed=True)))
    return np.array(rows, np.int64)


def _expand(chunk: bytes, n_samples: int, number: int, source: str) -> bytes:
    decoder = _decoder(chunk)
    expanded = bytearray()
    try:
        # one byte more than there should be tells that there is more
        while len(expanded) <= 2 * n_samples and (byte := decoder.read()) >= 0:
            expanded.append(byte)
    except IndexError as error:  # the first code names a string that does not exist yet
        raise RecordError(
            f"{source}: the compressed samples of lead {number} are damaged; export the file again"
        ) from error
    if len(expanded) != 2 * n_samples:
        held = "more" if len(expanded) > 2 * n_samples else f"{len(expanded) / 2:g}"
        raise RecordError(
            f"{source}: lead {number} should have {n_samples} samples and has {held}; export the file again"
        )
    return bytes(expanded)


def _decoder(chunk: bytes) -> Any:
    try:
        from sierraecg.lzw import LzwDecoder
    except ImportError as error:
        raise missing_extra(extra="records", package="sierraecg", purpose="Reading Philips' XML") from error
    return LzwDecoder(chunk, bits=_CODE_BITS)


def _undo_differences(packed: bytes, first: int) -> list[int]:
    """Return the samples of second differences, whose high bytes stand before all low bytes."""
    halves = np.frombuffer(packed, np.uint8).reshape(2, -1).astype(np.uint16)
    stored: list[int] = ((halves[0] << 8) | halves[1]).astype(np.uint16).view(np.int16).tolist()
    samples = stored[:2]
    last = first
    for difference in stored[2:]:
        # signed 16 bits, as a damaged file would otherwise grow without end
        sample = 2 * samples[-1] - samples[-2] - last
        samples.append((sample + 32768) % 65536 - 32768)
        last = difference - 64
    return samples
