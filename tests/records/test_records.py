"""Which reader a file goes to, and the description."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "a.npz"
    records.write_npz(Recording(np.ones((1, 300), np.float32), 250, ("I",)), path)
    return path


@pytest.mark.parametrize("suffix", [".hea", ".dat", ""])
def test_any_file_of_a_wfdb_record_names_it(put_wfdb: Callable[..., Path], suffix: str) -> None:
    header = put_wfdb()
    recording = records.read(header.with_suffix(suffix))
    assert recording.leads == ("I", "II")
    assert recording.source == str(header.with_suffix(suffix))


def test_a_record_name_may_hold_dots(put_wfdb: Callable[..., Path], tmp_path: Path) -> None:
    put_wfdb().rename(tmp_path / "bed.7.hea")
    assert records.read(tmp_path / "bed.7").leads == ("I", "II")
    assert records.read(str(tmp_path / "bed.7.hea")).leads == ("I", "II")


@pytest.mark.parametrize("name", ["a.dat", "a.dcm", "a.hea", "a.xml", "a", "a.npz.bak"])
def test_content_outweighs_the_suffix(npz: Path, name: str) -> None:
    npz.rename(npz.with_name(name))
    assert records.read(npz.with_name(name)).leads == ("I",)


def test_samples_that_look_like_xml_are_samples(put_wfdb: Callable[..., Path]) -> None:
    """Zeros, then 60, which is "<"."""
    samples = np.zeros((2, 300), "<i2")
    samples[0, 3] = 60
    assert records.read(put_wfdb(samples=samples).with_suffix(".dat")).samples_mv[0, 3] == np.float32(0.3)


def test_dicom_without_suffix_is_recognised(ecg_data: Path, tmp_path: Path) -> None:
    sample = ecg_data / "format_samples/dicom/cardio_sample_12lead_500hz.dcm"
    shutil.copy(sample, tmp_path / "IM000001")
    assert records.read(tmp_path / "IM000001").metadata["format"] == "dicom"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("philips_sierra_xml/LICENSE", "format of a suffixless file is not known; ecgedge reads WFDB"),
        ("philips_sierra_xml", "a folder"),
    ],
)
def test_other_formats_are_named(ecg_data: Path, name: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        records.read(ecg_data / "format_samples" / name)


@pytest.mark.parametrize("name", ["none.hea", "none.dcm", "none.npz", "none", "no/such/folder"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match=f"{name}.*no such file"):
        records.read(tmp_path / name)


def test_gaps_takes_two_values(npz: Path) -> None:
    wrong: Any = "ignore"
    with pytest.raises(UsageError, match="'refuse' or 'keep'"):
        records.read(npz, gaps=wrong)


def test_a_lead_without_samples_can_be_kept(tmp_path: Path) -> None:
    samples = np.ones((2, 300), np.float32)
    samples[1] = np.nan
    records.write_npz(Recording(samples, 250, ("I", "V1")), tmp_path / "r.npz")
    with pytest.raises(RecordError, match=r"300 samples are missing.*lead V1"):
        records.read(tmp_path / "r.npz")
    recording = records.read(tmp_path / "r.npz", gaps="keep")
    text = records.describe(recording)
    assert "300 samples missing in V1; the first at 0.000 s" in text
    assert "V1" + " " * 4 + f"{'not measured':>30}" in text


def test_description_says_what_was_measured() -> None:
    samples = np.array([[-1, 1] * 500, [0.25] * 1000], np.float32)
    recording = Recording(
        samples,
        500,
        ("I", "II"),
        source="x.hea",
        patient_id="SECRET-7",
        metadata={"age": "61", "comments": "SECRET name", "checksum": "mismatch", "dropped_channels": "RESP"},
    )
    text = records.describe(recording)
    for line in (
        "source:           x.hea",
        "mode:             real",
        "rate:             500 Hz",
        "duration:         2.000 s (1000 samples)",
        "leads:            I, II (2)",
        "derived leads:    III, aVR, aVL, aVF (follow from I and II)",
        "gaps:             none",
        "age:              61",
        "dropped channels: RESP",
        "checksum:         mismatch",
        "I         -1.000     1.000     1.000",
        "II         0.250     0.250     0.000",
    ):
        assert line in text.splitlines()
    assert "SECRET" not in text


def test_statistics_hold_over_half_an_hour(ecg_data: Path) -> None:
    recording = records.read(ecg_data / "long_2lead/mitdb/100.hea")
    expected = recording.samples_mv[0].astype(np.longdouble)
    line = next(line for line in records.describe(recording).splitlines() if line.startswith("II "))
    assert float(line.split()[3]) == pytest.approx(float(expected.std()), abs=5.1e-4)


def test_readers_do_not_import_their_libraries() -> None:
    theirs = {"wfdb", "pydicom", "pandas", "edfio", "defusedxml", "sierraecg"}
    code = f"import sys, ecgedge.records; sys.exit(bool({theirs} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
