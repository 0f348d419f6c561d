"""DICOM ECGs against pydicom's own scaling, the raw bytes, and damaged copies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from ecgedge import records
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS

SAMPLES = [
    ("cardio_sample_12lead_500hz.dcm", 500, 5000, "039Y", "M"),
    ("marcodebe_mortara_el250_1000hz_scrubbed.dcm", 1000, 10_000, "042Y", "F"),
]


@pytest.fixture
def packaged() -> Path:
    """The ECG that pydicom carries in its own wheel."""
    path = get_testdata_file("waveform_ecg.dcm", download=False)
    assert isinstance(path, str)
    return Path(path)


@pytest.mark.parametrize(("name", "rate_hz", "n_samples", "age", "sex"), SAMPLES)
def test_real_file_equals_pydicoms_scaling(
    ecg_data: Path, name: str, rate_hz: int, n_samples: int, age: str, sex: str
) -> None:
    path = ecg_data / "format_samples/dicom" / name
    recording = records.read(path)
    reference_uv = pydicom.dcmread(path).waveform_array(0)
    assert recording.rate_hz == rate_hz
    assert recording.leads == STANDARD_LEADS
    assert recording.samples_mv.shape == (12, n_samples)
    np.testing.assert_allclose(recording.samples_mv, reference_uv.T / 1000.0, rtol=1e-6, atol=1e-9)
    assert (recording.metadata["age"], recording.metadata["sex"]) == (age, sex)


def test_packaged_file_equals_its_raw_bytes(packaged: Path) -> None:
    """1.25 uV per count, twelve little-endian 16-bit channels interleaved."""
    recording = records.read(packaged)
    group = pydicom.dcmread(packaged).WaveformSequence[0]
    raw = np.frombuffer(group.WaveformData, "<i2").reshape(10_000, 12).T
    np.testing.assert_allclose(recording.samples_mv, raw * 0.00125, rtol=1e-6, atol=1e-9)
    assert recording.patient_id == "642341"
    assert "642341" not in records.describe(recording)
    # Einthoven's law holds in a true 12-lead file, within the rounding of three channels
    i, ii, iii = recording.samples_mv[:3]
    assert np.abs(i + iii - ii).max() <= 3 * 0.00125


def _save(dataset: pydicom.Dataset, path: Path) -> Path:
    dataset.save_as(path)
    return path


def test_channels_are_found_by_name_not_by_place(packaged: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(packaged)
    group = dataset.WaveformSequence[0]
    group.ChannelDefinitionSequence = list(group.ChannelDefinitionSequence)[::-1]
    raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12)
    group.WaveformData = raw[:, ::-1].tobytes()
    again = records.read(_save(dataset, tmp_path / "reversed.dcm"))
    np.testing.assert_array_equal(again.samples_mv, records.read(packaged).samples_mv)


def test_mdc_codes_are_known(packaged: Path, tmp_path: Path) -> None:
    """PS3.16 CID 3001 as of today codes leads as MDC 2:n instead of SCPECG 5.6.3-9-n."""
    dataset = pydicom.dcmread(packaged)
    for channel in dataset.WaveformSequence[0].ChannelDefinitionSequence:
        code = channel.ChannelSourceSequence[0]
        code.CodeValue = "2:" + code.CodeValue.rsplit("-", 1)[1]
        code.CodingSchemeDesignator = "MDC"
        code.CodeMeaning = "named in another language"
    assert records.read(_save(dataset, tmp_path / "mdc.dcm")).leads == STANDARD_LEADS


def test_sensitivity_correction_baseline_and_unit_count(packaged: Path, tmp_path: Path) -> None:
    """PS3.3 C.10.9.1.4.4 and .5, worked by hand for lead II: (raw * 2 * 1.5 + 10) mV."""
    dataset = pydicom.dcmread(packaged)
    channel = dataset.WaveformSequence[0].ChannelDefinitionSequence[1]
    channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = "0.02", "1.5"
    channel.ChannelBaseline = "10"
    channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
    recording = records.read(_save(dataset, tmp_path / "scaled.dcm"))
    raw = np.frombuffer(dataset.WaveformSequence[0].WaveformData, "<i2").reshape(-1, 12).T
    np.testing.assert_allclose(recording.samples_mv[1], raw[1] * 0.03 + 10, rtol=1e-6)


def test_padding_is_a_gap(packaged: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(packaged)
    group = dataset.WaveformSequence[0]
    raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).copy()
    raw[500:520, 3] = -32768
    group.WaveformData = raw.tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    path = _save(dataset, tmp_path / "padded.dcm")
    with pytest.raises(RecordError, match=r"20 samples are missing.*lead aVR at 0\.500 s"):
        records.read(path)
    assert np.isnan(records.read(path, gaps="keep").samples_mv[3, 500:520]).all()


def _drop(keyword: str) -> Callable[[pydicom.Dataset], None]:
    return lambda dataset: delattr(dataset.WaveformSequence[0], keyword)


def _cut_samples(dataset: pydicom.Dataset) -> None:
    group = dataset.WaveformSequence[0]
    group.WaveformData = group.WaveformData[:1000]


def _only_median(dataset: pydicom.Dataset) -> None:
    dataset.WaveformSequence = [dataset.WaveformSequence[1]]


def _mu_law(dataset: pydicom.Dataset) -> None:
    group = dataset.WaveformSequence[0]
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 8, "MB"


def _channel(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return dataset.WaveformSequence[0].ChannelDefinitionSequence[0]


def _pressure_unit(dataset: pydicom.Dataset) -> None:
    _channel(dataset).ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"


def _no_sensitivity(dataset: pydicom.Dataset) -> None:
    del _channel(dataset).ChannelSensitivity


def _contradiction(dataset: pydicom.Dataset) -> None:
    _channel(dataset).ChannelSourceSequence[0].CodeMeaning = "Lead V1"


def _unknown_leads(dataset: pydicom.Dataset) -> None:
    for channel in dataset.WaveformSequence[0].ChannelDefinitionSequence:
        code = channel.ChannelSourceSequence[0]
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99ME", "a pressure"


def _lost_channel(dataset: pydicom.Dataset) -> None:
    del dataset.WaveformSequence[0].ChannelDefinitionSequence[0]


def _negative_rate(dataset: pydicom.Dataset) -> None:
    dataset.WaveformSequence[0].SamplingFrequency = "-1000"


def _no_waveforms(dataset: pydicom.Dataset) -> None:
    del dataset.WaveformSequence


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_samples, r"truncated: 10000 samples of 12 channels need 240000 bytes, the file holds 1000"),
        (_only_median, r"no rhythm waveform; multiplex groups seen: 'MEDIAN BEAT'"),
        (_mu_law, r"8-bit MB"),
        (_pressure_unit, r"lead I is in 'mm\[Hg\]'"),
        (_no_sensitivity, r"lead I is uncalibrated"),
        (_contradiction, r"lead I\) but called 'Lead V1'"),
        (_unknown_leads, r"unknown lead.*'a pressure'"),
        (_lost_channel, r"11 channels are defined but 12 stored"),
        (_negative_rate, r"rate of -1000 Hz is not usable"),
        (_no_waveforms, r"12-lead ECG Waveform Storage without waveforms"),
        (_drop("SamplingFrequency"), r"not a readable DICOM ECG \(AttributeError"),
        (_drop("WaveformData"), r"not a readable DICOM ECG \(AttributeError"),
        (_drop("ChannelDefinitionSequence"), r"not a readable DICOM ECG \(AttributeError"),
    ],
)
def test_bad_file_is_refused(
    packaged: Path, tmp_path: Path, damage: Callable[[pydicom.Dataset], None], message: str
) -> None:
    dataset = pydicom.dcmread(packaged)
    damage(dataset)
    with pytest.raises(RecordError, match=message):
        records.read(_save(dataset, tmp_path / "bad.dcm"))


@pytest.mark.parametrize("keep", [0, 10, 132, 400, 20_000, 200_000])
def test_cut_file_is_refused(packaged: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(packaged.read_bytes()[:keep])
    with pytest.raises(RecordError, match=r"cut\.dcm"):
        records.read(path)


def test_a_length_that_does_not_fit_its_type_is_refused(packaged: Path, tmp_path: Path) -> None:
    """pydicom has an exception of its own, outside ValueError, for this damage."""
    data = bytearray(packaged.read_bytes())
    assert data[132:140] == b"\x02\x00\x00\x00UL\x04\x00", "group length of the file meta information"
    data[138] = 6
    (tmp_path / "length.dcm").write_bytes(data)
    with pytest.raises(RecordError, match="not a readable DICOM ECG"):
        records.read(tmp_path / "length.dcm")


def test_big_endian_is_refused(packaged: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(packaged)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    pydicom.dcmwrite(
        tmp_path / "big.dcm", dataset, implicit_vr=False, little_endian=False, force_encoding=True
    )
    with pytest.raises(RecordError, match="big-endian"):
        records.read(tmp_path / "big.dcm")


def test_text_called_dcm_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.dcm"
    path.write_text("Dear colleague, " * 50)
    with pytest.raises(RecordError, match="no DICOM file, or its head is missing"):
        records.read(path)


def test_missing_library_names_the_extra(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"ecgedge\[records\]"):
        records.read(packaged)
