"""Work that may hang is waited for no longer than a second; what was begun comes to its end by itself."""

import threading
import time

import pytest

from ecgedge import patience
from ecgedge.errors import RecordError
from ecgedge.patience import Patient


@pytest.fixture
def gate():
    """Work hangs until it is opened; nothing hangs on into the next test."""
    opened = threading.Event()
    yield opened
    opened.set()
    ends(lambda: not patience._any_hangs())


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    """A thread that a busy machine begins late does not hang; a test that wants one says so."""
    monkeypatch.setattr(patience, "PATIENCE_S", 60.0)


def ends(is_so):
    for _ in range(2000):
        if is_so():
            return
        time.sleep(0.005)
    raise AssertionError("what was waited for has not come")


def test_what_is_done_in_time_is_done_when_it_returns():
    done = []
    patient = Patient("the file")
    for k in range(20):
        patient.do(lambda k=k: done.append(k))
    assert done == list(range(20))
    assert not patient.hangs


def test_its_own_error_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        Patient("the file").do(lambda: 1 // 0)


def test_what_hangs_is_left_and_nothing_else_is_begun_until_it_ends(gate, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)
    done = []
    patient = Patient("the file")
    with pytest.raises(RecordError, match="the file: the disk has not answered for 0 s"):
        patient.do(lambda: (gate.wait(), done.append("late")))
    with pytest.raises(RecordError, match="has not answered"):
        patient.do(lambda: done.append("never"))
    assert patient.hangs
    assert done == []
    gate.set()
    ends(lambda: not patient.hangs)
    monkeypatch.setattr(patience, "PATIENCE_S", 60.0)
    patient.do(lambda: done.append("next"))
    assert done == ["late", "next"]


def test_what_hung_and_was_forgotten_makes_nobody_impatient_once_it_has_ended(gate, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)
    with pytest.raises(RecordError):
        Patient("of a bed that has left").do(gate.wait)
    gate.set()
    monkeypatch.setattr(patience, "PATIENCE_S", 60.0)
    ends(lambda: not patience._any_hangs())
    Patient("another").do(lambda: time.sleep(3 * patience.NONE_LEFT_S))


def test_while_the_disk_does_not_answer_one_the_others_wait_for_a_moment_only(gate, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 1.0)
    patients = [Patient(str(k)) for k in range(20)]
    began_s = time.monotonic()
    for patient in patients:
        with pytest.raises(RecordError):
            patient.do(gate.wait)
    assert time.monotonic() - began_s < 20 * 1.0 / 2
    monkeypatch.setattr(patience, "PATIENCE_S", 60.0)
    gate.set()
    ends(lambda: not any(patient.hangs for patient in patients))
    patients[0].do(lambda: time.sleep(2 * patience.NONE_LEFT_S))  # all is well again, and it has time
