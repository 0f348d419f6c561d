"""Cohorts of one recording a file: the unit, its loader, header comments, and recordings shorter than a window."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Entry
from ecgedge_train.cohorts.wfdb16 import read_record

WINDOW_S: Final = 10.0
MIN_S: Final = 5.0
"""What is shorter than half a window is refused even with short=pad."""
SHORT: Final = ("refuse", "pad")
_HELD_S: Final = 0.1
"""The dataset holds the last sample of a recording that lacks no more than this; nobody needs to choose."""


@dataclass(frozen=True)
class FileUnit:
    """One recording in one file (for WFDB its header), with its index row; `short` is refuse or pad."""

    entry: Entry
    path: Path
    short: str = "refuse"

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.entry.record_id


def load_wfdb(unit: FileUnit) -> Iterator[tuple[Entry, Recording]]:
    """Read one WFDB record."""
    yield unit.entry, fit_window(read_record(unit.path), unit.short)


def check_short(source: str, short: str) -> None:
    """Raise UsageError unless `short` is refuse or pad."""
    if short not in SHORT:
        raise UsageError(f"source '{source}': short is refuse or pad, not {short!r}")


def fit_window(recording: Recording, short: str) -> Recording:
    """Return a recording that fills a window, if `short` says how.

    With "pad", samples that were not measured (NaN) are put in front of a recording shorter than the
    window. The front end starts at the first measured sample, as on a bed where the electrodes were just put
    on: the window is zero before, and the signal stands at its end with the very counts that it has unpadded
    (for which the padding is a whole number of resampling periods). Nothing is repeated or made up. A model
    can see from the zeros that the recording was short: compare cohorts with that in mind.

    Raises
    ------
    RecordError
        If it is shorter than the window and `short` is "refuse", or shorter than `MIN_S`.
    """
    missing = math.ceil(WINDOW_S * recording.rate_hz - recording.samples_mv.shape[1])
    if missing <= 0 or (short == "refuse" and missing <= _HELD_S * recording.rate_hz):
        return recording
    if short == "refuse":
        raise RecordError(
            f"{recording.source}: {recording.duration_s:.2f} s long; a window needs {WINDOW_S:g} s. "
            "The option short=pad puts such a recording at the end of the window, nothing measured before it"
        )
    if recording.duration_s < MIN_S:
        raise RecordError(
            f"{recording.source}: {recording.duration_s:.2f} s long, under {MIN_S:g} s; too short to pad"
        )
    period = _resampling_period(recording.rate_hz)
    padding = math.ceil(missing / period) * period
    samples_mv = np.pad(recording.samples_mv, ((0, 0), (padding, 0)), constant_values=np.float32(np.nan))
    return replace(recording, samples_mv=samples_mv)


def read_comments(header: Path) -> dict[str, str]:
    """Return the comments of a WFDB header: "# Age: 56" or "#<age>: 56" gives {"age": "56"}.

    Keys are lower-case; of equal keys the first counts; lines without a colon are left out.

    Raises
    ------
    RecordError
        If the file cannot be read.
    """
    try:
        text = header.read_text("utf-8", errors="replace")
    except OSError as error:
        raise RecordError(
            f"{header}: cannot be read ({error.strerror}); is the download complete?"
        ) from error
    comments: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.lstrip("# ").partition(":")
        if line.startswith("#") and colon:
            comments.setdefault(key.strip("<> ").lower(), value.strip())
    return comments


def find_headers(folder: Path, *, what: str) -> list[Path]:
    """Return all WFDB headers below `folder`, sorted by path.

    Raises
    ------
    RecordError
        If there are none.
    """
    headers = sorted(folder.rglob("*.hea"))
    if not headers:
        raise RecordError(f"{folder}: no WFDB header (.hea) in it or below; --from must name {what}")
    return headers


def refuse_repeated(names: Iterable[str], *, where: object) -> None:
    """Raise RecordError if a record id stands twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecordError(
            f"{where}: {len(twice)} record ids stand twice, the first is {twice[0]!r}; "
            "give each recording an id of its own (is a folder there twice?)"
        )


def digest_of(rows: Iterable[object]) -> str:
    """Return the SHA-256 over what identifies a cohort's content; each row by its repr."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode() + b"\n")
    return digest.hexdigest()


def _resampling_period(rate_hz: float) -> int:
    """Return after how many samples input and output of the front end's resampler coincide again."""
    out_hz = FrontEndSpec().rate_hz
    if not (rate_hz.is_integer() and out_hz.is_integer()):
        return 1
    return int(rate_hz) // math.gcd(int(rate_hz), int(out_hz))
