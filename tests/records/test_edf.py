"""EDF and EDF+ against pyedflib, worked values, and damaged copies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import needs
import numpy as np
import pyedflib
import pytest
from damaged_files import DAMAGE, damaged, read_or_refuse
from edf_files import Signal, edf_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.errors import RecordError, UsageError

Put = Callable[..., Path]
_STORED = np.random.default_rng(7).integers(-32768, 32768, (4, 250)).astype("<i2")
_TWO = [Signal("ECG I", _STORED), Signal("ECG II", _STORED[::-1])]


@pytest.fixture
def real(ecg_data: Path) -> bytes:
    """The real file: one channel called ECG, which says that it is no certain lead."""
    return (ecg_data / "format_samples/edf/cardio_sample_1lead_300hz.edf").read_bytes()


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def put(signals: list[Signal], **fields: object) -> Path:
        path = tmp_path / "r.edf"
        path.write_bytes(edf_bytes(signals, **fields))
        return path

    return put


def _as_pyedflib_reads(path: Path, channel: int) -> np.ndarray:
    with pyedflib.EdfReader(str(path)) as reader:
        return reader.readSignal(channel)


def test_real_file_does_not_say_which_lead(ecg_data: Path) -> None:
    with pytest.raises(RecordError, match=r"unknown lead.*names seen: 'ECG'.*Rename the channels"):
        records.read(ecg_data / "format_samples/edf/cardio_sample_1lead_300hz.edf")


def test_real_file_with_its_lead_named_equals_pyedflib(ecg_data: Path, real: bytes, tmp_path: Path) -> None:
    """AliveCor's recorder measures lead I; the label, 16 bytes at 256, is the one change."""
    path = tmp_path / "named.edf"
    path.write_bytes(real[:256] + b"ECG I".ljust(16) + real[272:])
    recording = records.read(path)
    assert (recording.leads, recording.rate_hz, recording.duration_s) == (("I",), 300, 40)
    np.testing.assert_allclose(recording.samples_mv[0], _as_pyedflib_reads(path, 0), rtol=1e-6, atol=1e-9)
    # the 30 s of PhysioNet's record, of which the file is a copy; its writer filled the rest of the last record
    wfdb_mv = needs.wfdb().rdrecord(str(ecg_data / "cinc2017/A00001")).p_signal[:, 0]
    np.testing.assert_allclose(recording.samples_mv[0, :9000], wfdb_mv, atol=1e-6)
    assert recording.patient_id == "challenge/2017/training/A00/A00001"


@pytest.mark.parametrize(("unit", "mv_per_unit"), [("uV", 1e-3), ("mV", 1), ("nV", 1e-6)])
def test_units(put: Put, unit: str, mv_per_unit: float) -> None:
    fields = {"unit": unit, "physical_min": "-3", "physical_max": "5", "digital_min": "-2048"}
    stored = np.clip(_STORED, -2048, 2047)
    path = put([Signal("ECG V1", stored, fields | {"digital_max": "2047"})])
    expected = _as_pyedflib_reads(path, 0) * mv_per_unit
    np.testing.assert_allclose(records.read(path).samples_mv[0], expected, rtol=1e-5, atol=1e-9)


def test_leads_are_ordered_and_other_signals_dropped(put: Put) -> None:
    slow = Signal("Resp", _STORED[:, :25], {"unit": ""})
    recording = records.read(put([slow, *reversed(_TWO)]))
    assert recording.leads == ("I", "II")
    assert recording.metadata == {"format": "edf", "dropped_channels": "Resp"}
    worked = (_STORED.reshape(-1).astype(float) + 32768) * 10 / 65535 - 5
    np.testing.assert_allclose(recording.samples_mv[0], worked, rtol=1e-5, atol=1e-6)


def test_record_duration_counts(put: Put) -> None:
    assert records.read(put(_TWO, record_s="0.5")).rate_hz == 500


def test_edf_plus_says_who(put: Put) -> None:
    recording = records.read(
        put(
            _TWO, reserved="EDF+C", patient="MCH-7 F 01-MAY-1951 Name_Of_Her", onsets=["+0", "+1", "+2", "+3"]
        )
    )
    assert (recording.patient_id, recording.metadata["sex"]) == ("MCH-7", "F")
    assert "Name" not in str(recording.metadata)
    assert "dropped_channels" not in recording.metadata


@pytest.mark.parametrize(("reserved", "patient"), [("EDF+C", "X X X X"), ("", ""), ("EDF+C", "")])
def test_nobody_is_nobody(put: Put, reserved: str, patient: str) -> None:
    recording = records.read(put(_TWO, reserved=reserved, patient=patient, onsets=["+0", "+1", "+2", "+3"]))
    assert recording.patient_id is None


def test_gaps_of_a_discontinuous_file_are_nan(put: Put) -> None:
    """Records of one second at 0.5, 1.5, 4.5 and 5.5 s: two seconds are missing after the second."""
    path = put(_TWO, reserved="EDF+D", onsets=["+0.5", "+1.5", "+4.5", "+5.5"])
    with pytest.raises(RecordError, match=r"1000 samples are missing.*lead I at 2\.000 s"):
        records.read(path)
    samples_mv = records.read(path, gaps="keep").samples_mv
    whole = records.read(put(_TWO)).samples_mv
    np.testing.assert_array_equal(np.delete(samples_mv, range(500, 1000), axis=1), whole)
    assert samples_mv.shape == (2, 1500)


def test_a_discontinuous_file_may_have_no_gap(put: Put) -> None:
    path = put(_TWO, reserved="EDF+D", onsets=["+0", "+1", "+2", "+3"])
    np.testing.assert_array_equal(records.read(path).samples_mv, records.read(put(_TWO)).samples_mv)


@pytest.mark.parametrize(
    ("onsets", "message"),
    [
        (["+0", "+0.5", "+2", "+3"], "record 2 begins at 0.5 s, before the end"),
        (["+0", "+1", "+9999999", "+99999999"], "gaps between records are 99999996 s in all"),
        (["+0", "+1", "+" + "9" * 25, "+" + "9" * 26], "gaps between records"),
        (["+0", "", "+2", "+3"], r"record 2 does not say when it begins"),
        (["+0", "1", "+2", "+3"], r"record 2 does not say when it begins \(seen: b'1"),
        (None, "without the signal 'EDF Annotations'"),
    ],
)
def test_times_that_cannot_be_are_refused(put: Put, onsets: list[str] | None, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        records.read(put(_TWO, reserved="EDF+D", onsets=onsets))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit": "mmHg"}, r"lead I is in 'mmHg'; expected mV"),
        ({"unit": ""}, r"lead I is in ''"),
        (
            {"physical_max": "-5000"},
            r"lead I is uncalibrated \(digital -32768 to 32767 is physical -5000 to -5000",
        ),
        ({"physical_max": "nan"}, "lead I is uncalibrated"),
        ({"physical_max": ""}, "not a readable EDF file"),
        ({"physical_max": "big"}, "not a readable EDF file"),
        ({"physical_max": "1e999"}, "not a readable EDF file"),
        ({"physical_max": "1e300"}, "infinite samples"),
        ({"digital_max": "-32768"}, "lead I is uncalibrated"),
        ({"digital_min": "1.5"}, "not a readable EDF file"),
        ({"n_samples": "-250"}, r"r\.edf"),
        ({"n_samples": "99999999"}, "not a readable EDF file"),
        ({"n_samples": "x"}, "not a readable EDF file"),
        ({"label": "ECG II"}, "'ECG II' and 'ECG II' both mean lead II"),
    ],
)
def test_bad_signal_is_refused(put: Put, fields: dict[str, str], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        records.read(put([Signal("ECG I", _STORED, fields), _TWO[1]]))


def test_rates_must_agree(put: Put) -> None:
    with pytest.raises(RecordError, match=r"different sampling rates \(I 250 Hz, II 125 Hz\)"):
        records.read(put([_TWO[0], Signal("ECG II", _STORED[:, :125])]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_records": "5"}, "indicates 5 data records, but file contains 4"),
        ({"n_records": "3"}, "indicates 3 data records, but file contains 4"),
        ({"n_records": "-1"}, "indicates -1 data records"),
        ({"record_s": "0"}, "not a readable EDF file"),
        ({"record_s": "-1"}, r"rate of -250 Hz is not usable"),
        ({"record_s": "nan"}, r"r\.edf"),
        ({"record_s": "100"}, r"rate of 2\.5 Hz is not usable"),
    ],
)
def test_bad_header_is_refused(put: Put, fields: dict[str, str], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        records.read(put(_TWO, **fields))


@pytest.mark.parametrize("keep", [0, 1, 100, 256, 300, 767, 768, 800, 1768, 4767])
def test_cut_file_is_refused(put: Put, keep: int) -> None:
    path = put(_TWO)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError, match=r"r\.edf"):
        records.read(path)


@settings(max_examples=60)
@given(damage=DAMAGE, within=st.sampled_from([None, 768]))
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, str, bytes]], within: int | None
) -> None:
    whole = edf_bytes(_TWO, reserved="EDF+D", onsets=["+0", "+1", "+4", "+5"])
    read_or_refuse(tmp_path_factory.getbasetemp() / "damaged.edf", damaged(whole, damage, within=within))


def test_garbage_is_refused(tmp_path: Path) -> None:
    for name, data in (("letter", b"Dear colleague, " * 99), ("noise", np.random.default_rng(1).bytes(5000))):
        path = tmp_path / f"{name}.edf"
        path.write_bytes(data)
        with pytest.raises(RecordError, match=f"{name}.edf: not a readable EDF"):
            records.read(path)


def test_missing_library_names_the_extra(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edfio", None)
    with pytest.raises(UsageError, match=r"ecgedge\[records\]"):
        records.read(put(_TWO))
