"""Tables (CSV) that come with a cohort, and what their cells mean."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ecgedge.errors import RecordError

OLD_AGE: Final = 90.0
"""What stands for all ages above 89, which privacy rules hide: "> 89" in LUDB, 300 in PTB-XL."""
_TRUTH: Final = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_SEX: Final = {"m": "male", "male": "male", "f": "female", "female": "female"}
_MAX_AGE: Final = 130.0


def read_table(
    path: Path, *, required: Sequence[str], hint: str
) -> tuple[list[str], list[dict[str, str]], str]:
    """Read a CSV file with a header line.

    Parameters
    ----------
    path
        UTF-8, with or without a byte order mark; cells may hold line breaks.
    required
        Columns that must be there.
    hint
        Ends the messages: what the user should give instead.

    Returns
    -------
    columns, rows, sha256
        Names in order; one dict a line, cells stripped of white space; the hash of the file.

    Raises
    ------
    RecordError
        If it cannot be read, lacks a column, names one twice, or a line has more or fewer cells.
    """
    try:
        data = path.read_bytes()
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {hint}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path}: is no CSV table in UTF-8 ({error}); {hint}") from error
    lines = [line for line in lines if line]
    columns = [name.strip() for name in lines[0]] if lines else []
    absent = [name for name in required if name not in columns]
    if absent and len(columns) == 1 and (sign := _other_separator(columns[0])):
        raise RecordError(
            f"{path}: has {sign} between its cells; save it with commas, and numbers with a point"
        )
    if absent:
        raise RecordError(f"{path}: has no column {', '.join(absent)}; it has {', '.join(columns)}; {hint}")
    if len(set(columns)) != len(columns):
        raise RecordError(f"{path}: names a column twice: {', '.join(columns)}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise RecordError(f"{path}: row {number} has {len(line)} cells, the header {len(columns)}")
    rows = [{name: cell.strip() for name, cell in zip(columns, line, strict=True)} for line in lines[1:]]
    return columns, rows, hashlib.sha256(data).hexdigest()


def _other_separator(header: str) -> str | None:
    """Return, in words, what a spreadsheet of another country or kind puts between cells."""
    return next((word for sign, word in ((";", "semicolons"), ("\t", "tabs")) if sign in header), None)


def truth(text: str) -> float:
    """Return 1 for a yes ("True", "1"), 0 for a no, NaN for anything else."""
    return _TRUTH.get(text.strip().lower(), math.nan)


def number(text: str) -> float:
    """Return the finite number that `text` is, else NaN ("", "Unknown", "nd")."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def age_years(text: str) -> float:
    """Return an age; NaN if it is not told or impossible, `OLD_AGE` if it is only told to be above 89."""
    text = text.replace(" ", "")
    if text in (">89", "300", "300.0"):
        return OLD_AGE
    value = number(text)
    return value if 0.0 <= value <= _MAX_AGE else math.nan


def sex(text: str) -> str:
    """Return "male", "female" or "" (not told)."""
    return _SEX.get(text.strip().lower(), "")
