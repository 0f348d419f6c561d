"""What URIs of several sinks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecgedge.errors import UsageError
from ecgedge.query import read_query


def sink_settings(query: str, known: Sequence[str], *, uri: str) -> dict[str, str]:
    """Return the settings of a sink's URI; UsageError names one that is unknown or stands twice."""
    try:
        return read_query(query, known)
    except ValueError as error:
        raise UsageError(f"{uri}: {error}") from error


def parse_patients(text: str, *, uri: str) -> dict[str, str]:
    """Read `BED:ID,BED:ID`, who lies where; UsageError if it is something else."""
    pairs = [pair.partition(":") for pair in text.split(",") if pair]
    if not all(bed and patient for bed, _, patient in pairs):
        raise UsageError(f"{uri}: patients is {text!r}; expected BED:ID,BED:ID")
    return {bed: patient for bed, _, patient in pairs}


def read_secret(path: str, *, what: str) -> str:
    """Read a secret from the file that holds nothing else.

    Raises
    ------
    UsageError
        If it cannot be read, or is empty.
    """
    try:
        secret = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be read from {path}: {error}") from error
    if not secret or "\n" in secret:
        raise UsageError(f"{path} holds no {what}: expected one line")
    return secret
