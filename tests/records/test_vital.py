""".vital files written by vitaldb against its own reader, packets by hand, and damaged copies."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from damaged_files import DAMAGE, damaged, read_or_refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.errors import RecordError
from ecgedge.records import _vital_packets

VitalFile = needs.vitaldb().utils.VitalFile
_START_S = 1_700_000_000.0
_MV = np.random.default_rng(11).normal(0, 1, 2500).astype(np.float32)


def _blocks(values: np.ndarray, times_s: list[float]) -> list[dict[str, Any]]:
    parts = np.array_split(values, len(times_s))
    return [{"dt": _START_S + time_s, "val": part} for time_s, part in zip(times_s, parts, strict=True)]


def _recorder() -> Any:
    recorder = VitalFile(None)
    recorder.dtstart, recorder.dtend = _START_S, _START_S + 5
    return recorder


def _write(recorder: Any, path: Path, *, joined: bool = False) -> Path:
    assert recorder.to_vital(str(path), packed=joined)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.vital"


@pytest.mark.parametrize("joined", [False, True])
def test_what_vitaldb_writes_and_reads(path: Path, joined: bool) -> None:
    """Lead II in five blocks with a second missing, V5 whole; pressure and heart rate beside them."""
    recorder = _recorder()
    recorder.dtend += 1
    recorder.add_track("SNUADC/ECG_V5", _blocks(_MV * 2, [0]), srate=500, unit="mV")
    recorder.add_track("SNUADC/ART", _blocks(_MV[:500], [0]), srate=100, unit="mmHg")
    recorder.add_track("Solar/HR", [{"dt": _START_S, "val": 77.0}])
    recorder.add_track("SNUADC/ECG_II", _blocks(_MV, [0, 1, 3, 4, 5]), srate=500, unit="mV")
    recording = records.read(_write(recorder, path, joined=joined), gaps="keep")
    assert (recording.leads, recording.rate_hz, recording.duration_s) == (("II", "V5"), 500, 6)
    assert recording.patient_id is None
    assert recording.metadata == {"format": "vital", "dropped_channels": "ART"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # vitaldb leaves the file to the garbage collector
        theirs = VitalFile(str(path))
    for row, track in zip(recording.samples_mv, ("SNUADC/ECG_II", "SNUADC/ECG_V5"), strict=True):
        np.testing.assert_array_equal(row, theirs.get_track_samples(track, 1 / 500))
    with pytest.raises(RecordError, match=r"missing \(NaN\); the first is in lead II at 2\.000 s"):
        records.read(path)


@pytest.mark.parametrize(("unit", "mv_per_unit"), [("uV", 1e-3), ("V", 1e3), ("mV", 1)])
def test_units(path: Path, unit: str, mv_per_unit: float) -> None:
    recorder = _recorder()
    recorder.add_track("ECG_I", _blocks(_MV * 0.01, [0]), srate=500, unit=unit)
    np.testing.assert_allclose(
        records.read(_write(recorder, path)).samples_mv[0], _MV * (0.01 * mv_per_unit), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("storage", "dtype", "missing"),
    [
        (3, "<i1", -128),
        (4, "<u1", 255),
        (5, "<i2", -32768),
        (6, "<u2", 65535),
        (7, "<i4", -(2**31)),
        (8, "<u4", 2**32 - 1),
    ],
)
def test_integers_have_gain_and_offset(path: Path, storage: int, dtype: str, missing: int) -> None:
    """(stored * 0.5 + 3) mV; a joined file fills gaps with a number, one of blocks does not."""
    stored = np.array([1, 2, missing, 100, 27] * 20, dtype)
    path.write_bytes(_file(_track(storage=storage, gain=0.5, offset=3.0), _samples(stored), joined=True))
    samples_mv = records.read(path, gaps="keep").samples_mv[0]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(samples_mv)), range(2, 100, 5))
    np.testing.assert_allclose(samples_mv[[0, 1, 3, 4]], [3.5, 4, 53, 16.5])
    if abs(missing) < 300:
        path.write_bytes(_file(_track(storage=storage, gain=0.5, offset=3.0), _samples(stored)))
        assert records.read(path).samples_mv[0, 2] == missing * 0.5 + 3


def _packet(kind: int, body: bytes) -> bytes:
    return struct.pack("<BL", kind, len(body)) + body


def _text(text: str) -> bytes:
    return struct.pack("<L", len(text)) + text.encode()


def _track(
    name: str = "ECG_II",
    *,
    number: int = 1,
    unit: str = "mV",
    storage: int = 1,
    rate_hz: float = 500,
    gain: float = 1.0,
    offset: float = 0.0,
) -> bytes:
    body = struct.pack("<HBB", number, 1, storage) + _text(name) + _text(unit)
    return _packet(0, body + struct.pack("<ffLfddBL", -1, 1, 0, rate_hz, gain, offset, 0, 0))


def _samples(
    stored: np.ndarray, *, time_s: float = _START_S, number: int = 1, n_samples: int | None = None
) -> bytes:
    told = len(stored) if n_samples is None else n_samples
    return _packet(1, struct.pack("<HdHL", 10, time_s, number, told) + stored.tobytes())


def _file(*packets: bytes, joined: bool = False) -> bytes:
    header = struct.pack("<hLLddB", 0, 0, 0, _START_S, _START_S + 1, joined)
    return gzip.compress(b"VITA" + struct.pack("<LH", 3, len(header)) + header + b"".join(packets), mtime=0)


_ROW = _MV[:500]
_GOOD = (_track(), _samples(_ROW))


def test_packets_by_hand(path: Path) -> None:
    path.write_bytes(_file(*_GOOD, _packet(6, b"\x05\x00\x00"), _packet(9, b"a device")))
    np.testing.assert_array_equal(records.read(path).samples_mv[0], _ROW)


def test_a_later_block_overwrites(path: Path) -> None:
    """As clocks jitter: the second block comes half a second early."""
    path.write_bytes(_file(*_GOOD, _samples(-_ROW, time_s=_START_S + 0.5)))
    np.testing.assert_array_equal(records.read(path).samples_mv[0], [*_ROW[:250], *-_ROW])


@pytest.mark.parametrize(
    ("packets", "message"),
    [
        ((), "unknown lead: no channel.*names seen: none"),
        ((_track("ART"), _samples(_ROW)), "names seen: 'ART'"),
        ((_track(),), "no samples of an ECG lead"),
        ((_track(unit=""), _samples(_ROW)), "lead II is in ''; expected mV"),
        ((_track(unit="mmHg"), _samples(_ROW)), "lead II is in 'mmHg'"),
        ((_track(), _track("lead II", number=2)), "'ECG_II' and 'lead II' both mean lead II"),
        ((_track("ECG_II"), _track("ECG_II", number=2), _samples(_ROW)), "both mean lead II"),
        ((_track(), _track("ECG_I"), _samples(_ROW)), "two tracks have the number 1"),
        ((_track(), _track("ECG_I", number=2, rate_hz=250), _samples(_ROW)), r"\(I 250 Hz, II 500 Hz\)"),
        ((_track(rate_hz=0), _samples(_ROW)), "rate of 0 Hz is not usable"),
        ((_track(rate_hz=float("nan")), _samples(_ROW)), "rate of nan Hz is not usable"),
        ((_track(storage=9), _samples(_ROW)), "has the sample type 9"),
        ((_track(storage=5, gain=1e300), _samples(_ROW)), "infinite samples"),
        ((_track(storage=5, gain=float("inf")), _samples(_ROW)), "every sample is missing|infinite samples"),
        ((_track(), _samples(_ROW, n_samples=501)), "not a readable .vital file"),
        ((_track(), _samples(_ROW, n_samples=2**32 - 1)), "not a readable .vital file"),
        ((_track(), _samples(_ROW, time_s=float("nan"))), "without their time"),
        ((*_GOOD, _samples(_ROW, time_s=0)), "gaps between records are 1699999999 s in all"),
        ((*_GOOD, _samples(_ROW, time_s=-1e300)), "gaps between records"),
        ((_track(), _samples(np.full(9, np.nan, "<f4"))), "every sample is missing"),
        ((_track(), _samples(np.full(9, np.inf, "<f4"))), "infinite samples"),
        ((*_GOOD, _packet(1, b"")), "not a readable .vital file"),
        ((*_GOOD, b"\x01\xff\xff\xff\xff"), "last packet is cut"),
        ((*_GOOD, b"\x01\xff"), "not a readable .vital file"),
        ((_packet(0, b"\x01\x00\x01\x01\xff\xff\xff\xff"),), "a text is longer than its packet"),
    ],
)
def test_bad_file_is_refused(path: Path, packets: tuple[bytes, ...], message: str) -> None:
    path.write_bytes(_file(*packets))
    with pytest.raises(RecordError, match=message):
        records.read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"VITA",
        b"Dear colleague",
        gzip.compress(b"Dear colleague", mtime=0),
        gzip.compress(b"VITA", mtime=0),
    ],
)
def test_garbage_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(RecordError, match=r"r\.vital: not a"):
        records.read(path)


@pytest.mark.parametrize("keep", [1, 9, 30, 0.5, -9, -1])
def test_cut_file_is_refused(path: Path, keep: float) -> None:
    whole = _file(*_GOOD)
    path.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else int(keep)])
    with pytest.raises(RecordError, match=r"r\.vital: not a readable \.vital"):
        records.read(path)


def test_a_gzip_bomb_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vital_packets, "MAX_BYTES", 2**22)
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as file:
        file.write(b"VITA" + bytes(2**23))
    path.write_bytes(bomb.getvalue())
    assert path.stat().st_size < 20_000
    with pytest.raises(RecordError, match="more than 4194304 bytes unpacked"):
        records.read(path)


Damage = list[tuple[int, str, bytes]]


@settings(max_examples=100)
@given(damage=DAMAGE, unpacked=st.booleans())
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, unpacked: bool
) -> None:
    """Of the file, and of what is in it, which a checksum then vouches for."""
    whole = _file(*_GOOD, _track("ECG_I", number=2, storage=5), _samples(_ROW.astype("<i2"), number=2))
    inside = gzip.decompress(whole)
    data = gzip.compress(damaged(inside, damage)) if unpacked else damaged(whole, damage)
    read_or_refuse(tmp_path_factory.getbasetemp() / "damaged.vital", data)
