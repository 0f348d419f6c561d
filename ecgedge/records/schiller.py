"""Schiller's XML (SchillerEDI, written by SEMA and the AT-10). Needs the extra `records`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.records._common import dropped_metadata, mv_per_unit, select_leads, stack_rows
from ecgedge.records._xml import count, number, numbers, parse_xml, text_at

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import numpy as np
    from numpy.typing import NDArray

_RHYTHM: Final = "ECG_RHYTHMS"


def read_schiller(path: Path) -> Recording:
    """Read the rhythm of a Schiller XML file; its averaged beats are left alone.

    millivolts = stored * unitperbit * unit. The maker publishes no specification: the layout is that of a
    file of an AT-10 plus, and what differs from it is refused.

    Raises
    ------
    RecordError
        If the file is damaged, holds no or several rhythms, or one without scale, unit or known encoding.
    UsageError
        If the package defusedxml is not installed.
    """
    source = str(path)
    root = parse_xml(path)
    rhythm = _rhythm(root, source)
    channels = rhythm.findall("channel")
    names = [text_at(channel, "name", source=source) for channel in channels]
    selection = select_leads(names, source=source)
    rows = [
        _stored(channels[channel], lead, source) * _mv_per_bit(rhythm, lead, source)
        for lead, channel in zip(selection.leads, selection.channels, strict=True)
    ]
    return Recording(
        samples_mv=stack_rows(rows, selection.leads, source=source),
        rate_hz=_rate_hz(rhythm, source),
        leads=selection.leads,
        source=source,
        patient_id=(root.findtext("patdata/id") or "").strip() or None,
        metadata=_metadata(root) | dropped_metadata(selection.dropped),
    )


def _rhythm(root: Element, source: str) -> Element:
    blocks = root.findall("eventdata/event/wavedata")
    types = [(block.findtext("type") or "").strip() for block in blocks]
    rhythms = [block for block, kind in zip(blocks, types, strict=True) if kind == _RHYTHM]
    if len(rhythms) != 1:
        raise RecordError(
            f"{source}: {len(rhythms)} blocks of type {_RHYTHM}, expected 1; types seen: "
            f"{', '.join(map(repr, types)) or 'none'}. Export one continuous recording a file"
        )
    return rhythms[0]


def _rate_hz(rhythm: Element, source: str) -> float:
    exponent = text_at(rhythm, "resolution/samplerate/exponent", source=source)
    if exponent != "1":
        raise RecordError(
            f"{source}: the sampling rate has the exponent {exponent[:40]!r}; only 1 is known. "
            "Export the recording in another format"
        )
    told = text_at(rhythm, "resolution/samplerate/value", source=source)
    return number(told, what="the sampling rate", source=source)


def _mv_per_bit(rhythm: Element, lead: str, source: str) -> float:
    told = text_at(rhythm, "resolution/yres/unitperbit", source=source)
    scale = number(told, what="unitperbit", source=source)
    if scale <= 0:
        raise RecordError(f"{source}: unitperbit is {scale:g}; the leads are uncalibrated: export them again")
    return scale * mv_per_unit(
        text_at(rhythm, "resolution/yres/units", source=source), lead=lead, source=source
    )


def _stored(channel: Element, lead: str, source: str) -> NDArray[np.float64]:
    encoding = text_at(channel, "datastype", source=source)
    if encoding != "COMMASEPARATE":
        raise RecordError(
            f"{source}: the samples of lead {lead} are {encoding[:40]!r}; expected COMMASEPARATE. "
            "Export the recording in that form"
        )
    # the list ends with a comma
    tokens = text_at(channel, "data", source=source).removesuffix(",").split(",")
    told = count(text_at(channel, "samplecount", source=source), what="samplecount", source=source)
    if told != len(tokens):
        raise RecordError(
            f"{source}: lead {lead} should have {told} samples and has {len(tokens)}; export the file again"
        )
    return numbers(tokens, what=f"lead {lead}", source=source)


def _metadata(root: Element) -> dict[str, str]:
    sex = (root.findtext("patdata/gender") or "").strip()
    maker = (root.findtext("examdescript/aquiringdevice/hardware/vendor") or "").strip()
    return (
        {"format": "schiller"}
        | ({"sex": sex[0]} if sex in ("FEMALE", "MALE") else {})
        | ({"manufacturer": maker} if maker else {})
    )
