"""DICOM ECGs with OFFIS' dcmtk as the other reader and writer: what it converts, and what it prints of the samples."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from ecgedge import read
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError

EXPLICIT, IMPLICIT, BIG = "+te", "+ti", "+tb"
SCP_LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {
    n + 2: f"V{n}" for n in range(1, 7)
}
"""Leads by their number in SCP-ECG 5.6.3, as DICOM PS3.16 CID 3001 codes them."""

FILES = [
    "packaged",
    "cardio_sample_12lead_500hz.dcm",  # implicit VR
    "marcodebe_mortara_el250_1000hz_scrubbed.dcm",
]


def _run(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: apt-get install dcmtk")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60.0)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _convert(path: Path, syntax: str, out: Path) -> Path:
    _run("dcmconv", syntax, str(path), str(out))
    return out


def _syntax(path: Path) -> str:
    """Return how dcmdump says that the data set is written."""
    return re.findall(r"# Used TransferSyntax: (.*)", _run("dcmdump", str(path)))[-1]


def _values(path: Path, tag: str) -> list[str]:
    """Return the values of a tag wherever it stands in the file, in order, whole."""
    out = _run("dcmdump", "+L", "+P", tag, str(path))
    return re.findall(r"^ *\([0-9a-f,]+\) [A-Z]{2} \[?(.*?)\]? +# +\d+, *\d+ \w+$", out, re.MULTILINE)


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest) -> Path:
    """Each of the real files: pydicom's own wheel has the first."""
    if request.param != "packaged":
        folder: Path = request.getfixturevalue("ecg_data")
        return folder / "format_samples" / "dicom" / str(request.param)
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    assert isinstance(found, str)
    return Path(found)


def _require_same(found: Recording, expected: Recording) -> None:
    assert (found.leads, found.rate_hz, found.metadata) == (
        expected.leads,
        expected.rate_hz,
        expected.metadata,
    )
    np.testing.assert_array_equal(found.samples_mv, expected.samples_mv)


@pytest.mark.parametrize(
    ("syntax", "said"), [(EXPLICIT, "Little Endian Explicit"), (IMPLICIT, "Little Endian Implicit")]
)
def test_what_dcmconv_has_converted_reads_the_same(
    path: Path, tmp_path: Path, syntax: str, said: str
) -> None:
    converted = _convert(path, syntax, tmp_path / "converted.dcm")
    assert _syntax(converted) == said
    _require_same(read(converted), read(path))


def test_big_endian_is_refused_and_reads_the_same_once_it_is_converted_back(
    path: Path, tmp_path: Path
) -> None:
    big = _convert(path, BIG, tmp_path / "big.dcm")
    assert _syntax(big) == "Big Endian Explicit"
    with pytest.raises(RecordError, match="big-endian"):
        read(big)
    for name, syntax in (("explicit.dcm", EXPLICIT), ("implicit.dcm", IMPLICIT)):
        _require_same(read(_convert(big, syntax, tmp_path / name)), read(path))


def _dumped_uv(path: Path) -> NDArray[np.float64]:
    """Compute (12, n) microvolts of the rhythm from what dcmdump prints: words of 16 bits, and the scales in text."""
    words = _values(path, "5400,1010")[0].split("\\")
    counts = np.array([int(word, 16) for word in words], np.uint16).view(np.int16).reshape(-1, 12)
    scales = [
        np.array([float(v) for v in _values(path, tag)[:12]])
        for tag in ("003a,0210", "003a,0212", "003a,0213")
    ]
    sensitivity, correction, baseline = scales
    return (counts * sensitivity * correction + baseline).T


def test_what_dcmdump_prints_is_what_we_read(path: Path) -> None:
    recording = read(path)
    assert float(_values(path, "003a,001a")[0]) == recording.rate_hz
    codes = _values(path, "0008,0100")
    assert codes.count("uV") >= 12, "the scales are of microvolts"
    leads = [code.rpartition("-")[2] for code in codes if code.startswith("5.6.3-9-")][:12]
    assert tuple(SCP_LEADS[int(number)] for number in leads) == recording.leads
    channels, samples = (int(_values(path, tag)[0]) for tag in ("003a,0005", "003a,0010"))
    assert recording.samples_mv.shape == (channels, samples)
    np.testing.assert_allclose(recording.samples_mv, _dumped_uv(path) / 1000.0, rtol=1e-6, atol=1e-9)
