"""A disk that hangs: alarms are told all the same, what waited is written in order, and other beds do not wait."""

import os
import threading
import time

import numpy as np
import pytest
from ward_lines import chunks, ended, has, of, until

from ecgedge import patience
from ecgedge.journal import read_journal, verify_journal
from ecgedge.wards.config import BedConfig

OFF_MV = np.zeros((12, 7500), np.float32)
OFF_MV[1, 2500:] = np.nan  # a lead that falls off: an alarm after `lead_off_s`


class Disk:
    """Brings nothing to the disk while it hangs."""

    def __init__(self):
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        self._fsync = os.fsync

    def fsync(self, fd):
        self.asked += 1
        assert self.answers.wait(30.0)
        self._fsync(fd)


@pytest.fixture
def disk(monkeypatch):
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.fsync)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.3)
    yield made
    made.answers.set()
    while patience._any_hangs():
        time.sleep(0.01)


def told(lines, name):
    return [(x["condition"], x["presence"]) for x in of(lines, name, "alarm")]


def test_alarms_are_told_and_the_journal_has_them_when_the_disk_answers_again(ward, memory, disk, tmp_path):
    first, rest = chunks(OFF_MV[:, :2500]), chunks(OFF_MV[:, 2500:], t0_s=10.0)

    async def test(service, lines):
        for name in "abc":
            service.add(BedConfig(name, memory.add(name, [*first, 0.5, *rest, 2.0], live=False)))
        await until(lambda: all(has(lines, name, type="estimate") for name in "abc"))
        disk.answers.clear()
        await until(lambda: all(("LEAD_OFF", "on") in told(lines, name) for name in "abc"))
        await until(lambda: all(("JOURNAL_FAILED", "on") in told(lines, name) for name in "abc"))
        disk.answers.set()
        await until(lambda: ended(lines, *"abc"))

    for folder in ("journals", "state"):
        (tmp_path / folder).mkdir()
    folders = {"journals": tmp_path / "journals", "state": tmp_path / "state"}
    lines, said = ward(test, **folders, speed=1e3, true_time=True)
    for name in "abc":
        path = tmp_path / "journals" / f"{name}.jsonl"
        assert verify_journal(path).ok
        kept = [entry.event for entry in read_journal(path)]
        heard = [line for line in of(lines, name) if line["type"] in ("alarm", "estimate", "feed")]
        assert [e["type"] for e in kept if e["type"] in ("alarm", "estimate", "feed")] == [
            x["type"] for x in heard
        ]
        assert [(e["condition"], e["presence"]) for e in kept if e["type"] == "alarm"] == told(lines, name)
    assert any("the disk has not answered" in text for text in said)
