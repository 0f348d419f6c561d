"""CRC-32C (Castagnoli), the frame check of EEB.

Polynomial 0x1EDC6F41, bits reflected, start and final exclusive-or 0xFFFFFFFF; the CRC of "123456789" is
0xE3069283 (RFC 3720 appendix B.4 has more). Python's zlib knows only CRC-32 of IEEE 802.3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

POLYNOMIAL: Final = 0x82F63B78
"""0x1EDC6F41 with its bits reflected."""


def crc32c(data: bytes, crc: int = 0) -> int:
    """Return the CRC-32C of `data`; pass the CRC of what came before as `crc` to continue it."""
    table = _table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    # Made at the first use: importing the package must cost nothing.
    return tuple(_shift_byte(byte) for byte in range(256))


def _shift_byte(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
    return value
