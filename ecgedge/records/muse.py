"""GE MUSE XML (RestingECG). Needs the extra `records`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import derivable_leads, derivation_matrix, standard_rows
from ecgedge.records._common import dropped_metadata, mv_per_unit, select_leads, stack_rows
from ecgedge.records._xml import base64_bytes, count, number, parse_xml, text_at

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

_UNITS: Final = {"MICROVOLTS": "uV", "MILLIVOLTS": "mV", "NANOVOLTS": "nV"}
_DEMOGRAPHICS: Final = "PatientDemographics/"


def read_muse(path: Path) -> Recording:
    """Read the rhythm waveform of a MUSE file; limb leads that it leaves out are derived from I and II.

    millivolts = stored * LeadAmplitudeUnitsPerBit * unit; rate = SampleBase * 10**SampleExponent. Which leads
    were derived is listed in `metadata["derived_leads"]`. The median beats are left alone.

    Raises
    ------
    RecordError
        If the file is damaged, holds no or several rhythm waveforms, or a lead lacks its scale or unit.
    UsageError
        If the package defusedxml is not installed.
    """
    source = str(path)
    root = parse_xml(path)
    waveform = _rhythm(root, source)
    data = waveform.findall("LeadData")
    selection = select_leads([text_at(one, "LeadID", source=source) for one in data], source=source)
    rows = [
        _millivolts(data[channel], lead, source)
        for lead, channel in zip(selection.leads, selection.channels, strict=True)
    ]
    leads = derivable_leads(selection.leads)
    derived = [lead for lead in leads if lead not in selection.leads]
    matrix = derivation_matrix(selection.leads)[standard_rows(leads)]
    measured_mv = stack_rows(rows, selection.leads, source=source)
    with np.errstate(over="ignore"):  # Recording refuses what comes of it
        samples_mv = matrix @ measured_mv
    return Recording(
        samples_mv=samples_mv,
        rate_hz=_rate_hz(waveform, source),
        leads=leads,
        source=source,
        patient_id=(root.findtext(_DEMOGRAPHICS + "PatientID") or "").strip() or None,
        metadata=_metadata(root)
        | ({"derived_leads": ", ".join(derived)} if derived else {})
        | dropped_metadata(selection.dropped),
    )


def _rhythm(root: Element, source: str) -> Element:
    waveforms = root.findall("Waveform")
    types = [(one.findtext("WaveformType") or "").strip() for one in waveforms]
    rhythms = [one for one, kind in zip(waveforms, types, strict=True) if kind.lower() == "rhythm"]
    if len(rhythms) != 1:
        raise RecordError(
            f"{source}: {len(rhythms)} waveforms of type Rhythm, expected 1; types seen: "
            f"{', '.join(map(repr, types)) or 'none'}. Export one continuous recording a file"
        )
    return rhythms[0]


def _rate_hz(waveform: Element, source: str) -> float:
    base = number(text_at(waveform, "SampleBase", source=source), what="SampleBase", source=source)
    exponent = number(
        text_at(waveform, "SampleExponent", source=source), what="SampleExponent", source=source
    )
    if abs(exponent) > 9:
        raise RecordError(f"{source}: SampleExponent is {exponent:g}; expected a few powers of ten")
    return float(base * 10.0**exponent)


def _millivolts(data: Element, lead: str, source: str) -> NDArray[np.float64]:
    scale = number(
        text_at(data, "LeadAmplitudeUnitsPerBit", source=source),
        what=f"the scale of lead {lead}",
        source=source,
    )
    if scale <= 0:
        raise RecordError(
            f"{source}: lead {lead} is uncalibrated (LeadAmplitudeUnitsPerBit is {scale:g}); export it again"
        )
    unit = text_at(data, "LeadAmplitudeUnits", source=source)
    factor = mv_per_unit(_UNITS.get(unit.upper(), unit), lead=lead, source=source)
    return _stored(data, lead, source) * (scale * factor)


def _stored(data: Element, lead: str, source: str) -> NDArray[np.float64]:
    size = (data.findtext("LeadSampleSize") or "2").strip()
    if size != "2":
        raise RecordError(
            f"{source}: lead {lead} has samples of {size[:40]} bytes; expected 2. Export it again"
        )
    raw = base64_bytes(text_at(data, "WaveFormData", source=source), what=f"lead {lead}", source=source)
    told = count(
        text_at(data, "LeadSampleCountTotal", source=source), what="LeadSampleCountTotal", source=source
    )
    if len(raw) != 2 * told:
        raise RecordError(
            f"{source}: lead {lead} should have {told} samples and has {len(raw) / 2:g}; export the file again"
        )
    return np.frombuffer(raw, "<i2").astype(np.float64)


def _metadata(root: Element) -> dict[str, str]:
    sex = (root.findtext(_DEMOGRAPHICS + "Gender") or "").strip().upper()
    age = (root.findtext(_DEMOGRAPHICS + "PatientAge") or "").strip()
    return (
        {"format": "muse"}
        | ({"sex": sex[0]} if sex in ("FEMALE", "MALE") else {})
        | ({"age": age} if age else {})
    )
