"""Recordings from files: `read` any format that is known, `describe` it, `write_npz` it.

A later format is one more module with a function `Path -> Recording`, an entry in `FORMATS` and its suffixes
in `_SUFFIXES`, or its root element in `_XML_ROOTS`. Libraries are imported when a file of theirs is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np

from ecgedge.ecg import Recording, require_gapless
from ecgedge.errors import RecordError, UsageError
from ecgedge.records._describe import describe
from ecgedge.records._xml import root_name
from ecgedge.records.aecg import read_aecg
from ecgedge.records.dicom import read_dicom
from ecgedge.records.edf import read_edf
from ecgedge.records.muse import read_muse
from ecgedge.records.npz import read_npz, write_npz
from ecgedge.records.schiller import read_schiller
from ecgedge.records.sierra import read_sierra
from ecgedge.records.vital import read_vital
from ecgedge.records.wfdb import read_wfdb

__all__ = ["FORMATS", "describe", "read", "write_npz"]

Gaps = Literal["refuse", "keep"]

FORMATS: Final[Mapping[str, Callable[[Path], Recording]]] = {
    "wfdb": read_wfdb,
    "dicom": read_dicom,
    "edf": read_edf,
    "vital": read_vital,
    "aecg": read_aecg,
    "schiller": read_schiller,
    "muse": read_muse,
    "sierra": read_sierra,
    "npz": read_npz,
}
"""Every format that is read today, by name."""

_SUFFIXES: Final = {
    ".hea": "wfdb",
    ".dat": "wfdb",
    ".mat": "wfdb",
    ".dcm": "dicom",
    ".edf": "edf",
    ".vital": "vital",
    ".npz": "npz",
}
# XML says by its root element which dialect it is, whatever the file is called.
_XML_ROOTS: Final = {
    "AnnotatedECG": "aecg",
    "com.xiriuz.sema.xml.schillerEDI.SchillerEDI": "schiller",
    "RestingECG": "muse",
    "restingecgdata": "sierra",
}
_READ_TODAY: Final = (
    "WFDB (.hea, .dat, .mat with its .hea, or the bare record name), DICOM ECG (.dcm), EDF (.edf), .vital, "
    "XML of HL7 aECG, GE MUSE, Philips Sierra and Schiller (.xml) and .npz"
)
# Where the content says what it is, it outweighs the suffix: (offset, magic bytes, format)
_MAGIC: Final = ((128, b"DICM", "dicom"), (0, b"PK\x03\x04", "npz"))
# Byte order marks of UTF-8 and UTF-16, the zero halves of UTF-16, white space
_BEFORE_XML: Final = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"


def read(path: str | Path, *, gaps: Gaps = "refuse") -> Recording:
    """Read a recording from a file of any known format.

    Parameters
    ----------
    path
        The file; for WFDB its header, its sample file or the bare record name.
    gaps
        "refuse" raises if any sample is missing; "keep" leaves NaN where samples are missing.

    Returns
    -------
    Recording
        float32 millivolts, leads in standard order.

    Raises
    ------
    RecordError
        If there is no such file, the format is not read, the file is damaged, or samples are missing.
    UsageError
        If a library is missing, or `gaps` is neither "refuse" nor "keep".
    """
    if gaps not in ("refuse", "keep"):
        raise UsageError(f"gaps={gaps!r} is not known; expected 'refuse' or 'keep'")
    path = Path(path)
    recording = FORMATS[_format_of(path)](path)
    missing = np.isnan(recording.samples_mv)
    if missing.all():
        raise RecordError(f"{path}: every sample is missing (NaN); there is no signal in this file")
    return recording if gaps == "keep" else require_gapless(recording)


def _format_of(path: Path) -> str:
    if path.is_dir():
        raise RecordError(f"{path}: a folder; give one recording in it")
    if not path.is_file():
        return _format_of_bare_name(path)
    with path.open("rb") as file:
        start = file.read(132)
    for offset, magic, name in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return name
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if _header_of(path).is_file():
        return "wfdb"
    # last: samples of a suffix that is known may begin with the same bytes
    if start.lstrip(_BEFORE_XML).startswith(b"<"):
        return _format_of_xml(path)
    seen = f"the format of a {suffix or 'suffixless'} file is not known"
    raise RecordError(
        f"{path}: {'no XML in spite of its name' if suffix == '.xml' else seen}; ecgedge reads {_READ_TODAY}"
    )


def _format_of_xml(path: Path) -> str:
    root = root_name(path)
    if root not in _XML_ROOTS:
        raise RecordError(
            f"{path}: XML that begins with <{root[:60]}> is not read; ecgedge reads {_READ_TODAY}"
        )
    return _XML_ROOTS[root]


def _format_of_bare_name(path: Path) -> str:
    if _header_of(path).is_file():
        return "wfdb"
    raise RecordError(f"{path}: no such file; ecgedge reads {_READ_TODAY}")


def _header_of(path: Path) -> Path:
    return path.with_name(path.name + ".hea")
