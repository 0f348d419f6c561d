"""Fast reader of the one WFDB layout that large archives use: all signals in one file, format 16.

Parsing the header is most of the cost of a general WFDB reader. Anything unusual goes to `ecgedge.records`,
so this file may refuse freely. Layout: https://physionet.org/physiotools/wag/header-5.htm, signal-5.htm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS, canonical_lead

_GAIN: Final = re.compile(r"^([0-9.]+)(?:\((-?\d+)\))?(?:/(\w+))?$")
_INVALID: Final = -32768
"""Format 16 marks a sample that was not recorded with the most negative number."""


@dataclass(frozen=True)
class Header16:
    """A header of the plain kind; `gain` is counts per mV and `baseline` the counts at 0 mV, one per lead."""

    dat: str
    rate_hz: float
    samples: int
    leads: tuple[str, ...]
    gain: NDArray[np.float64]
    baseline: NDArray[np.float64]


def read_record(header: Path) -> Recording:
    """Read a WFDB record by its header, quickly if it is plain, else through `ecgedge.records.read`.

    Raises
    ------
    RecordError
        If a file is missing, short, or no WFDB record.
    """
    try:
        plain = parse_header(header.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{header}: the header cannot be read ({error}); is the download complete?"
        ) from error
    if plain is None:
        return records.read(header, gaps="keep")
    return _read_plain(header, plain)


def parse_header(text: str) -> Header16 | None:
    """Read a header, or return None if it is not of the plain kind."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0].split() if lines else []
    if len(first) < 4 or "/" in first[0] or not first[1].isdigit() or not first[3].isdigit():
        return None
    signals = [line.split() for line in lines[1:]]
    if len(signals) != int(first[1]) or any(len(s) < 9 or s[1] != "16" for s in signals):
        return None
    if len({s[0] for s in signals}) != 1 or not first[2].replace(".", "", 1).isdigit():
        return None
    return _plain_header(first, signals)


def _plain_header(first: list[str], signals: list[list[str]]) -> Header16 | None:
    gains = [_GAIN.match(s[2]) for s in signals]
    try:
        leads = tuple(canonical_lead(s[8]) for s in signals)
    except ValueError:
        return None
    if len(set(leads)) != len(leads):
        return None
    values = [
        (float(g[1]), float(g[2] or s[4]), g[3] or "mV") for g, s in zip(gains, signals, strict=True) if g
    ]
    if len(values) != len(signals) or any(gain <= 0 or unit != "mV" for gain, _, unit in values):
        return None
    gain = np.array([v[0] for v in values])
    baseline = np.array([v[1] for v in values])
    return Header16(signals[0][0], float(first[2]), int(first[3]), leads, gain, baseline)


def _read_plain(header: Path, plain: Header16) -> Recording:
    path = header.parent / plain.dat
    try:
        counts = np.fromfile(path, "<i2")
    except OSError as error:
        raise RecordError(
            f"{path}: the samples cannot be read ({error}); is the download complete?"
        ) from error
    if counts.size != plain.samples * len(plain.leads):
        raise RecordError(
            f"{path}: holds {counts.size} samples, the header promises {plain.samples} x {len(plain.leads)}; "
            "the download is incomplete"
        )
    counts = counts.reshape(plain.samples, len(plain.leads))
    order = sorted(range(len(plain.leads)), key=lambda i: STANDARD_LEADS.index(plain.leads[i]))
    chosen = counts if order == list(range(len(order))) else np.take(counts, order, axis=1)
    samples_mv = _millivolts(chosen, plain.gain[order], plain.baseline[order])
    leads = tuple(plain.leads[i] for i in order)
    # The transposed view: sample after sample, as in the file, is also how the dataset's front end works.
    return Recording(samples_mv.T, plain.rate_hz, leads, source=str(header))


def _millivolts(
    counts: NDArray[np.int16], gain: NDArray[np.float64], baseline: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Scale (samples, leads). Where all leads share a gain, whole-array arithmetic is several times faster."""
    if (gain == gain[0]).all() and (baseline == baseline[0]).all():
        gain, baseline = gain[:1], baseline[:1]
    samples_mv = counts - baseline
    samples_mv /= gain
    missing = counts == _INVALID
    if missing.any():
        samples_mv[missing] = np.nan
    return samples_mv.astype(np.float32)
