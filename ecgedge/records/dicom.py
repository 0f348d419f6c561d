"""DICOM ECG waveforms (12-lead, general or ambulatory ECG storage). Needs the extra `records`."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, missing_extra
from ecgedge.leads import canonical_lead
from ecgedge.records._common import dropped_metadata, mv_per_unit, select_leads

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

# DICOM PS3.16 CID 3001: MDC "2:1" and SCP-ECG "5.6.3-9-1" end in the same number for the same lead.
_LEAD_OF_CODE: Final = {
    1: "I",
    2: "II",
    **{number: f"V{number - 2}" for number in range(3, 9)},
    61: "III",
    62: "aVR",
    63: "aVL",
    64: "aVF",
}
_CODING_SCHEMES: Final = {"MDC": "2:", "SCPECG": "5.6.3-9-"}
# PS3.3 C.10.9.1.5: linear samples only; MB and AB are mu-law and A-law audio
_SAMPLE_TYPES: Final = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "<i2",
    (16, "US"): "<u2",
    (32, "SL"): "<i4",
    (32, "UL"): "<u4",
}


def read_dicom(path: Path) -> Recording:
    """Read the first rhythm (not median beat) multiplex group of a DICOM ECG.

    millivolts = (stored * sensitivity * correction factor + baseline) * unit, PS3.3 C.10.9.1.4.3 to .5.
    Samples equal to the padding value become NaN.

    Raises
    ------
    RecordError
        If the file is no DICOM ECG, is damaged, or lacks a lead name, sensitivity or unit.
    UsageError
        If the package pydicom is not installed.
    """
    source = str(path)
    pydicom = _import_pydicom()
    # What pydicom raises for damaged files; an absent element is an AttributeError.
    damage = (
        pydicom.errors.InvalidDicomError,
        pydicom.errors.BytesLengthException,
        struct.error,
        *(
            AttributeError,
            ValueError,
            TypeError,
            LookupError,
            OSError,
            EOFError,
            MemoryError,
            NotImplementedError,
        ),
    )
    try:
        with warnings.catch_warnings():
            # pydicom warns of values against the letter of the standard, mostly UIDs; samples are checked here
            warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\b")
            dataset = pydicom.dcmread(path)
            return _recording(dataset, _rhythm_group(dataset, source), source)
    except pydicom.errors.InvalidDicomError as error:
        raise RecordError(
            f"{source}: no DICOM file, or its head is missing (DICM at byte 128); export it again"
        ) from error
    except damage as error:
        raise RecordError(
            f"{source}: not a readable DICOM ECG ({type(error).__name__}: {error}); "
            "the file is damaged, incomplete or no DICOM: export it again"
        ) from error


def _import_pydicom() -> ModuleType:
    try:
        import pydicom
        import pydicom.errors
    except ImportError as error:
        raise missing_extra(extra="records", package="pydicom", purpose="Reading DICOM ECGs") from error
    return pydicom


def _rhythm_group(dataset: Dataset, source: str) -> Dataset:
    if not dataset.original_encoding[1]:
        raise RecordError(f"{source}: big-endian DICOM is not read; convert it to Explicit VR Little Endian")
    groups: list[Dataset] = list(dataset.get("WaveformSequence") or [])
    if not groups:
        kind = dataset.SOPClassUID.name if "SOPClassUID" in dataset else "DICOM object of unknown class"
        raise RecordError(f"{source}: a {kind} without waveforms; expected an ECG waveform object")
    labels = [str(group.get("MultiplexGroupLabel") or "").strip() for group in groups]
    for group, label in zip(groups, labels, strict=True):
        if label.upper() == "RHYTHM":
            return group
    for group, label in zip(groups, labels, strict=True):
        if not label and group.get("WaveformOriginality") == "ORIGINAL":
            return group
    raise RecordError(
        f"{source}: no rhythm waveform; multiplex groups seen: {', '.join(map(repr, labels))}. "
        "Export the continuous recording, not median beats"
    )


def _recording(dataset: Dataset, group: Dataset, source: str) -> Recording:
    stored = _stored_samples(group, source)
    channels = list(group.ChannelDefinitionSequence)
    if len(channels) != stored.shape[0]:
        raise RecordError(
            f"{source}: {len(channels)} channels are defined but {stored.shape[0]} stored; export the file again"
        )
    selection = select_leads([_channel_name(channel, source) for channel in channels], source=source)
    rows = [
        _millivolts(stored[i], channels[i], lead, source)
        for i, lead in zip(selection.channels, selection.leads, strict=True)
    ]
    return Recording(
        samples_mv=np.stack(rows).astype(np.float32),
        rate_hz=float(group.SamplingFrequency),
        leads=selection.leads,
        source=source,
        patient_id=str(dataset.get("PatientID") or "").strip() or None,
        metadata=_metadata(dataset) | dropped_metadata(selection.dropped),
    )


def _stored_samples(group: Dataset, source: str) -> NDArray[np.float64]:
    """Return stored samples (n_channels, n_samples), NaN where they equal the padding value."""
    kind = (int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation))
    if kind not in _SAMPLE_TYPES:
        raise RecordError(
            f"{source}: samples are {kind[0]}-bit {kind[1]}; expected linear samples (SS, SL, SB ...)"
        )
    n_channels, n_samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    dtype = np.dtype(_SAMPLE_TYPES[kind])
    needed = n_channels * n_samples * dtype.itemsize
    data = bytes(group.WaveformData)
    if len(data) < needed:
        raise RecordError(
            f"{source}: the waveform is truncated: {n_samples} samples of {n_channels} channels need "
            f"{needed} bytes, the file holds {len(data)}; export it again"
        )
    stored = np.frombuffer(data[:needed], dtype).reshape(n_samples, n_channels).T
    samples: NDArray[np.float64] = stored.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if padding is not None:
        samples[stored == np.frombuffer(bytes(padding)[: dtype.itemsize], dtype)[0]] = np.nan
    return samples


def _channel_name(channel: Dataset, source: str) -> str:
    """Return the lead that the code says, else the code's meaning, else the label; refuse a contradiction."""
    code = channel.ChannelSourceSequence[0]
    meaning = str(code.get("CodeMeaning") or channel.get("ChannelLabel") or "")
    by_code = _lead_of_code(str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", "")))
    by_meaning = _lead_of_meaning(meaning)
    if by_code and by_meaning and by_code != by_meaning:
        raise RecordError(
            f"{source}: a channel is coded {code.CodeValue} (lead {by_code}) but called {meaning!r}; "
            "the leads cannot be trusted: export the file again"
        )
    return by_code or by_meaning or meaning


def _lead_of_code(scheme: str, value: str) -> str | None:
    prefix = _CODING_SCHEMES.get(scheme)
    number = value[len(prefix) :] if prefix and value.startswith(prefix) else ""
    return _LEAD_OF_CODE.get(int(number)) if number.isascii() and number.isdigit() else None


def _lead_of_meaning(meaning: str) -> str | None:
    """Return the lead of a code meaning such as "Lead I (Einthoven)" or "aVR, augmented voltage, right"."""
    try:
        return canonical_lead(meaning.split(",")[0])
    except ValueError:
        return None


def _millivolts(stored: NDArray[np.float64], channel: Dataset, lead: str, source: str) -> NDArray[np.float64]:
    sensitivity = channel.get("ChannelSensitivity")
    units = channel.get("ChannelSensitivityUnitsSequence")
    if sensitivity is None or not float(sensitivity) or not units:
        raise RecordError(
            f"{source}: lead {lead} is uncalibrated (no sensitivity or unit); export the file with it"
        )
    correction = _number(channel, "ChannelSensitivityCorrectionFactor", 1.0)
    baseline = _number(channel, "ChannelBaseline", 0.0)
    factor = mv_per_unit(str(units[0].CodeValue), lead=lead, source=source)
    return (stored * (float(sensitivity) * correction) + baseline) * factor


def _number(channel: Dataset, keyword: str, default: float) -> float:
    """Return an optional decimal; an element that is present but empty counts as absent."""
    value: Any = channel.get(keyword)
    return default if value is None else float(value)


def _metadata(dataset: Dataset) -> dict[str, str]:
    fields = {
        "age": dataset.get("PatientAge"),
        "sex": dataset.get("PatientSex"),
        "manufacturer": dataset.get("Manufacturer"),
    }
    return {"format": "dicom"} | {key: str(value) for key, value in fields.items() if value}
