"""WFDB records (PhysioNet): a .hea header with .dat, or .mat, sample files. Needs the extra `records`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, missing_extra
from ecgedge.records._common import LeadSelection, common_rate_hz, dropped_metadata, mv_per_unit, select_leads
from ecgedge.records._wfdb_header import SignalSpec, WfdbHeader, info_metadata, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

# signal(5): bytes per sample. The compressed formats 508, 516 and 524 (FLAC) have no fixed size.
_BYTES_PER_SAMPLE: Final = {
    "8": 1.0,
    "16": 2.0,
    "24": 3.0,
    "32": 4.0,
    "61": 2.0,
    "80": 1.0,
    "160": 2.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
_PATIENT_KEYS: Final = ("patient_id", "patient id", "subject_id", "subject id", "patient")
_TEXT_PROBE_BYTES: Final = 4096


def read_wfdb(path: Path) -> Recording:
    """Read the WFDB record of which `path` is the header, the sample file or the bare stem.

    Samples come in the header's physical unit (mV, uV, nV or V) and are converted to millivolts; where the
    header writes no unit, header(5) defines millivolts. Channels that are no ECG lead are dropped and listed
    in `metadata["dropped_channels"]`. A checksum that differs from the header's is noted in
    `metadata["checksum"]` and not refused, since published sets (cinc2017) carry wrong ones.

    Raises
    ------
    RecordError
        If a file is missing, truncated or not WFDB, or a lead, unit, gain or rate is not usable.
    UsageError
        If the package wfdb is not installed.
    """
    stem = _stem(path)
    source = str(path)
    header = read_header(stem.with_name(stem.name + ".hea"))
    selection = select_leads([signal.name for signal in header.signals], source=source)
    signals = [header.signals[channel] for channel in selection.channels]
    rate_hz = _common_rate_hz(header, selection, source=source)
    factors = [_mv_factor(s, lead, source) for s, lead in zip(signals, selection.leads, strict=True)]
    for file_name in dict.fromkeys(signal.file_name for signal in signals):
        _check_file(stem.parent / file_name, header, source=source)
    record = _decode(stem, selection.channels, source=source)
    metadata = info_metadata(header.info)
    patient_ids = [metadata.pop(key) for key in _PATIENT_KEYS if key in metadata]
    metadata |= dropped_metadata(selection.dropped) | _checksum_metadata(record)
    return Recording(
        samples_mv=_scaled(record.e_p_signal, factors),
        rate_hz=rate_hz,
        leads=selection.leads,
        source=source,
        patient_id=patient_ids[0] if patient_ids else None,
        metadata=metadata | {"format": "wfdb"},
    )


def _stem(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path


def _common_rate_hz(header: WfdbHeader, selection: LeadSelection, *, source: str) -> float:
    """Return the rate that all leads share: the frame rate times the samples in a frame."""
    rates_hz = [
        header.frame_rate_hz * header.signals[channel].samples_per_frame for channel in selection.channels
    ]
    return common_rate_hz(selection.leads, rates_hz, source=source)


def _mv_factor(signal: SignalSpec, lead: str, source: str) -> float:
    if signal.gain is None:
        raise RecordError(
            f"{source}: lead {lead} is uncalibrated (the header's gain is zero or missing); "
            "write the gain in units per mV into the header if you know it"
        )
    # header(5): "If the units field is absent, the physical unit may be assumed to be 1 millivolt"
    return mv_per_unit("mV" if signal.units is None else signal.units, lead=lead, source=source)


def _check_file(path: Path, header: WfdbHeader, *, source: str) -> None:
    """Refuse a sample file that is missing, shorter than the header says, or text."""
    try:
        there = path.is_file()
    except OSError as error:  # a name that no file system takes, or a folder that we may not look into
        raise RecordError(
            f"{source}: the header names a file that cannot be looked for ({error.strerror}): {path.name!r:.60}; "
            "it is damaged, fetch it again"
        ) from error
    if not there:
        raise RecordError(
            f"{source}: no such file {path.name} in {path.parent}; the header names it: fetch it too"
        )
    stored = [signal for signal in header.signals if signal.file_name == path.name]
    storage_format = stored[0].storage_format
    samples_per_frame = sum(signal.samples_per_frame for signal in stored)
    size = path.stat().st_size - stored[0].byte_offset
    bytes_per_frame = _BYTES_PER_SAMPLE.get(storage_format, 0.0) * samples_per_frame
    needed = math.floor((header.frames or 0) * bytes_per_frame)
    if needed > size:
        held = max(0, math.floor(size / bytes_per_frame)) if bytes_per_frame else 0
        raise RecordError(
            f"{source}: {path.name} is truncated: the header says {header.frames} samples a lead, "
            f"the file holds {held}; fetch the file again, or correct the header"
        )
    with path.open("rb") as file:
        probe = file.read(_TEXT_PROBE_BYTES)
    # a newline too: a steady signal of format 80 may consist of printable bytes
    if b"\n" in probe and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in probe):
        raise RecordError(
            f"{source}: {path.name} is a text file, not WFDB samples; point the header at the samples"
        )


def _import_wfdb() -> Any:
    try:
        with warnings.catch_warnings():
            # wfdb 4.3 builds a table with an argument that pandas 3 deprecates, at import
            warnings.simplefilter("ignore", DeprecationWarning)
            import wfdb
    except ImportError as error:
        raise missing_extra(extra="records", package="wfdb", purpose="Reading WFDB records") from error
    return wfdb


def _decode(stem: Path, channels: Sequence[int], *, source: str) -> Any:
    """Return the library's record with physical samples of `channels`, each at its own rate."""
    wfdb = _import_wfdb()
    try:
        return wfdb.rdrecord(str(stem.absolute()), channels=list(channels), smooth_frames=False)
    # What wfdb 4.3 was seen to raise for damaged records; it has no base class for its errors.
    except (ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError, RuntimeError) as error:
        raise RecordError(
            f"{source}: the samples cannot be decoded ({type(error).__name__}: {error}); "
            "the record is damaged or uses a storage format that is not supported: fetch it again"
        ) from error


def _checksum_metadata(record: Any) -> dict[str, str]:
    """Compare the 16-bit sums of the stored integers; header(5) lets the field be missing, and signs it.

    A lead with missing samples is not compared: some of its missing samples may not be in the file (skew).
    """
    wrong = False
    for row, gain, zero, told in zip(
        record.e_p_signal, record.adc_gain, record.baseline, record.checksum, strict=True
    ):
        if told is not None and not np.isnan(row).any():
            wrong |= (told - int(np.rint(row * gain + zero).astype(np.int64).sum())) % 65536 != 0
    return {"checksum": "mismatch"} if wrong else {}


def _scaled(rows: Iterable[NDArray[np.float64]], factors: Sequence[float]) -> NDArray[np.float32]:
    return np.stack([row * factor for row, factor in zip(rows, factors, strict=True)]).astype(np.float32)
