"""The text header of a WFDB record, read strictly.

Source: header(5) of the WFDB Applications Guide. The wfdb library decodes the samples, but its header
reader fills in what is missing or malformed: a rate of -500 becomes 250 Hz, an uncalibrated signal gets 200
units per millivolt, and "\u00b5V" becomes "V". For a bedside monitor those are errors, so the header is read here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecgedge.errors import RecordError

MAX_HEADER_BYTES: Final = 1_000_000

# Digits are limited where they become integers: nothing real is longer, and int() refuses 4,300 digits.
# NAME[/SEGMENTS] SIGNALS [RATE[/COUNTER] [FRAMES [TIME [DATE]]]]
_RECORD_LINE: Final = re.compile(
    r"(?P<name>[^\s/]+)(/(?P<segments>\d{1,9}))?\s+(?P<signals>\d{1,9})"
    r"(\s+(?P<rate>[-+]?\d*\.?\d+([eE][-+]?\d+)?)(/\S*)?(\s+(?P<frames>\d{1,15})(\s.*)?)?)?",
    re.ASCII,
)
# FORMAT[xSAMPLES_PER_FRAME][:SKEW][+BYTE_OFFSET]
_FORMAT: Final = re.compile(
    r"(?P<format>\d{1,9})(x(?P<per_frame>\d{1,9}))?(:\d{1,9})?(\+(?P<offset>\d{1,15}))?", re.ASCII
)
# GAIN[(BASELINE)][/UNITS]; only the spellings of the gain that the wfdb library reads alike
_GAIN: Final = re.compile(r"(?P<gain>-?\d*\.?\d*(e[-+]?\d+)?)(\(-?\d{1,15}\))?(/(?P<units>\S+))?", re.ASCII)
_INFO_PAIR: Final = re.compile(r"<?(?P<key>[A-Za-z][\w .()/-]*)>?\s*:\s*(?P<value>.+)")
# MIT-BIH's first info line: age, sex, then tape numbers
_AGE_SEX: Final = re.compile(r"(?P<age>\d{1,3})\s+(?P<sex>[MF])(\s.*)?")


@dataclass(frozen=True)
class SignalSpec:
    """One signal line. `gain` is None if the signal is uncalibrated; `units` is None if not written."""

    file_name: str
    storage_format: str
    samples_per_frame: int
    byte_offset: int
    gain: float | None
    units: str | None
    name: str


@dataclass(frozen=True)
class WfdbHeader:
    """A single-segment header. `frames` is None if not written; `info` are the closing comment lines."""

    frame_rate_hz: float
    frames: int | None
    signals: tuple[SignalSpec, ...]
    info: tuple[str, ...]


def read_header(path: Path) -> WfdbHeader:
    """Read the header at `path`.

    Raises
    ------
    RecordError
        If the file is missing, is no WFDB header, or leaves out what must not be guessed.
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such file; a WFDB record needs its header (.hea) beside the samples")
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise RecordError(f"{path}: {path.stat().st_size} bytes are too many for a WFDB header; wrong file?")
    return parse_header(path.read_bytes().decode("utf-8", errors="replace"), source=str(path))


def parse_header(text: str, *, source: str) -> WfdbHeader:
    """Parse the text of a header; see `read_header`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    places = [i for i, line in enumerate(lines) if not line.startswith("#")]
    if not places:
        raise RecordError(f"{source}: the header is empty; expected a line 'NAME SIGNALS RATE SAMPLES'")
    match = _record_line(lines[places[0]], source)
    signal_lines = [lines[i] for i in places[1:]]
    if len(signal_lines) != int(match["signals"]):
        raise RecordError(
            f"{source}: the first line announces {match['signals']} signals but {len(signal_lines)} are "
            "described; the header is damaged: fetch the record again"
        )
    return WfdbHeader(
        frame_rate_hz=float(match["rate"]),
        frames=int(match["frames"]) if match["frames"] else None,
        signals=tuple(_signal_line(line, source) for line in signal_lines),
        info=tuple(line.lstrip("#").strip() for line in lines[places[-1] + 1 :]),
    )


def _record_line(line: str, source: str) -> re.Match[str]:
    match = _RECORD_LINE.fullmatch(line)
    if match is None:
        raise RecordError(
            f"{source}: not a WFDB header: the first line reads {line[:60]!r}; "
            "expected 'NAME SIGNALS RATE SAMPLES', for example '100 2 360 650000'"
        )
    if match["segments"]:
        raise RecordError(
            f"{source}: a record of {match['segments']} segments; read its segments one by one "
            "(their headers lie beside this one)"
        )
    if int(match["signals"]) == 0:
        raise RecordError(f"{source}: the header announces no signals; nothing can be read from it")
    if match["rate"] is None:
        raise RecordError(f"{source}: the header gives no sampling rate; write it behind the signal count")
    if match["frames"] is not None and int(match["frames"]) == 0:
        raise RecordError(
            f"{source}: the header announces no samples; write how many there are, or leave it out"
        )
    return match


def _signal_line(line: str, source: str) -> SignalSpec:
    fields = line.split(maxsplit=8)
    layout = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else None
    if layout is None or (len(fields) > 2 and gain is None):
        raise RecordError(
            f"{source}: the signal line {line[:60]!r} cannot be read; "
            "expected 'FILE FORMAT GAIN/UNITS ... NAME', for example '100.dat 212 200/mV 11 1024 995 0 0 MLII'"
        )
    if Path(fields[0]).name != fields[0] or "\\" in fields[0]:
        raise RecordError(
            f"{source}: the signal file {fields[0]!r} lies outside the record's folder: refused"
        )
    return SignalSpec(
        file_name=fields[0],
        storage_format=layout["format"],
        samples_per_frame=int(layout["per_frame"] or 1),
        byte_offset=int(layout["offset"] or 0),
        gain=_calibrated_gain(gain["gain"]) if gain else None,
        units=gain["units"] if gain else None,
        name=fields[8].strip() if len(fields) > 8 else "",
    )


def _calibrated_gain(text: str) -> float | None:
    """Return the gain, or None where header(5) calls the signal uncalibrated (zero or missing)."""
    try:
        return float(text) or None
    except ValueError:
        return None


def info_metadata(info: Sequence[str]) -> dict[str, str]:
    """Turn info lines into metadata: "Age: 77" gives {"age": "77"}; other lines are joined as "comments".

    The first of several equal keys wins. MIT-BIH's "69 M 1085 1629 x1" gives age and sex too.
    """
    metadata: dict[str, str] = {}
    comments = [line for line in info if line]
    for line in comments:
        pair = _INFO_PAIR.fullmatch(line)
        age_sex = _AGE_SEX.fullmatch(line)
        if pair:
            metadata.setdefault(pair["key"].strip().lower(), pair["value"].strip())
        elif age_sex:
            metadata.setdefault("age", age_sex["age"])
            metadata.setdefault("sex", age_sex["sex"])
    free = [line for line in comments if not _INFO_PAIR.fullmatch(line)]
    if free:
        metadata["comments"] = "\n".join(free)
    return metadata
