"""Arrays of numbers and times as HL7 v2 writes them.

Source: HL7 v2.6, chapter 2.A: NA (numeric array), MA (multiplexed array), DTM (date and time).
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_DIGITS: Final = 15
"""Of a number that is read fast: its digits are an exact float64, and so is the power of ten that divides them."""

_ZERO: Final = np.uint8(ord("0"))
_POWERS: Final[NDArray[np.float64]] = np.array([10.0**n for n in range(MAX_DIGITS + 1)])
_DOT: Final = ord(".")
_MINUS: Final = ord("-")
_FIRST: Final = np.zeros(1, np.intp)
_DTM: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.?(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)


def read_numbers(text: bytes, separator: bytes = b"^") -> NDArray[np.float64]:
    """Read numbers with one byte between them, each correctly rounded; NaN where none stands, or null, or NaN.

    Raises
    ------
    ValueError
        Naming the first that is no finite number.
    """
    fast = _read_fast(text, separator)
    return _read_slowly(text.split(separator)) if fast is None else fast


def _read_fast(text: bytes, separator: bytes) -> NDArray[np.float64] | None:
    """Read digits, signs and points only: the digits as integers in one go, then divided by powers of ten.

    Several times as fast as to read floats, and equal: the quotient of two exact numbers is correctly rounded.
    None where the text holds anything else: what is unusual, and what is wrong, is read slowly.
    """
    # numpy reads integers up to what it cannot read, and says nothing of it: the text must be known to be sound before.
    digits = text.translate(None, b".") + separator
    places = np.frombuffer(digits, np.uint8)
    ends = np.flatnonzero(places == separator[0])
    starts = np.concatenate([_FIRST, ends[:-1] + 1])
    signs = places[starts] == _MINUS
    lengths = ends - starts - signs
    # Beside digits there are the separators, and before some numbers a sign.
    others = np.count_nonzero(places - _ZERO > 9) - len(ends)
    if others != np.count_nonzero(signs) or lengths.min() < 1 or lengths.max() > MAX_DIGITS:
        return None
    numbers = np.fromstring(digits[:-1], np.int64, sep=separator.decode()).astype(np.float64)
    return numbers if len(digits) > len(text) else _divide(numbers, ends, text)


def _divide(numbers: NDArray[np.float64], ends: NDArray[np.intp], text: bytes) -> NDArray[np.float64] | None:
    """Divide where a point stands in the text; None if one number has two. `ends` count without points."""
    bytes_ = np.frombuffer(text, np.uint8)
    decimals = ends[0] - text.find(b".")
    if len(text) - ends[-1] == len(ends) and 0 <= decimals <= MAX_DIGITS:  # As many points as numbers.
        expected = ends + (np.arange(len(ends)) - decimals)
        if (bytes_[expected] == _DOT).all():
            numbers /= _POWERS[decimals]
            return numbers
    dots = np.flatnonzero(bytes_ == _DOT)
    dots -= np.arange(len(dots))
    which = np.searchsorted(ends, dots)
    if (np.diff(which) == 0).any():
        return None
    numbers[which] /= _POWERS[ends[which] - dots]
    return numbers


def _read_slowly(parts: list[bytes]) -> NDArray[np.float64]:
    return np.array([_number(part.strip()) for part in parts])


def _number(part: bytes) -> float:
    if part in (b"", b'""'):
        return math.nan
    try:
        value = float(part)
    except ValueError:
        value = math.inf
    if math.isinf(value) or b"_" in part:
        raise ValueError(f"{part[:20].decode('ascii', 'replace')!r} is no number")
    return value


def write_numbers(counts: NDArray[np.int64], decimals: int) -> str:
    """Write integers divided by ten to the power of `decimals`, with "^" between them; exact."""
    if decimals == 0:
        return "^".join(map(str, counts.tolist()))
    whole, part = np.divmod(np.abs(counts), 10**decimals)
    signs = np.where(counts < 0, "-", "").tolist()
    rows = zip(signs, whole.tolist(), part.tolist(), strict=True)
    return "^".join(f"{sign}{a}.{b:0{decimals}d}" for sign, a, b in rows)


@lru_cache(maxsize=64)  # A message says the same time for every lead.
def read_time(text: str, zone: tzinfo = timezone.utc) -> datetime:
    """Read YYYYMMDD[HH[MM[SS[.S[S[S[S]]]]]]][+/-ZZZZ] as UTC; `zone` is meant where the text names none.

    Milliseconds without a point before them, as some monitors write, are understood.

    Raises
    ------
    ValueError
        If it is no such time.
    """
    match = _DTM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time; expected YYYYMMDDHHMMSS.SSS+ZZZZ")
    *parts, fraction, offset = match.groups()
    year, month, day, hour, minute, second = (int(part) if part else None for part in parts)
    if year is None or month is None or day is None:
        raise ValueError(f"{text[:40]!r} names no day; expected YYYYMMDDHHMMSS.SSS+ZZZZ")
    microseconds = int((fraction or "").ljust(6, "0"))
    try:
        time = datetime(
            year, month, day, hour or 0, minute or 0, second or 0, microseconds, tzinfo=_zone(offset, zone)
        )
        return time.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is no time ({error})") from error


def _zone(offset: str | None, zone: tzinfo) -> tzinfo:
    if offset is None:
        return zone
    size = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return timezone(-size if offset[0] == "-" else size)


def write_time(time: datetime) -> str:
    """Write a time that knows its zone, in UTC to the tenth of a millisecond, the finest that HL7 v2 has."""
    utc = time.astimezone(timezone.utc)
    return f"{utc:%Y%m%d%H%M%S}.{utc.microsecond // 100:04d}+0000"
