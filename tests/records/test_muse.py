"""GE MUSE XML: no real file may be shared, so these are written in the published layout, and damaged."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from damaged_files import DAMAGE, damaged, read_or_refuse
from hypothesis import given, settings

from ecgedge import records
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS

_EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_STORED = np.random.default_rng(5).integers(-2000, 2000, (12, 600)).astype("<i2")


def _lead(name: str, stored: np.ndarray, fields: Mapping[str, str] | None = None) -> str:
    told = {
        "LeadByteCountTotal": str(2 * len(stored)),
        "LeadTimeOffset": "0",
        "LeadSampleCountTotal": str(len(stored)),
        "LeadAmplitudeUnitsPerBit": "4.88",
        "LeadAmplitudeUnits": "MICROVOLTS",
        "LeadHighLimit": "2147483647",
        "LeadLowLimit": "268435456",
        "LeadID": name,
        "LeadOffsetFirstSample": "0",
        "FirstSampleBaseline": "0",
        "LeadSampleSize": "2",
        "LeadOff": "FALSE",
        "BaselineSway": "FALSE",
        # lines of 76 characters, as MUSE writes them
        "WaveFormData": "\n" + base64.encodebytes(stored.astype("<i2").tobytes()).decode(),
    } | dict(fields or {})
    return "<LeadData>" + "".join(f"<{name}>{text}</{name}>" for name, text in told.items()) + "</LeadData>"


def _waveform(kind: str, leads: str) -> str:
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><WaveformStartTime>0</WaveformStartTime>"
        "<NumberofLeads>8</NumberofLeads><SampleType>CONTINUOUS_SAMPLES</SampleType>"
        f"<SampleBase>500</SampleBase><SampleExponent>0</SampleExponent>{leads}</Waveform>"
    )


def _document(names: tuple[str, ...] = _EIGHT) -> str:
    leads = "".join(_lead(name, stored) for name, stored in zip(names, _STORED, strict=False))
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
        "<PatientDemographics><PatientID>M-9</PatientID><PatientAge>61</PatientAge><Gender>FEMALE</Gender>"
        "<PatientLastName>Müller</PatientLastName></PatientDemographics>"
        + _waveform("Median", _lead("I", _STORED[0, :300]))
        + _waveform("Rhythm", leads)
        + "</RestingECG>"
    )


def _put(folder: Path, text: str) -> Path:
    path = folder / "r.xml"
    path.write_text(text, encoding="iso-8859-1")
    return path


def test_eight_leads_give_twelve(tmp_path: Path) -> None:
    """4.88 uV a bit; Einthoven's and Goldberger's formulas, written out."""
    recording = records.read(_put(tmp_path, _document()))
    assert (recording.leads, recording.rate_hz, recording.samples_mv.shape) == (
        STANDARD_LEADS,
        500,
        (12, 600),
    )
    i, ii, *chest = _STORED[:8] * 0.00488
    worked = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest]
    np.testing.assert_allclose(recording.samples_mv, worked, rtol=1e-5, atol=1e-5)
    assert recording.patient_id == "M-9"
    assert recording.metadata == {
        "format": "muse",
        "sex": "F",
        "age": "61",
        "derived_leads": "III, aVR, aVL, aVF",
    }
    text = records.describe(recording)
    assert "derived leads:    III, aVR, aVL, aVF" in text
    assert "M-9" not in text


def test_measured_limb_leads_are_kept(tmp_path: Path) -> None:
    recording = records.read(_put(tmp_path, _document(STANDARD_LEADS)))
    np.testing.assert_allclose(recording.samples_mv, _STORED * 0.00488, rtol=1e-5, atol=1e-6)
    assert "derived_leads" not in recording.metadata


def test_nothing_is_derived_without_lead_ii(tmp_path: Path) -> None:
    assert records.read(_put(tmp_path, _document(("V5", "I")))).leads == ("I", "V5")


def test_other_units_and_rates(tmp_path: Path) -> None:
    text = _document().replace("MICROVOLTS", "NANOVOLTS").replace("Bit>4.88", "Bit>1000")
    text = text.replace("<SampleBase>500", "<SampleBase>25").replace("<SampleExponent>0", "<SampleExponent>1")
    recording = records.read(_put(tmp_path, text))
    np.testing.assert_allclose(recording.samples_mv[0], _STORED[0] * 0.001, rtol=1e-6)
    assert recording.rate_hz == 250


def _bad_base64(text: str) -> str:
    return re.sub(r"(<WaveFormData>\s*).", r"\1!", text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MICROVOLTS", "MMHG", "lead I is in 'MMHG'; expected mV"),
        ("<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>", "", "<LeadData> has no LeadAmplitudeUnits"),
        ("<LeadAmplitudeUnitsPerBit>4.88", "<LeadAmplitudeUnitsPerBit>", "has no LeadAmplitudeUnitsPerBit"),
        ("UnitsPerBit>4.88<", "UnitsPerBit>0<", "lead I is uncalibrated"),
        ("UnitsPerBit>4.88<", "UnitsPerBit>inf<", "the scale of lead I is 'inf'; expected a number"),
        ("UnitsPerBit>4.88<", "UnitsPerBit>1e300<", "infinite samples"),
        ("UnitsPerBit>4.88<", "UnitsPerBit>2e38<", "infinite samples|cannot come from electrodes"),
        ("<SampleExponent>0", "<SampleExponent>400", "SampleExponent is 400"),
        ("<SampleBase>500", "<SampleBase>0", "rate of 0 Hz is not usable"),
        ("<SampleBase>500", "<SampleBase>x", "SampleBase is 'x'"),
        ("<SampleBase>500</SampleBase>", "", "<Waveform> has no SampleBase"),
        ("CountTotal>600<", "CountTotal>999999999<", "lead I should have 999999999 samples and has 600"),
        ("SampleSize>2<", "SampleSize>4<", "samples of 4 bytes; expected 2"),
        ("<LeadID>II<", "<LeadID>I<", "'I' and 'I' both mean lead I"),
        ("<LeadID>II<", "<LeadID><", "<LeadData> has no LeadID"),
        (">Rhythm<", ">Other<", "0 waveforms of type Rhythm, expected 1; types seen: 'Median', 'Other'"),
        (">Median<", ">Rhythm<", "2 waveforms of type Rhythm"),
        ("WaveFormData>", "Other>", "<LeadData> has no WaveFormData"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = _document()
    assert old in text
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, text.replace(old, new)))


def test_what_is_no_base64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="samples of lead I are not base64"):
        records.read(_put(tmp_path, _bad_base64(_document())))


def test_leads_of_two_lengths_are_refused(tmp_path: Path) -> None:
    leads = _lead("I", _STORED[0]) + _lead("II", _STORED[1, :500])
    with pytest.raises(RecordError, match=r"differ in their number of samples \(I 600, II 500\)"):
        records.read(_put(tmp_path, f"<RestingECG>{_waveform('Rhythm', leads)}</RestingECG>"))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.999])
def test_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    text = _document()
    with pytest.raises(RecordError, match="not readable XML"):
        records.read(_put(tmp_path, text[: int(len(text) * share)]))


@settings(max_examples=50)
@given(damage=DAMAGE)
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, str, bytes]]
) -> None:
    whole = _document().encode("iso-8859-1")
    read_or_refuse(tmp_path_factory.getbasetemp() / "muse.xml", damaged(whole, damage))
