"""Snapshots on the disk: a kill at any step leaves the old one or the new one, whole."""

import errno
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ecgedge.errors import RecordError
from ecgedge.events import Alarm
from ecgedge.journal import files
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants
from ecgedge.wards import state as module
from ecgedge.wards.serve import TICK_S, places_to_save
from ecgedge.wards.state import ended_alarms, read_state, replace_file


@pytest.fixture(scope="module")
def snapshots(formula_bundle):
    """A bed before and after another second."""
    with Variants(formula_bundle) as variants:
        bed = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants)
        samples_mv = Simulator("stable", seed=1, rate_hz=250.0).read(3000)
        bed.push(samples_mv[:, :2750], t_s=0.0)
        old = bed.snapshot().to_bytes()
        bed.push(samples_mv[:, 2750:], t_s=11.0)
        new = bed.snapshot().to_bytes()
    return [SimpleNamespace(to_bytes=lambda data=data: data) for data in (old, new)]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("steps", range(10))
def test_a_kill_at_any_step_leaves_the_old_one_or_the_new_one(tmp_path, snapshots, monkeypatch, steps):
    old, new = snapshots
    path = tmp_path / "a.bed"
    replace_file(path, old.to_bytes())
    stepping = _Steps(steps)
    for of in (module, files):
        monkeypatch.setattr(of, "os", stepping)
    killed = False
    try:
        replace_file(path, new.to_bytes())
    except _Killed:
        killed = True
    monkeypatch.undo()
    assert killed == (steps < 9)
    assert read_state(path).to_bytes() == (new if steps > 5 else old).to_bytes()
    replace_file(path, new.to_bytes())  # what the kill left behind is in nobody's way
    assert read_state(path).to_bytes() == new.to_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bed"]


class _Steps:
    """Stands for the module os: kills at step `left` of open, half a write, the rest, fsync, replace, fsync."""

    def __init__(self, left):
        self._left = left

    def __getattr__(self, name):
        return getattr(os, name)

    def step(self):
        if self._left == 0:
            raise _Killed
        self._left -= 1

    def open(self, *arguments):
        self.step()
        return os.open(*arguments)

    def fsync(self, fd):
        self.step()
        os.fsync(fd)

    def replace(self, a, b):
        self.step()
        os.replace(a, b)

    def close(self, fd):
        self.step()
        os.close(fd)

    def fdopen(self, fd, mode):
        return _HalfFirst(os.fdopen(fd, mode), self)


class _HalfFirst:
    def __init__(self, stream, steps):
        self._stream, self._steps = stream, steps

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def write(self, data):
        for part in (data[:1000], data[1000:]):
            self._steps.step()
            self._stream.write(part)
            self._stream.flush()

    def flush(self):
        self._steps.step()

    def fileno(self):
        return self._stream.fileno()


def test_without_a_state_there_is_none(tmp_path):
    assert read_state(tmp_path / "none.bed") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:0],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:],
        lambda data: b"\0" * len(data),
        lambda data: b"[ward]\n" + data,
    ],
)
def test_a_damaged_one_is_named_and_nothing_is_made_of_it(tmp_path, snapshots, spoil):
    path = tmp_path / "a.bed"
    path.write_bytes(spoil(snapshots[0].to_bytes()))
    with pytest.raises(RecordError, match=rf"{path} is no snapshot of a bed, or damaged; remove it"):
        read_state(path)


def test_one_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"cannot read the state .*: Is a directory"):
        read_state(tmp_path)


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
def test_a_full_disk_is_said_and_the_old_one_stays(tmp_path, snapshots, monkeypatch, failing):
    old, new = snapshots
    path = tmp_path / "a.bed"
    replace_file(path, old.to_bytes())

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, failing, fail)
    with pytest.raises(RecordError, match=rf"cannot write the state {path}: No space left on device"):
        replace_file(path, new.to_bytes())
    monkeypatch.undo()
    assert read_state(path).to_bytes() == old.to_bytes()


def test_others_on_the_machine_may_not_read_a_patients_state(tmp_path, snapshots):
    path = tmp_path / "a.bed"
    replace_file(path, snapshots[0].to_bytes())
    assert path.stat().st_mode & 0o007 == 0


def test_what_was_on_once_and_is_not_now_is_told_as_off(formula_bundle):
    with Variants(formula_bundle) as variants:
        bed = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants)
        samples_mv = Simulator("stable", seed=1, rate_hz=250.0).read(2500)
        bed.push(samples_mv[:, :1250], t_s=0.0)
        assert ended_alarms(bed.snapshot(), bed.alarms()) == []
        bed.feed_lost()
        assert ended_alarms(bed.snapshot(), bed.alarms()) == []
        off_mv = samples_mv[:, 1250:].copy()
        off_mv[0] = np.nan
        bed.push(off_mv, t_s=5.0)
    (lead_off,) = bed.alarms()
    (ended,) = ended_alarms(bed.snapshot(), [lead_off])
    assert (lead_off.condition, lead_off.t_s) == ("LEAD_OFF", 6.0)
    text = "not present, as told again after a restart"
    assert ended == Alarm(10.0, "FEED_LOST", "technical", "low", "off", "off", text)
    late = replace(lead_off, t_s=99.0)
    assert ended_alarms(bed.snapshot(), [late])[0].t_s == 99.0


@pytest.mark.parametrize(("beds", "state_s"), [(1, 10.0), (300, 10.0), (4000, 10.0), (7, 0.5)])
def test_snapshots_are_spread_over_their_period(beds, state_s):
    """All begin together; no tick writes more than its share, and none grows older than the period and a tick."""
    places = [SimpleNamespace(saved_s=-state_s) for _ in range(beds)]
    written, oldest_s = [], 0.0
    for tick in range(round(6 * state_s / TICK_S)):
        now_s = tick * TICK_S
        due = places_to_save(places, now_s, state_s=state_s)
        written.append(len(due))
        for place in due:
            place.saved_s = now_s
        if tick * TICK_S >= state_s:
            oldest_s = max(oldest_s, *(now_s - place.saved_s for place in places))
    share = beds * TICK_S / state_s
    assert max(written) <= 1.25 * share + 1
    assert oldest_s <= state_s
    assert sum(written) >= 4 * beds  # each in each period


def test_after_a_pause_the_oldest_snapshots_come_first():
    places = [SimpleNamespace(saved_s=float(k)) for k in (5, 3, 9, 1)]
    assert [p.saved_s for p in places_to_save(places, 100.0, state_s=1.0)] == [1.0, 3.0]
