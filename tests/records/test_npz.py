"""Our exchange format: what is written comes back, and nothing else gets in."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records.npz import read_npz, write_npz

# A NumPy string drops closing NULs and cannot hold lone surrogates; no patient id has either.
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    chosen = draw(st.sets(st.sampled_from(STANDARD_LEADS), min_size=1))
    leads = tuple(lead for lead in STANDARD_LEADS if lead in chosen)
    shape = (len(leads), draw(st.integers(1, 40)))
    values = st.floats(-1000, 1000, width=32) | st.just(float("nan"))
    return Recording(
        samples_mv=draw(st_numpy.arrays(np.float32, shape, elements=values)),
        rate_hz=draw(st.floats(90, 20_000)),
        leads=leads,
        mode=draw(st.sampled_from(["real", "test", "demo"])),
        patient_id=draw(st.none() | _TEXT.filter(bool)),
        metadata=draw(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)),
    )


@given(recordings())
def test_round_trip(recording: Recording) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.npz"
        write_npz(recording, path)
        again = read_npz(path)
        assert [file.name for file in Path(folder).iterdir()] == ["r.npz"]
    np.testing.assert_array_equal(again.samples_mv, recording.samples_mv)
    for field in ("rate_hz", "leads", "mode", "patient_id", "metadata"):
        assert getattr(again, field) == getattr(recording, field)
    assert again.source == str(path)


def _good() -> dict[str, Any]:
    return {"samples_mv": np.ones((2, 300)), "rate_hz": 250, "leads": ["I", "II"]}


def test_a_file_of_the_three_required_arrays_is_enough(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **_good())
    recording = records.read(tmp_path / "r.npz")
    assert (recording.mode, recording.patient_id, recording.metadata) == ("real", None, {})
    assert recording.samples_mv.dtype == np.float32


def test_leads_are_brought_into_standard_order(tmp_path: Path) -> None:
    samples = np.arange(3)[:, None] * np.ones(300)
    np.savez(tmp_path / "r.npz", **_good() | {"samples_mv": samples, "leads": ["v1", "RESP", "Lead I"]})
    recording = records.read(tmp_path / "r.npz")
    assert recording.leads == ("I", "V1")
    assert recording.samples_mv[:, 0].tolist() == [2, 0]
    assert recording.metadata["dropped_channels"] == "RESP"


def test_simulated_stays_simulated(tmp_path: Path) -> None:
    write_npz(Recording(np.ones((1, 300), np.float32), 250, ("I",), mode="demo"), tmp_path / "sim.npz")
    assert "demo (simulated)" in records.describe(records.read(tmp_path / "sim.npz"))


NAN = np.full((2, 300), np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_hz": None}, "no array rate_hz; found samples_mv, leads"),
        (
            {"samples_mv": np.ones((2, 300), np.int16)},
            "samples_mv is int16.*expected floating-point millivolts",
        ),
        ({"samples_mv": np.ones(300)}, r"samples_mv is float64 of shape \(300,\)"),
        ({"samples_mv": np.ones((3, 300))}, "but 2 leads are named"),
        ({"samples_mv": np.ones((2, 0))}, "holds no samples"),
        ({"samples_mv": np.full((2, 300), 5000.0)}, "cannot come from electrodes"),
        ({"samples_mv": NAN}, "every sample is missing"),
        ({"samples_mv": np.where(np.arange(300) == 7, np.nan, np.ones((2, 300)))}, "2 samples are missing"),
        ({"samples_mv": np.array([[object()]])}, "not a readable .npz"),
        ({"leads": [1, 2]}, "expected a list of names"),
        ({"leads": ["A", "B"]}, "unknown lead"),
        ({"leads": ["I", "i"]}, "both mean lead I"),
        ({"rate_hz": -5}, "rate of -5 Hz is not usable"),
        ({"rate_hz": float("nan")}, "rate of nan Hz is not usable"),
        ({"rate_hz": [1, 2]}, "expected one number"),
        ({"mode": "dream"}, "mode is 'dream'"),
        ({"metadata_json": "{"}, "no JSON"),
        ({"metadata_json": "[1]"}, "expected an object"),
        ({"metadata_json": "[" * 100_000}, "no JSON"),
        ({"leads": np.array([0x110000, 73], "<u4").view("<U1")}, "'leads' in it holds no text of Unicode"),
        ({"leads": np.array([0x110000, 73], ">u4").view(">U1")}, "'leads' in it holds no text of Unicode"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {key: value for key, value in (_good() | change).items() if value is not None}
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(RecordError, match=message):
        records.read(tmp_path / "r.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(RecordError, match=r"not a readable \.npz archive"):
        records.read(tmp_path / "r.npz")


def test_cut_or_altered_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    noise = np.random.default_rng(0).normal(size=(1, 3000)).astype(np.float32)
    write_npz(Recording(noise, 250, ("I",)), path)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-30], whole[:2000] + bytes(100) + whole[2100:]):
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match=r"r\.npz"):
            records.read(path)


@pytest.mark.parametrize(("place", "value"), [(6, 200), (8, 1)], ids=["zip version", "encrypted"])
def test_zip_features_beyond_ours_are_refused(tmp_path: Path, place: int, value: int) -> None:
    """Fields of a ZIP central directory entry: version needed to extract at 6, flags at 8."""
    path = tmp_path / "r.npz"
    np.savez(path, **_good())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + place] = value
    path.write_bytes(data)
    with pytest.raises(RecordError, match=r"not a readable \.npz archive"):
        records.read(path)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (b"no array", "'leads' in it is no array"),
        (b"\x93NUMPY\x01\x00\x02\x00{(", "not a readable"),
        (
            b"\x93NUMPY\x01\x00\x3a\x00{'descr': '<f,(', 'fortran_order': False, 'shape': (1,), }",
            "not a readable",
        ),
        (
            b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': ("
            + b"9" * 20
            + b",), }",
            "not",
        ),
    ],
    ids=["bytes", "cut", "type", "size"],
)
def test_members_that_are_no_arrays_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    """Each was found by fuzzing: NumPy gives the first as bytes, and reads the others' headers as Python."""
    path = tmp_path / "r.npz"
    np.savez(path, **{name: array for name, array in _good().items() if name != "leads"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("leads" if message.startswith("'") else "leads.npy", member)
    with pytest.raises(RecordError, match=message):
        records.read(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "r.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(RecordError, match="a single array"):
        records.read(tmp_path / "r.npz")
