"""HL7 annotated ECG (aECG, ANSI/HL7 V3 ECG, R1-2004), as the FDA takes it. Needs the extra `records`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.records._common import dropped_metadata, mv_per_unit, select_leads, stack_rows
from ecgedge.records._xml import attribute, number, numbers, parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import numpy as np
    from numpy.typing import NDArray

_TIME_CODES: Final = ("TIME_ABSOLUTE", "TIME_RELATIVE")
_SECONDS_PER_UNIT: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SUBJECT: Final = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject"


def read_aecg(path: Path) -> Recording:
    """Read the rhythm series of an aECG; derived series (median beats) are left alone.

    millivolts = origin + scale * digit, each in the unit that it stands in.

    Raises
    ------
    RecordError
        If the file is damaged, holds no or several rhythm sequence sets, or a lead lacks its scale, origin
        or unit.
    UsageError
        If the package defusedxml is not installed.
    """
    source = str(path)
    root = parse_xml(path)
    sequences = _rhythm(root, source).findall("component/sequence")
    codes = [
        attribute(s.find("code"), "code", what="the code of a sequence", source=source) for s in sequences
    ]
    times = [s for s, code in zip(sequences, codes, strict=True) if code in _TIME_CODES]
    signals = [(code, s) for s, code in zip(sequences, codes, strict=True) if code not in _TIME_CODES]
    selection = select_leads([code for code, _ in signals], source=source)
    rows = [
        _millivolts(signals[channel][1], lead, source)
        for lead, channel in zip(selection.leads, selection.channels, strict=True)
    ]
    return Recording(
        samples_mv=stack_rows(rows, selection.leads, source=source),
        rate_hz=_rate_hz(times, source),
        leads=selection.leads,
        source=source,
        patient_id=_patient_id(root),
        metadata=_metadata(root) | dropped_metadata(selection.dropped),
    )


def _rhythm(root: Element, source: str) -> Element:
    series = root.findall("component/series")
    codes = [code.get("code", "") if (code := one.find("code")) is not None else "" for one in series]
    sets = [
        found
        for one, code in zip(series, codes, strict=True)
        if code == "RHYTHM"
        for found in one.findall("component/sequenceSet")
    ]
    if len(sets) != 1:
        raise RecordError(
            f"{source}: {len(sets)} rhythm sequence sets, expected 1; series seen: "
            f"{', '.join(map(repr, codes)) or 'none'}. Export one continuous recording a file"
        )
    return sets[0]


def _rate_hz(times: list[Element], source: str) -> float:
    if len(times) != 1:
        raise RecordError(f"{source}: {len(times)} time sequences, expected 1; export the file again")
    increment = times[0].find("value/increment")
    unit = attribute(increment, "unit", what="the unit of the time increment", source=source)
    value = attribute(increment, "value", what="the time increment", source=source)
    seconds = number(value, what="the time increment", source=source) * _SECONDS_PER_UNIT.get(unit, 0.0)
    if seconds <= 0:
        raise RecordError(
            f"{source}: a time increment of {value[:40]} {unit[:40]!r} is no sampling interval; expected s, ms or us"
        )
    return 1 / seconds


def _millivolts(sequence: Element, lead: str, source: str) -> NDArray[np.float64]:
    digits = numbers((sequence.findtext("value/digits") or "").split(), what=f"lead {lead}", source=source)
    scale_mv = _quantity_mv(sequence, "scale", lead, source)
    if scale_mv == 0:
        raise RecordError(f"{source}: lead {lead} is uncalibrated (its scale is 0); export the file with it")
    return digits * scale_mv + _quantity_mv(sequence, "origin", lead, source)


def _quantity_mv(sequence: Element, name: str, lead: str, source: str) -> float:
    element = sequence.find(f"value/{name}")
    value = attribute(element, "value", what=f"the {name} of lead {lead}", source=source)
    unit = attribute(element, "unit", what=f"the unit of the {name} of lead {lead}", source=source)
    return number(value, what=f"the {name} of lead {lead}", source=source) * mv_per_unit(
        unit, lead=lead, source=source
    )


def _patient_id(root: Element) -> str | None:
    """Return the trial subject's id, or Mindray's own element for the hospital's."""
    subject = root.find(f"{_SUBJECT}/id")
    told = subject.get("extension") if subject is not None else None
    own = root.findtext(f"{_SUBJECT}/subjectDemographicPerson/PatientID")
    return (told or own or "").strip() or None


def _metadata(root: Element) -> dict[str, str]:
    gender = root.find(f"{_SUBJECT}/subjectDemographicPerson/administrativeGenderCode")
    sex = gender.get("code", "") if gender is not None else ""
    maker = root.findtext("component/series/author/seriesAuthor/manufacturerOrganization/name")
    return (
        {"format": "aecg"}
        | ({"sex": sex} if sex in ("F", "M") else {})
        | ({"manufacturer": maker.strip()} if maker and maker.strip() else {})
    )
