"""Schiller's XML against the numbers in the file, and damaged copies."""

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

_NAME = "format_samples/schiller_xml/cardio_sample.xml"


@pytest.fixture(scope="session")
def sample(ecg_data: Path) -> str:
    return (ecg_data / _NAME).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def rhythm(sample: str) -> str:
    """From the rhythm block on: what comes before it are averaged beats."""
    return sample[sample.index("<type>ECG_RHYTHMS") :]


def _put(folder: Path, text: str) -> Path:
    path = folder / "r.xml"
    path.write_text(text, encoding="utf-8")
    return path


def test_real_file_equals_its_numbers(ecg_data: Path, rhythm: str) -> None:
    recording = records.read(ecg_data / _NAME)
    assert (recording.leads, recording.rate_hz, recording.duration_s) == (STANDARD_LEADS, 500, 10)
    lists = re.findall(r"<name>([^<]*)</name>\s*<data>([^<]*),</data>", rhythm)
    assert [name for name, _ in lists] == [lead.upper() for lead in STANDARD_LEADS]
    worked_mv = np.array([[int(value) for value in values.split(",")] for _, values in lists]) / 1000
    np.testing.assert_allclose(recording.samples_mv, worked_mv, rtol=1e-6)
    # Einthoven's law holds within the rounding of three channels of 1 uV
    i, ii, iii = recording.samples_mv[:3]
    assert np.abs(i + iii - ii).max() <= 0.0031
    assert recording.patient_id is None
    assert recording.metadata == {"format": "schiller", "manufacturer": "Schiller"}


def test_scale_unit_and_patient(sample: str, rhythm: str, tmp_path: Path) -> None:
    changed = rhythm.replace("<unitperbit>1.0", "<unitperbit>2.5").replace("<units>UV", "<units>NV")
    text = (
        sample.replace(rhythm, changed)
        .replace("<id></id>", "<id>P-4</id>", 1)
        .replace("UNDEFINED", "FEMALE", 1)
    )
    recording = records.read(_put(tmp_path, text))
    assert recording.samples_mv[0, 0] == pytest.approx(-60 * 2.5e-6)
    assert (recording.patient_id, recording.metadata["sex"]) == ("P-4", "F")


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("<units>UV", "<units>MMHG", "lead I is in 'MMHG'; expected mV"),
        ("<units>UV</units>", "", "has no resolution/yres/units"),
        ("<unitperbit>1.0</unitperbit>", "", "has no resolution/yres/unitperbit"),
        ("<unitperbit>1.0", "<unitperbit>0", "unitperbit is 0; the leads are uncalibrated"),
        ("<unitperbit>1.0", "<unitperbit>nan", "unitperbit is 'nan'; expected a number"),
        ("<exponent>1", "<exponent>2", "the exponent '2'; only 1 is known"),
        ("<value>500", "<value>fast", "the sampling rate is 'fast'"),
        ("<value>500", "<value>5", "rate of 5 Hz is not usable"),
        ("<name>II<", "<name>I<", "'I' and 'I' both mean lead I"),
        ("<name>II</name>", "", "<channel> has no name"),
        ("<data>-60", "<data>x", "samples of lead I are not all numbers"),
        ("<data>-60", "<data>inf", "samples of lead I are not all finite"),
        ("<data>-60,", "<data>", "lead I should have 5000 samples and has 4999"),
        ("<samplecount>5000", "<samplecount>999999999", "should have 999999999 samples and has 5000"),
        (
            "<samplecount>5000",
            "<samplecount>" + "9" * 5000,
            "samplecount is '9{40}'; expected a whole number",
        ),
        ("<samplecount>5000", "<samplecount>-1", "samplecount is '-1'"),
        ("COMMASEPARATE", "BASE64", "samples of lead I are 'BASE64'; expected COMMASEPARATE"),
        ("<data>[^<]*</data>", "", "<channel> has no data"),
        ("ECG_RHYTHMS", "ECG_OTHER", "0 blocks of type ECG_RHYTHMS, expected 1; types seen: 'ECG_AVERAGES'"),
    ],
)
def test_bad_file_is_refused(
    sample: str, rhythm: str, tmp_path: Path, pattern: str, replacement: str, message: str
) -> None:
    changed, n_changes = re.subn(pattern, replacement, rhythm, count=1)
    assert n_changes == 1
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, sample.replace(rhythm, changed)))


def test_leads_of_two_lengths_are_refused(sample: str, rhythm: str, tmp_path: Path) -> None:
    changed = rhythm.replace("<data>-60,", "<data>", 1).replace("<samplecount>5000", "<samplecount>4999", 1)
    with pytest.raises(RecordError, match=r"differ in their number of samples \(I 4999, II 5000"):
        records.read(_put(tmp_path, sample.replace(rhythm, changed)))


def test_two_rhythms_are_refused(sample: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="2 blocks of type ECG_RHYTHMS"):
        records.read(_put(tmp_path, sample.replace("ECG_AVERAGES", "ECG_RHYTHMS")))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_cut_file_is_refused(sample: str, tmp_path: Path, share: float) -> None:
    with pytest.raises(RecordError, match="not readable XML"):
        records.read(_put(tmp_path, sample[: int(len(sample) * share)]))


@settings(max_examples=50)
@given(damage=DAMAGE)
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, sample: str, damage: list[tuple[int, str, bytes]]
) -> None:
    read_or_refuse(tmp_path_factory.getbasetemp() / "schiller.xml", damaged(sample.encode(), damage))
