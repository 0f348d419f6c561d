"""Philips' XML (Sierra ECG 1.03 and 1.04, of PageWriter and HeartStart). Needs the extra `records`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgedge.ecg import Recording, check_rate
from ecgedge.errors import RecordError
from ecgedge.leads import LIMB_LEADS, STANDARD_LEADS
from ecgedge.records._common import dropped_metadata, select_leads, stack_rows
from ecgedge.records._xli import decode_xli
from ecgedge.records._xml import attribute, base64_bytes, count, number, parse_xml, text_at

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

_VERSIONS: Final = ("1.03", "1.04", "1.04.01", "1.04.02")
_DETAILS: Final = "dataacquisition/signalcharacteristics"
_PATIENT: Final = "patient/generalpatientdata/"
_MV_PER_UV: Final = 1e-3
_MAX_SAMPLES: Final = 1_000_000
"""Half an hour at 500 Hz: samples are unpacked one by one, and the length is a claim of the file."""


def read_sierra(path: Path) -> Recording:
    """Read the waveforms of a Philips XML file; representative beats are left alone.

    millivolts = stored * resolution * 0.001. The format gives the resolution in microvolts and writes no
    unit; the calibration pulse in the samples of a PageWriter, 200 units of 5 for 1 mV, bears it out. That
    pulse is part of the samples, nothing in the file tells where, and it is left in.

    Raises
    ------
    RecordError
        If the version, the encoding or the compression is another, the file is damaged, or its resolution is
        missing.
    UsageError
        If the package defusedxml or sierraecg is not installed.
    """
    source = str(path)
    root = parse_xml(path)
    _check_version(root, source)
    details, waveforms = root.find(_DETAILS), root.find("waveforms/parsedwaveforms")
    if details is None or waveforms is None:
        raise RecordError(
            f"{source}: no {_DETAILS} or waveforms/parsedwaveforms; export the file again, complete"
        )
    rate_hz = _rate_hz(details, waveforms, source)
    names = _lead_names(details, waveforms, source)
    stored = _stored(waveforms, names, rate_hz, source)
    selection = select_leads(names, source=source)
    scale_mv = _resolution_uv(details, waveforms, source) * _MV_PER_UV
    rows = [stored[channel] * scale_mv for channel in selection.channels]
    return Recording(
        samples_mv=stack_rows(rows, selection.leads, source=source),
        rate_hz=rate_hz,
        leads=selection.leads,
        source=source,
        patient_id=(root.findtext(_PATIENT + "patientid") or "").strip() or None,
        metadata=_metadata(root) | dropped_metadata(selection.dropped),
    )


def _check_version(root: Element, source: str) -> None:
    kind = text_at(root, "documentinfo/documenttype", source=source)
    version = text_at(root, "documentinfo/documentversion", source=source)
    if kind not in ("SierraECG", "PhilipsECG") or version not in _VERSIONS:
        raise RecordError(
            f"{source}: a document of type {kind[:40]!r}, version {version[:40]!r}; versions "
            f"{', '.join(_VERSIONS)} of SierraECG and PhilipsECG are read"
        )


def _rate_hz(details: Element, waveforms: Element, source: str) -> float:
    told = text_at(details, "samplingrate", source=source)
    rate_hz = number(told, what="samplingrate", source=source)
    beside = waveforms.get("samplespersecond", told)
    if number(beside, what="samplespersecond", source=source) != rate_hz:
        raise RecordError(
            f"{source}: samplingrate is {told[:40]} and samplespersecond {beside[:40]}; export again"
        )
    check_rate(rate_hz, source=source)
    return rate_hz


def _resolution_uv(details: Element, waveforms: Element, source: str) -> float:
    """Return microvolts a unit, from where version 1.04 or 1.03 writes it."""
    told = (details.findtext("resolution") or details.findtext("signalresolution") or "").strip()
    resolution = number(told, what="the resolution", source=source)
    beside = waveforms.get("resolution", told)
    if resolution <= 0 or number(beside, what="the resolution", source=source) != resolution:
        raise RecordError(
            f"{source}: the resolution is {told[:40]!r} and {beside[:40]!r}; the leads are uncalibrated: "
            "export the file again"
        )
    for name, expected in (("signaloffset", "0"), ("signalsigned", "True"), ("bitspersample", "16")):
        seen = text_at(details, name, source=source)
        if seen != expected:
            raise RecordError(f"{source}: {name} is {seen[:40]!r}; only {expected} is read")
    return resolution


def _lead_names(details: Element, waveforms: Element, source: str) -> list[str]:
    names = waveforms.get("leadlabels", "").split()
    if names:
        told = attribute(waveforms, "numberofleads", what="numberofleads", source=source)
        return names[: count(told, what="numberofleads", source=source)]
    placement = text_at(details, "acquisitiontype", source=source)
    told = text_at(details, "numberchannelsallocated", source=source)
    n_leads = count(told, what="numberchannelsallocated", source=source)
    if placement not in ("STD-12", "10-WIRE") or n_leads > len(STANDARD_LEADS):
        raise RecordError(
            f"{source}: {n_leads} leads of acquisition type {placement[:40]!r} without names; "
            "expected STD-12 or 10-WIRE. Export the file in version 1.04"
        )
    return list(STANDARD_LEADS[:n_leads])


def _stored(waveforms: Element, names: list[str], rate_hz: float, source: str) -> NDArray[np.int64]:
    """Return the integers (n_leads, n_samples), limb leads made whole again."""
    compression = waveforms.get("compressmethod") or waveforms.get("compression") or "none"
    encoding = waveforms.get("dataencoding", "")
    if (compression, encoding) != ("XLI", "Base64"):
        raise RecordError(
            f"{source}: waveforms of compression {compression[:40]!r} in {encoding[:40]!r}; only XLI in Base64 "
            "is read"
        )
    told = attribute(waveforms, "durationperchannel", what="durationperchannel", source=source)
    n_samples = round(count(told, what="durationperchannel", source=source) * rate_hz / 1000)
    if not 2 <= n_samples <= _MAX_SAMPLES:
        raise RecordError(f"{source}: {n_samples} samples a lead; from 2 to {_MAX_SAMPLES} are read")
    if tuple(names[:6]) != LIMB_LEADS:
        raise RecordError(
            f"{source}: leads {','.join(names)[:80]}; compressed limb leads are read in the order "
            f"{','.join(LIMB_LEADS)}"
        )
    data = base64_bytes(waveforms.text or "", what="the leads", source=source)
    return _with_limb_leads(decode_xli(data, n_leads=len(names), n_samples=n_samples, source=source))


def _with_limb_leads(stored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo the prediction of III, aVR, aVL and aVF from I and II: the file holds what was left over."""
    i, ii, iii, avr, avl, avf = stored[:6]
    iii[:] = ii - i - iii
    avr[:] = -avr - (i + ii) // 2
    avl[:] = (i - iii) // 2 - avl
    avf[:] = (ii + iii) // 2 - avf
    return stored


def _metadata(root: Element) -> dict[str, str]:
    sex = (root.findtext(_PATIENT + "sex") or "").strip()
    age = (root.findtext(_PATIENT + "age/years") or "").strip()
    return (
        {"format": "sierra"}
        | ({"sex": sex[0]} if sex in ("Female", "Male") else {})
        | ({"age": age} if age else {})
    )
