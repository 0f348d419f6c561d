"""HL7 aECG against the digits in the file, and damaged copies."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from damaged_files import DAMAGE, damaged, read_or_refuse
from hypothesis import given, settings

from ecgedge import records
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS

_NAME = "format_samples/hl7_aecg/LIRYC_mindray_100hz_scrubbed.xml"
_LEAD_II = '<code code="MDC_ECG_LEAD_II"'


@pytest.fixture(scope="session")
def sample(ecg_data: Path) -> str:
    return (ecg_data / _NAME).read_text(encoding="utf-8")


def _put(folder: Path, text: str, name: str = "r.xml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_real_file_equals_its_digits(ecg_data: Path, sample: str) -> None:
    """Twelve leads of 5 uV a digit, 10 ms apart; the first of the two blocks is the rhythm."""
    recording = records.read(ecg_data / _NAME)
    assert (recording.leads, recording.rate_hz, recording.samples_mv.shape) == (
        STANDARD_LEADS,
        100,
        (12, 1000),
    )
    for lead, row in zip(STANDARD_LEADS, recording.samples_mv, strict=True):
        pattern = rf'code="MDC_ECG_LEAD_{lead.upper()}".*?<digits>(.*?)</digits>'
        digits = re.findall(pattern, sample, re.DOTALL)[0].split()
        np.testing.assert_allclose(row, np.array([int(digit) for digit in digits]) * 0.005, rtol=1e-6)
    assert 2 < recording.samples_mv.max() < 3
    assert recording.metadata["format"] == "aecg"
    assert "Mindray" in recording.metadata["manufacturer"]
    assert (recording.patient_id, "sex" in recording.metadata) == ("0", False)


def test_units_and_origin(sample: str, tmp_path: Path) -> None:
    """Origin 100 nV and 0.002 mV a digit for lead I: worked by hand from its first digit, -42."""
    changed = sample.replace('<origin value="0" unit="uV">', '<origin value="100" unit="nV">', 1)
    changed = changed.replace('<scale value="5" unit="uV">', '<scale value="0.002" unit="mV">', 1)
    recording = records.read(_put(tmp_path, changed))
    assert recording.samples_mv[0, 0] == pytest.approx(-42 * 0.002 + 0.0001)
    assert recording.samples_mv[1, 0] == pytest.approx(-32 * 0.005)


def test_the_standards_place_of_the_patient(sample: str, tmp_path: Path) -> None:
    changed = sample.replace("<trialSubject>", '<trialSubject><id root="1.2" extension="S-17"/>')
    changed = changed.replace('GenderCode code="UN"', 'GenderCode code="F"')
    recording = records.read(_put(tmp_path, changed))
    assert (recording.patient_id, recording.metadata["sex"]) == ("S-17", "F")
    assert "S-17" not in records.describe(recording)


def test_milliseconds(sample: str, tmp_path: Path) -> None:
    changed = sample.replace('<increment value="0.01" unit="s">', '<increment value="2" unit="ms">')
    assert records.read(_put(tmp_path, changed)).rate_hz == 500


def test_other_channels_are_dropped(sample: str, tmp_path: Path) -> None:
    recording = records.read(_put(tmp_path, sample.replace(_LEAD_II, '<code code="MDC_PRESS_BLD"')))
    assert "II" not in recording.leads
    assert recording.metadata["dropped_channels"] == "MDC_PRESS_BLD"


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ('(<scale [^>]*)unit="uV"', r'\1unit="mmHg"', "lead I is in 'mmHg'"),
        ('(<scale [^>]*)unit="uV"', r"\1", "the unit of the scale of lead I is missing"),
        ("<scale [^>]*></scale>", "", "the unit of the origin|the scale of lead I is missing"),
        ("<origin [^>]*></origin>", "", "the origin of lead I is missing"),
        ('<scale value="5"', '<scale value="0"', "lead I is uncalibrated"),
        ('<scale value="5"', '<scale value="nan"', "the scale of lead I is 'nan'; expected a number"),
        ('<scale value="5"', '<scale value="five"', "the scale of lead I is 'five'"),
        ('<scale value="5"', '<scale value="5e307"', "infinite samples"),
        ("<digits>-42", "<digits>-42x", "samples of lead I are not all numbers"),
        ("<digits>-42", "<digits>inf", "samples of lead I are not all finite"),
        ("<digits>-42", "<digits>", r"differ in their number of samples \(I 999, II 1000"),
        ("<digits>[^<]*", "<digits>", r"\(I 0, II 1000"),
        (_LEAD_II, '<code code="MDC_ECG_LEAD_I"', "'MDC_ECG_LEAD_I' and 'MDC_ECG_LEAD_I' both mean lead I"),
        (_LEAD_II, "<code", "the code of a sequence is missing"),
        ('code="RHYTHM"', 'code="OTHER"', "0 rhythm sequence sets, expected 1; series seen: 'OTHER'"),
        ("TIME_ABSOLUTE", "TIME_LOST", "0 time sequences"),
        ('<increment value="0.01"', '<increment value="0"', "no sampling interval"),
        ('<increment value="0.01"', '<increment value="-1"', "no sampling interval"),
        ('<increment value="0.01"', '<increment value="1e-300"', "rate of 1e.300 Hz is not usable"),
        ('<increment value="0.01"', '<increment value="1"', "rate of 1 Hz is not usable"),
        ('<increment value="0.01" unit="s"', '<increment value="0.01" unit="min"', "no sampling interval"),
        ('<increment value="0.01"', "<increment", "the time increment is missing"),
        ("<component>", "<part>", "r.xml"),
    ],
)
def test_bad_file_is_refused(
    sample: str, tmp_path: Path, pattern: str, replacement: str, message: str
) -> None:
    changed, n_changes = re.subn(pattern, replacement, sample, count=1)
    assert n_changes == 1
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, changed))


def test_two_stretches_are_refused(sample: str, tmp_path: Path) -> None:
    block = re.search(r"<component>\s*<sequenceSet>.*?</sequenceSet>\s*</component>", sample, re.DOTALL)
    assert block
    with pytest.raises(RecordError, match="2 rhythm sequence sets, expected 1"):
        records.read(_put(tmp_path, sample[: block.end()] + block[0] + sample[block.end() :]))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_cut_file_is_refused(sample: str, tmp_path: Path, share: float) -> None:
    with pytest.raises(RecordError, match="not readable XML"):
        records.read(_put(tmp_path, sample[: int(len(sample) * share)]))


@settings(max_examples=50)
@given(damage=DAMAGE)
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, sample: str, damage: list[tuple[int, str, bytes]]
) -> None:
    read_or_refuse(tmp_path_factory.getbasetemp() / "aecg.xml", damaged(sample.encode(), damage))
