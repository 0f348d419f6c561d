"""Philips' Sierra XML against sierraecg's reader, samples packed by hand, and damaged copies."""

from __future__ import annotations

import base64
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sierraecg
from damaged_files import DAMAGE, damaged, read_or_refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records._xli import decode_xli

_FOLDER = "format_samples/philips_sierra_xml"
_REAL = [
    ("1.03_129DYPRG.xml", "1112010721168bdc", {"sex": "M", "age": "50"}),
    ("1.03_repbeats.xml", "1112010721168bdc", {"sex": "M", "age": "50"}),
    ("1.04_ZZDEMOPTONLY.xml", "9999", {"sex": "M"}),
    ("1.04_ad4d3d80.xml", "9999", {"sex": "F"}),
]
_FLAT_LEFT_OVER = np.zeros((12, 200), np.int64)


def _chunk(samples: np.ndarray) -> bytes:
    """Pack one lead: second differences, high bytes before low bytes, each byte an LZW code of its own."""
    # sample[i] = 2 sample[i-1] - sample[i-2] - last, where last is the word before it minus 64, or the first of all
    last = 2 * samples[1:-1] - samples[:-2] - samples[2:]
    differences = np.concatenate([samples[:2], last[1:] + 64, [0]])
    words = differences.astype(">i2").view(np.uint8).reshape(-1, 2)
    bits = "".join(f"{byte:010b}" for byte in words.T.reshape(-1)) + "1" * 10
    codes = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return (
        len(codes).to_bytes(4, "little")
        + b"\x01\x00"
        + int(last[0]).to_bytes(2, "little", signed=True)
        + codes
    )


def _document(left_over: np.ndarray = _FLAT_LEFT_OVER, *, data: bytes | None = None) -> str:
    """A file of version 1.04 with twelve leads at 500 Hz, 5 uV a unit."""
    data = b"".join(map(_chunk, left_over)) if data is None else data
    return (
        '<restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo><documenttype>PhilipsECG'
        "</documenttype><documentversion>1.04</documentversion></documentinfo><dataacquisition>"
        "<signalcharacteristics><samplingrate>500</samplingrate><resolution>5</resolution>"
        "<acquisitiontype>10-WIRE</acquisitiontype><bitspersample>16</bitspersample><signaloffset>0</signaloffset>"
        "<signalsigned>True</signalsigned><numberchannelsallocated>12</numberchannelsallocated>"
        "</signalcharacteristics></dataacquisition><waveforms>"
        '<parsedwaveforms dataencoding="Base64" compression="XLI" numberofleads="12" '
        f'leadlabels="{" ".join(STANDARD_LEADS)}" durationperchannel="{2 * left_over.shape[1]}" '
        f'samplespersecond="500" resolution="5">{base64.b64encode(data).decode()}</parsedwaveforms>'
        "</waveforms></restingecgdata>"
    )


def _put(folder: Path, text: str) -> Path:
    path = folder / "r.xml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "patient_id", "told"), _REAL)
def test_real_file_equals_sierraecgs_reading(
    ecg_data: Path, name: str, patient_id: str, told: dict[str, str]
) -> None:
    path = ecg_data / _FOLDER / name
    recording = records.read(path)
    assert (recording.leads, recording.rate_hz, recording.duration_s) == (STANDARD_LEADS, 500, 11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its sums of 16 bits may overflow
        leads = sierraecg.read_file(str(path)).leads
    assert [lead.label for lead in leads] == list(STANDARD_LEADS)
    np.testing.assert_array_equal(np.rint(recording.samples_mv / 0.005), [lead.samples for lead in leads])
    # the calibration pulse of 1 mV says that a unit is 5 uV; it stays in the samples
    np.testing.assert_allclose(recording.samples_mv[:2, 5350:5450], 1)
    assert recording.patient_id == patient_id
    assert recording.metadata == {"format": "sierra"} | told


def test_samples_packed_by_hand(tmp_path: Path) -> None:
    """What is left of III, aVR, aVL and aVF after their prediction is 0 in this file, but for one unit of III."""
    rng = np.random.default_rng(3)
    stored = np.cumsum(rng.integers(-40, 40, (12, 300)), axis=1)
    stored[2:6] = 0
    stored[2, 50] = 1
    i, ii = stored[:2]
    iii = ii - i - stored[2]
    worked = [i, ii, iii, -((i + ii) // 2), (i - iii) // 2, (ii + iii) // 2, *stored[6:]]
    recording = records.read(_put(tmp_path, _document(stored)))
    np.testing.assert_allclose(recording.samples_mv, np.array(worked) * 0.005, rtol=1e-6, atol=1e-9)
    assert recording.patient_id is None


def test_leads_without_names_stand_in_standard_order(tmp_path: Path) -> None:
    text = _document().replace("leadlabels", "other")
    assert records.read(_put(tmp_path, text)).leads == STANDARD_LEADS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.04<", "2.0<", "type 'PhilipsECG', version '2.0'; versions 1.03"),
        ("PhilipsECG<", "Other<", "type 'Other'"),
        ("<documentversion>1.04</documentversion>", "", "has no documentinfo/documentversion"),
        ("<resolution>5</resolution>", "", "the resolution is ''; expected a number"),
        ("<resolution>5<", "<resolution>0<", "the resolution is '0' and '5'"),
        ('resolution="5"', 'resolution="2"', "the resolution is '5' and '2'; the leads are uncalibrated"),
        ("<samplingrate>500", "<samplingrate>x", "samplingrate is 'x'"),
        ('second="500"', 'second="250"', "samplingrate is 500 and samplespersecond 250"),
        ("<samplingrate>500</samplingrate>", "", "has no samplingrate"),
        ("<signaloffset>0", "<signaloffset>9", "signaloffset is '9'; only 0 is read"),
        ("<signalsigned>True", "<signalsigned>False", "signalsigned is 'False'"),
        ("<bitspersample>16", "<bitspersample>12", "bitspersample is '12'"),
        ('compression="XLI"', 'compression="ZIP"', "compression 'ZIP' in 'Base64'; only XLI"),
        ('compression="XLI"', "", "compression 'none'"),
        ('dataencoding="Base64"', 'dataencoding="Hex"', "compression 'XLI' in 'Hex'"),
        ('channel="400"', 'channel="402"', "lead 1 should have 201 samples and has 200"),
        ('channel="400"', 'channel="398"', "lead 1 should have 199 samples and has more"),
        ('channel="400"', 'channel="999999999"', "500000000 samples a lead; from 2 to 1000000 are read"),
        ('channel="400"', 'channel="0"', "0 samples a lead"),
        ('channel="400"', 'channel="-400"', "durationperchannel is '-400'"),
        ('durationperchannel="400"', "", "durationperchannel is missing"),
        (" V6", " V5", "'V5' and 'V5' both mean lead V5"),
        ("I II III", "II I III", "leads II,I,III.*are read in the order I,II,III"),
        ("parsedwaveforms", "other", "or waveforms/parsedwaveforms; export"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = _document()
    assert old in text
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, text.replace(old, new)))


_ONE = _chunk(_FLAT_LEFT_OVER[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "lead 1 of 12 are cut"),
        (_ONE * 11, "lead 12 of 12 are cut"),
        (_ONE * 11 + _ONE[:-9], "lead 12 of 12 are cut"),
        (_ONE[:4], "lead 1 of 12 are cut"),
        (b"\xf8\xff\xff\xff" + _ONE[4:] * 12, "lead 1 of 12 are cut"),
        (b"\xff\xff\xff\x7f" + _ONE[4:] * 12, "lead 1 of 12 are cut"),
        (_ONE[:8] + b"\xfe" * (len(_ONE) - 8) + _ONE * 11, "compressed samples of lead 1 are damaged"),
        (_ONE[:8] + b"\xff" * (len(_ONE) - 8) + _ONE * 11, "lead 1 should have 200 samples and has 0"),
    ],
)
def test_bad_chunks_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """A size of -8 sends a reader that only adds it back to where it was, for ever."""
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, _document(data=data)))


def test_what_is_no_base64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="samples of the leads are not base64"):
        records.read(_put(tmp_path, _document().replace("</parsed", "!</parsed")))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_cut_file_is_refused(ecg_data: Path, tmp_path: Path, share: float) -> None:
    whole = (ecg_data / _FOLDER / "1.04_ad4d3d80.xml").read_bytes()
    path = tmp_path / "r.xml"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RecordError, match="not readable XML"):
        records.read(path)


@settings(max_examples=50)
@given(name=st.sampled_from([name for name, _, _ in _REAL[1:3]]), damage=DAMAGE)
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory,
    ecg_data: Path,
    name: str,
    damage: list[tuple[int, str, bytes]],
) -> None:
    whole = (ecg_data / _FOLDER / name).read_bytes()
    read_or_refuse(tmp_path_factory.getbasetemp() / "sierra.xml", damaged(whole, damage))


@settings(max_examples=100)
@given(
    data=st.binary(max_size=80)
    | st.binary(max_size=60).map(lambda b: len(b).to_bytes(4, "little") + b"1234" + b)
)
def test_any_bytes_unpack_or_are_refused(data: bytes) -> None:
    try:
        decoded = decode_xli(data, n_leads=1, n_samples=20, source="x")
    except RecordError:
        return
    assert decoded.shape == (1, 20)
    assert np.abs(decoded).max() <= 32768


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sierraecg.lzw", None)
    with pytest.raises(UsageError, match=r"sierraecg.*ecgedge\[records\]"):
        records.read(_put(tmp_path, _document()))
