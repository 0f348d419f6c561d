"""When each record of an EDF+ file begins: the time-keeping lists, which edfio keeps to itself.

Every data record of EDF+ begins its first signal "EDF Annotations" with `+seconds`, then bytes 20, 20
(EDF+ specification, 2.2.4).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import numpy as np

from ecgedge.errors import RecordError

_ANNOTATIONS: Final = b"EDF Annotations "
_ONSET: Final = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15[\d.]*)?\x14")
# Widths of the header's columns for each signal: label, ... (96 + 5 * 8 + 80 bytes), samples in a record
_BEFORE_COUNTS: Final = 16 + 80 + 5 * 8 + 80


def record_onsets_s(path: Path, n_records: int, *, source: str) -> list[float]:
    """Return the onset of each data record in seconds after the file's start time.

    Raises
    ------
    RecordError
        If the file has no annotation signal, or a record does not begin with its onset.
    """
    with path.open("rb") as file:
        n_signals = int(file.read(256)[252:256])
        header = file.read(256 * n_signals)
    labels = [header[16 * i : 16 * i + 16] for i in range(n_signals)]
    at = _BEFORE_COUNTS * n_signals
    counts = [int(header[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
    if _ANNOTATIONS not in labels:
        raise RecordError(
            f"{source}: an EDF+D file without the signal 'EDF Annotations', which says when each record begins; "
            "export it again, or as EDF+C if it has no gaps"
        )
    signal = labels.index(_ANNOTATIONS)
    first = sum(counts[:signal])
    records = np.memmap(path, "<i2", "r", 256 * (n_signals + 1), (n_records, sum(counts)))
    return [
        _onset_s(row[first : first + counts[signal]].tobytes(), number, source)
        for number, row in enumerate(records, start=1)
    ]


def _onset_s(annotations: bytes, number: int, source: str) -> float:
    match = _ONSET.match(annotations)
    onset_s = float(match[1]) if match else math.nan
    if not math.isfinite(onset_s):
        raise RecordError(
            f"{source}: record {number} does not say when it begins (seen: {annotations[:12]!r}); "
            "export the file again"
        )
    return onset_s
