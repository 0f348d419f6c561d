"""Real PhysioNet records against decoders that are not ours, and damaged records against their messages."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import example, given
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS, canonical_lead
from ecgedge.records._wfdb_header import info_metadata, parse_header

Put = Callable[..., Path]

REAL = [
    ("ptbxl/records100/00000/00001_lr", 12, 100, 1000),
    ("ptbxl/records500/00000/00001_hr", 12, 500, 5000),
    ("ludb/data/1", 12, 500, 5000),
    ("long_2lead/mitdb/100", 2, 360, 650_000),
    ("long_2lead/mitdb/200m", 2, 360, 650_000),
    ("long_2lead/qtdb/sel100", 2, 250, 225_000),
    ("ptbdb_15lead/s0010_re", 12, 1000, 38_400),
    ("cinc2021/georgia/E07503", 12, 500, 5000),
    ("cinc2021/chapman_shaoxing/JS20001", 12, 500, 5000),
    ("code15_samitrop/code15/100003", 12, 400, 2934),
]


@pytest.mark.parametrize(("name", "n_leads", "rate_hz", "n_samples"), REAL)
def test_real_record_equals_the_reference_library(
    ecg_data: Path, wfdb_library: ModuleType, name: str, n_leads: int, rate_hz: int, n_samples: int
) -> None:
    reference = wfdb_library.rdrecord(str(ecg_data / name))
    recording = records.read(ecg_data / f"{name}.hea")
    assert recording.samples_mv.shape == (n_leads, n_samples)
    assert recording.samples_mv.dtype == np.float32
    assert recording.rate_hz == rate_hz
    assert "checksum" not in recording.metadata
    for channel, sig_name in enumerate(reference.sig_name):
        if sig_name in ("vx", "vy", "vz"):
            continue
        row = recording.leads.index(canonical_lead(sig_name))
        expected = reference.p_signal[:, channel].astype(np.float32)
        np.testing.assert_array_equal(recording.samples_mv[row], expected)


def test_ptbxl_equals_its_raw_integers(ecg_data: Path) -> None:
    path = ecg_data / "ptbxl/records500/00000/00001_hr.dat"
    raw = np.fromfile(path, "<i2").reshape(-1, 12).T
    recording = records.read(path)
    assert recording.leads == STANDARD_LEADS
    np.testing.assert_allclose(recording.samples_mv, raw / 1000.0, rtol=1e-6, atol=0)


def test_matlab_record_equals_scipys_reading(ecg_data: Path) -> None:
    path = ecg_data / "cinc2021/georgia/E07503.mat"
    recording = records.read(path)
    values = scipy.io.loadmat(path)["val"]
    np.testing.assert_allclose(recording.samples_mv, values / 1000.0, rtol=1e-6, atol=0)
    assert recording.metadata["age"] == "77"
    assert recording.metadata["sex"] == "Female"
    assert recording.metadata["dx"] == "253352002,427084000"


def test_mitdb_100_starts_as_its_header_says(ecg_data: Path) -> None:
    """100.hea: gain 200, zero 1024, first samples 995 and 1011; MLII stands for II."""
    recording = records.read(ecg_data / "long_2lead/mitdb/100")
    assert recording.leads == ("II", "V5")
    np.testing.assert_allclose(
        recording.samples_mv[:, 0], [(995 - 1024) / 200, (1011 - 1024) / 200], rtol=1e-6
    )
    assert (recording.metadata["age"], recording.metadata["sex"]) == ("69", "M")
    assert "Aldomet, Inderal" in recording.metadata["comments"]
    assert "unnecessary" not in recording.metadata["comments"], "stands before the signals: no info line"


def test_frank_leads_are_dropped_and_listed(ecg_data: Path) -> None:
    recording = records.read(ecg_data / "ptbdb_15lead/s0010_re.hea")
    raw = np.fromfile(ecg_data / "ptbdb_15lead/s0010_re.dat", "<i2").reshape(-1, 12).T
    assert recording.leads == STANDARD_LEADS
    assert recording.metadata["dropped_channels"] == "vx, vy, vz"
    assert recording.metadata["age"] == "81"
    np.testing.assert_allclose(recording.samples_mv, raw / 2000.0, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "n_signals"), [("binformats", 10), ("flacformats", 3)])
def test_every_storage_format_decodes_as_the_reference_library_does(
    ecg_data: Path, wfdb_library: ModuleType, tmp_path: Path, name: str, n_signals: int
) -> None:
    """The encoding fixtures, with their signals renamed to leads."""
    for file in (ecg_data / "format_samples/wfdb_encodings").glob(f"{name}.d*"):
        shutil.copy(file, tmp_path)
    text = (ecg_data / f"format_samples/wfdb_encodings/{name}.hea").read_text()
    for i in range(n_signals):
        text = text.replace(f" sig {i}, fmt", f" {STANDARD_LEADS[i]}(", 1)
    # fixtures fill their 32 bits: at 200 units per mV no electrode gives that
    (tmp_path / f"{name}.hea").write_text(text.replace("200/mV", "20000000/mV"))
    recording = records.read(tmp_path / name, gaps="keep")
    expected = wfdb_library.rdrecord(str(tmp_path / name)).p_signal.T.astype(np.float32)
    assert recording.leads == STANDARD_LEADS[:n_signals]
    assert "checksum" not in recording.metadata
    np.testing.assert_array_equal(recording.samples_mv, expected)


def test_a_single_unnamed_ecg_channel_is_not_guessed(ecg_data: Path) -> None:
    with pytest.raises(RecordError, match=r"unknown lead.*'ECG'"):
        records.read(ecg_data / "cinc2017/A00001.hea")


def test_matlab_file_without_header_is_refused(ecg_data: Path) -> None:
    with pytest.raises(RecordError, match=r"patient165_s0322lre\.hea: no such file.*needs its header"):
        records.read(ecg_data / "ptbdb_15lead/patient165_s0322lre.mat")


@pytest.mark.parametrize(
    ("gain", "mv_per_count"),
    [
        ("200/mV", 1 / 200),
        ("200(0)/mv", 1 / 200),
        ("200", 1 / 200),
        ("2/uV", 0.5e-3),
        ("2/UV", 0.5e-3),
        ("2/\u00b5V", 0.5e-3),
        ("2/\u03bcV", 0.5e-3),
        ("200000/V", 1 / 200),
        ("-200/mV", -1 / 200),
        ("200(100)/mV", 1 / 200),
    ],
)
def test_units_become_millivolts(put_wfdb: Put, gain: str, mv_per_count: float) -> None:
    counts = np.array([[0, 100, -100] * 100, [5] * 300])
    baseline = 100 if "(100)" in gain else 0
    recording = records.read(put_wfdb(gain=gain, samples=counts))
    np.testing.assert_allclose(recording.samples_mv, (counts - baseline) * mv_per_count, rtol=1e-6)


def test_leads_are_sorted_and_unknown_channels_dropped(put_wfdb: Put) -> None:
    counts = np.repeat(np.arange(1, 6)[:, None], 300, axis=1)
    path = put_wfdb(
        names=("V2", "RESP", "avr", "Lead I", "PLETH"),
        gain=("200/mV", "1/pm", "200/mV", "200/mV", "0"),
        samples=counts,
    )
    recording = records.read(path)
    assert recording.leads == ("I", "aVR", "V2")
    assert recording.metadata["dropped_channels"] == "RESP, PLETH"
    np.testing.assert_allclose(recording.samples_mv[:, 0], np.array([4, 3, 1]) / 200, rtol=1e-6)


@pytest.mark.parametrize("names", [("MLII", "II"), ("II", "MLII")])
def test_the_standard_name_beats_a_synonym(put_wfdb: Put, names: tuple[str, ...]) -> None:
    counts = np.repeat(np.array([[7 if name == "II" else 9] for name in names]), 300, axis=1)
    recording = records.read(put_wfdb(names=names, samples=counts))
    assert recording.leads == ("II",)
    assert recording.samples_mv[0, 0] == pytest.approx(7 / 200)
    assert recording.metadata["dropped_channels"] == "MLII"


def test_several_samples_a_frame_give_the_full_rate(put_wfdb: Put) -> None:
    """header(5): with format 16x2 the rate of the signal is twice the frame rate."""
    frames = np.arange(800, dtype="<i2").reshape(200, 4)  # two leads of two samples each in a frame
    path = put_wfdb(first_line="r 2 125 200", storage="16x2", dat=frames.tobytes())
    recording = records.read(path)
    assert recording.rate_hz == 250
    np.testing.assert_allclose(recording.samples_mv[0], frames[:, :2].reshape(-1) / 200, rtol=1e-6)
    np.testing.assert_allclose(recording.samples_mv[1], frames[:, 2:].reshape(-1) / 200, rtol=1e-6)


def test_checksum_mismatch_is_noted_not_refused(put_wfdb: Put) -> None:
    assert "checksum" not in records.read(put_wfdb(checksums=True)).metadata
    assert records.read(put_wfdb(checksums=False)).metadata["checksum"] == "mismatch"


def test_patient_id_leaves_the_metadata(put_wfdb: Put) -> None:
    recording = records.read(put_wfdb(info="# <subject_id>: 4711\n# Age: 63\n"))
    assert recording.patient_id == "4711"
    assert "4711" not in recording.metadata.values()
    assert recording.metadata["age"] == "63"


def test_header_without_length_is_read_to_the_end(put_wfdb: Put) -> None:
    assert records.read(put_wfdb(first_line="r 2 250")).samples_mv.shape == (2, 300)


def test_missing_samples_are_refused_or_kept(put_wfdb: Put) -> None:
    counts = np.zeros((2, 300), int)
    counts[1, 100:110] = -32768  # signal(5): the value of format 16 that means "not measured"
    path = put_wfdb(samples=counts)
    with pytest.raises(RecordError, match=r"10 samples are missing.*lead II at 0\.400 s"):
        records.read(path)
    missing = np.isnan(records.read(path, gaps="keep").samples_mv)
    assert missing[1, 100:110].all()
    assert missing.sum() == 10


TWO_SIGNALS = "r.dat 16 200/mV 16 0 0 0 0 I\nr.dat 16 200/mV 16 0 0 0 0 II\n"

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("truncated", {"dat": bytes(1000)}, r"r\.dat is truncated: the header says 300 .* holds 250"),
    ("truncated in mid-sample", {"dat": bytes(1199)}, r"truncated: .* holds 299"),
    ("empty samples", {"dat": b""}, r"truncated: .* holds 0"),
    ("truncated, packed format", {"storage": "212", "dat": bytes(899)}, r"truncated: .* holds 299"),
    (
        "impossible length",
        {"first_line": "r 2 250 99999999999999"},
        r"truncated: the header says 99999999999999",
    ),
    ("no sample file", {"write_dat": False}, r"no such file r\.dat"),
    ("NaN-filled", {"samples": np.full((2, 300), -32768)}, r"every sample is missing"),
    ("text as samples", {"dat": b"I am no ECG.\n" * 200}, r"r\.dat is a text file"),
    ("wrong unit", {"gain": "200/mmHg"}, r"lead I is in 'mmHg'; expected mV, uV, nV or V"),
    ("unit of no meaning", {"gain": "200/NU"}, r"lead I is in 'NU'"),
    ("gain zero", {"gain": "0/mV"}, r"lead I is uncalibrated"),
    ("gain unreadable", {"gain": "2E3/mV"}, r"signal line .*2E3/mV.* cannot be read"),
    ("microvolts called millivolts", {"gain": "0.2/mV"}, r"cannot come from electrodes"),
    ("unknown leads", {"names": ("ABP", "RESP")}, r"unknown lead.*'ABP', 'RESP'"),
    ("same lead twice", {"names": ("II", "ii")}, r"'II' and 'ii' both mean lead II"),
    ("two synonyms", {"names": ("MLII", "ML2")}, r"'MLII' and 'ML2' both mean lead II"),
    ("negative rate", {"first_line": "r 2 -250 300"}, r"rate of -250 Hz is not usable"),
    ("rate zero", {"first_line": "r 2 0 300"}, r"rate of 0 Hz is not usable"),
    ("absurd rate", {"first_line": "r 2 1e9 300"}, r"rate of 1e\+09 Hz is not usable"),
    ("rate no number", {"first_line": "r 2 nan 300"}, r"not a WFDB header"),
    ("no rate", {"first_line": "r 2"}, r"gives no sampling rate"),
    ("no samples", {"first_line": "r 2 250 0"}, r"announces no samples"),
    ("too few signals described", {"first_line": "r 3 250 300"}, r"announces 3 signals but 2 are described"),
    ("too many signals described", {"first_line": "r 1 250 300"}, r"announces 1 signals but 2 are described"),
    ("unknown storage format", {"storage": "99"}, r"cannot be decoded \(KeyError"),
    ("no FLAC behind format 516", {"storage": "516"}, r"cannot be decoded"),
    ("segments", {"first_line": "r/2 2 250 300"}, r"a record of 2 segments"),
]


@pytest.mark.parametrize(("fields", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
@pytest.mark.parametrize("gaps", ["refuse", "keep"])
def test_bad_record_is_refused(put_wfdb: Put, fields: dict[str, Any], message: str, gaps: Any) -> None:
    path = put_wfdb(**fields)
    with pytest.raises(RecordError, match=message) as caught:
        records.read(path, gaps=gaps)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "the header is empty"),
        ("# only a remark\n", "the header is empty"),
        ("Dear colleague,\nthe ECG was fine.\n", "not a WFDB header: the first line reads 'Dear colleague,'"),
        ("\x7fELF\x00\x01\n", "not a WFDB header"),
        ("r 0 250 300\n", "announces no signals"),
        ("r 1 250 300\nr.dat\n", "signal line 'r.dat' cannot be read"),
        ("r 1 250 300\n../r.dat 16 200/mV 16 0 0 0 0 I\n", "outside the record's folder"),
        ("r 1 250 300\n/etc/passwd 16 200/mV 16 0 0 0 0 I\n", "outside the record's folder"),
        ("r 2 250 300\nr.dat 16x2 200 16 0 0 0 0 I\nr.dat 16 200 16 0 0 0 0 V1\n", "I 500 Hz, V1 250 Hz"),
        ("r 1 250 300\nr.dat 16\n", "unknown lead: .* names seen: ''"),
        (" " * 1_000_001, "too many for a WFDB header"),
        (
            f"r 1 250 300\nr.dat 8 200/mV 16 0 {'3' * 30} 0 0 I\n",
            "samples cannot be decoded \\(OverflowError",
        ),
        (f"r 1 250 300\n{'r' * 300}.dat 16 200/mV 16 0 0 0 0 I\n", "names a file that cannot be looked for"),
    ],
)
def test_bad_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "r.hea").write_text(header)
    (tmp_path / "r.dat").write_bytes(bytes(1200))
    with pytest.raises(RecordError, match=message):
        records.read(tmp_path / "r.hea")


def test_the_cause_stays_attached(put_wfdb: Put) -> None:
    with pytest.raises(RecordError) as caught:
        records.read(put_wfdb(storage="99"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_missing_library_names_the_extra(put_wfdb: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(UsageError, match=r"ecgedge\[records\]"):
        records.read(put_wfdb())


def test_header_fields_by_the_letter() -> None:
    """The first example of header(5), MIT-BIH record 100, and a line with every optional part."""
    header = parse_header("100 2 360/10(3.5) 650000 0:0:0 1/2/1990\n" + TWO_SIGNALS, source="x")
    assert (header.frame_rate_hz, header.frames) == (360, 650000)
    text = "r 1 250\nr.dat 16x2:3+512 1.5e2(-7)/uV 11 1024 995 -22131 0 lead one, with spaces\n"
    signal = parse_header(text, source="x").signals[0]
    assert (signal.storage_format, signal.samples_per_frame, signal.byte_offset) == ("16", 2, 512)
    assert (signal.gain, signal.units, signal.name) == (150.0, "uV", "lead one, with spaces")


def test_info_lines_become_metadata() -> None:
    metadata = info_metadata(["Age: 77", "age: 12", "", "no pair here", "Time: 10:30"])
    assert metadata == {"age": "77", "time": "10:30", "comments": "no pair here"}


_PIECES = st.sampled_from(
    ["r", "2", "250", "-1", "1e5", "/", " ", "\n", "16", "x", "200/mV", "(", ")", "+", "#", "I"]
)


@given(st.text() | st.lists(_PIECES).map("".join))
@example("r 2 250 " + "9" * 5000)
@example("r 2 " + "9" * 5000)
@example("r 1 250 9\nr.dat 16+" + "9" * 5000 + " 200 I")
def test_any_text_is_a_header_or_a_record_error(text: str) -> None:
    """Nothing but our error escapes, so the command line never shows a traceback for a bad file."""
    try:
        header = parse_header(text, source="x")
    except RecordError as error:
        assert str(error).startswith("x: ")  # noqa: PT017 - most texts raise, some parse
    else:
        assert header.signals
