"""Consistent Overhead Byte Stuffing: removes every zero byte, so that zero can end a frame.

S. Cheshire and M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Trans. Networking 7(2), 1999.
A code byte n < 255 stands for n - 1 bytes and a zero after them, 255 for 254 bytes and no zero; the zero
that would follow the last block is not part of the data.
"""

from __future__ import annotations

from typing import Final

_FULL: Final = 0xFF
"""Code of a block of 254 bytes that no zero follows."""


class CobsError(ValueError):
    """The bytes are no COBS encoding: a zero stands in them, or the last block is cut short."""


class CobsSizeError(CobsError):
    """The encoding stands for more bytes than the caller takes."""


def encode(data: bytes) -> bytes:
    """Return `data` without zeros; the delimiter is the caller's to add."""
    out = bytearray()
    parts = data.split(b"\0")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        while len(part) >= _FULL - 1:
            out.append(_FULL)
            out += part[: _FULL - 1]
            part = part[_FULL - 1 :]
            # A full block implies no zero, so data that ends with it is complete.
            if last and not part:
                return bytes(out)
        out.append(len(part) + 1)
        out += part
    return bytes(out)


def decode(encoded: bytes, *, limit: int | None = None) -> bytes:
    """Undo `encode`.

    Parameters
    ----------
    encoded
        The bytes between two delimiters.
    limit
        The largest size that the result may have.

    Raises
    ------
    CobsSizeError
        When the result passes `limit`, even if the encoding is also broken after that.
    CobsError
        When a zero stands in `encoded` or its last block is cut short.
    """
    if 0 in encoded:
        raise CobsError("a zero byte stands inside the encoding")
    out = bytearray()
    at = 0
    while at < len(encoded):
        code = encoded[at]
        block = encoded[at + 1 : at + code]
        out += block
        at += code
        if limit is not None and len(out) > limit:
            raise CobsSizeError(f"the encoding stands for more than {limit} bytes")
        if len(block) < code - 1:
            raise CobsError(f"the last block holds {len(block)} of {code - 1} bytes")
        if code != _FULL and at < len(encoded):
            out.append(0)
    return bytes(out)
