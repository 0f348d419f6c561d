"""Small valid inputs to begin with: of the project's own writers and its tests', and of real files where there are any.

Nothing real is copied into the project: the runner writes all seeds into a temporary folder.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
BETWEEN = b"\n--8<--\n"
"""Stands between the parts of an input that is several files."""

LARGEST = 40_000
"""Bytes of a seed: a longer one makes each try slow."""


def of_tests(name: str) -> ModuleType:
    """Return a module of the tests, for the files that it writes."""
    sys.path[:0] = [str(TESTS / "support")] if str(TESTS / "support") not in sys.path else []
    path = TESTS / name
    spec = importlib.util.spec_from_file_location(f"fuzz_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def real(data: Path | None, *patterns: str) -> list[bytes]:
    """Return the real files that match, those that are small enough."""
    found = [path for pattern in patterns for path in sorted(data.glob(pattern))] if data else []
    return [path.read_bytes() for path in found if path.stat().st_size <= LARGEST]


def real_xml(data: Path | None, pattern: str, *, tokens: int = 60) -> list[bytes]:
    """Return real XML files with their long lists of numbers cut: every row keeps as many."""

    def cut(match: re.Match[bytes]) -> bytes:
        words = re.split(rb"([\s,]+)", match[1].strip())
        return b">" + b"".join(words[: 2 * tokens - 1]) + b"<"

    found = sorted(data.glob(pattern)) if data else []
    short = [re.sub(rb">([-0-9\s,.]{300,})<", cut, path.read_bytes()) for path in found]
    return [text for text in short if len(text) <= 3 * LARGEST]


def wfdb(data: Path | None) -> list[bytes]:
    """Return headers of every storage format, each with the start of its samples."""
    header = b"r 2 500 20\nr.dat 16 1000/mV 16 0 0 0 0 I\nr.dat 16 1000(5)/uV 16 0 0 0 0 II\n# Age: 61\n"
    formats = ("8", "24", "32", "61", "80", "160", "212", "310", "311", "16x2:1+4")
    found = [
        header.replace(b"dat 16", f"dat {one}".encode()) + BETWEEN + bytes(range(200)) for one in formats
    ]
    real_ones = sorted(data.glob("ptbxl/records100/00000/*.hea"))[:2] if data else []
    headers = [path.read_bytes().replace(path.stem.encode(), b"r") for path in real_ones]
    found += [one.replace(b" 1000\n", b" 20\n") + BETWEEN + bytes(480) for one in headers]
    more = real(data, "cinc2017/A00001.hea", "ludb/data/1.hea")
    return [*found, header + BETWEEN + bytes(80), *(text.replace(b"ECG", b"II") + BETWEEN for text in more)]


def dicom(data: Path | None) -> list[bytes]:
    """Return the ECG that pydicom's wheel has, cut to 40 samples of its first group."""
    del data
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    group = dataset.WaveformSequence[0]
    group.NumberOfWaveformSamples = 40
    group.WaveformData = group.WaveformData[: 40 * 12 * 2]
    dataset.WaveformSequence = [group]
    stream = io.BytesIO()
    dataset.save_as(stream)
    return [stream.getvalue()]


def edf(data: Path | None) -> list[bytes]:
    """Return EDF and EDF+D."""
    files = of_tests("support/edf_files.py")
    stored = np.arange(200, dtype=np.int16).reshape(2, 100)
    signals = [files.Signal("ECG I", stored), files.Signal("ECG II", -stored)]
    holed = files.edf_bytes(signals, reserved="EDF+D", onsets=["+0", "+5"])
    return [files.edf_bytes(signals), holed, *real(data, "format_samples/edf/*.edf")]


def vital(data: Path | None) -> list[bytes]:
    """Return what is inside a gzipped .vital file."""
    module = of_tests("records/test_vital.py")
    files = [module._file(*module._GOOD), module._file(*module._GOOD, joined=True)]
    return [gzip.decompress(file) for file in files] + real(data, "*/*.vital")


def members(archive: bytes) -> bytes:
    """Return the members of a zip as one input, name and content by turns."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return BETWEEN.join(part for name in opened.namelist() for part in (name.encode(), opened.read(name)))


def packed(data: bytes) -> bytes:
    """Return the zip of such an input."""
    parts = data.split(BETWEEN)
    contents = {name.decode("latin-1").split("\0")[0] or "x": part for name, part in _by_two(parts)}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _by_two(parts: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the parts two by two."""
    return zip(parts[::2], parts[1::2], strict=False)


def npz(data: Path | None) -> list[bytes]:
    """Return the members of an .npz."""
    del data
    from ecgedge.ecg import Recording
    from ecgedge.records import write_npz

    recording = Recording(
        np.zeros((2, 20), np.float32), 500.0, ("I", "II"), patient_id="7", metadata={"a": "b"}
    )
    with tempfile.TemporaryDirectory() as folder:
        write_npz(recording, Path(folder, "r.npz"))
        return [members(Path(folder, "r.npz").read_bytes())]


def hl7(data: Path | None) -> list[bytes]:
    """Return messages: waveforms, an acknowledgement, a refusal."""
    del data
    return list(_hl7_messages())


def _hl7_messages() -> Iterator[bytes]:
    from datetime import datetime, timezone

    from ecgedge.hl7 import Envelope, Waveforms, acknowledge, parse, write_waveforms

    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    samples_mv = np.linspace(-1, 1, 40, dtype=np.float32).reshape(2, 20)
    samples_mv[0, 3] = np.nan
    waveforms = Waveforms(start, 500.0, ("I", "II"), samples_mv, "7", "test")
    message = write_waveforms(waveforms, Envelope(start, "1"), resolution_mv=0.001)
    yield message
    yield message.replace(b"|NA|", b"|MA|")
    for code in ("AA", "AE"):
        yield acknowledge(parse(message), Envelope(start, "2"), code, "no reason at all")


def bridge_vectors(name: str) -> list[dict[str, str]]:
    """Return vectors of the firmware bridge: of every type of message, or streams that each counter has."""
    text = (TESTS.parent / "firmware_bridge" / "vectors" / f"{name}.json").read_text(encoding="utf-8")
    vectors: list[dict[str, str]] = json.loads(text)["vectors"]
    return vectors
