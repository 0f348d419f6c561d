"""The journal where the machine fails it: power loss at every byte, two writers, a disk that does not take it."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from journals import ALARM, FACTS, estimate, events, written

from ecgedge.errors import RecordError
from ecgedge.journal import Journal, files, read_journal, verify_journal


@pytest.fixture
def quick(monkeypatch) -> None:
    """No fsync: hundreds of openings are checked for content, not for durability."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# --- power loss ---


def last_two_lines(data: bytes) -> range:
    start = data[: data[:-1].rindex(b"\n")].rindex(b"\n") + 1
    return range(start, len(data) + 1)


def test_power_loss_at_every_byte_of_the_last_two_lines(tmp_path, quick) -> None:
    data = written(tmp_path / "whole").read_bytes()
    for length in last_two_lines(data):
        folder = tmp_path / str(length)
        folder.mkdir()
        check_recovery(folder / "j", data[:length])


def test_power_loss_at_every_byte_of_the_header(tmp_path, quick) -> None:
    data = written(tmp_path / "whole").read_bytes()
    for length in range(data.index(b"\n") + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        check_recovery(folder / "j", data[:length])


def check_recovery(path: Path, left: bytes) -> None:
    """Reopen what power loss left: complete lines stay, the rest is beside the journal, and it goes on."""
    good, _, tail = left.rpartition(b"\n")
    good += b"\n" if good else b""
    seq = good.count(b"\n")
    path.write_bytes(left)
    report = verify_journal(path)
    assert (report.entries, report.torn_tail) == (seq, bool(tail))
    assert report.ok == (not tail and seq > 0)
    with Journal(path, facts=FACTS) as journal:
        journal.append(ALARM)
    assert path.read_bytes().startswith(good)
    after = verify_journal(path)
    assert (after.ok, after.entries) == (True, seq + 2)
    torn = path.with_name(f"j.torn-{seq}")
    assert torn.exists() == bool(tail)
    opening = events(path)[seq]
    assert opening["type"] == ("journal" if seq == 0 else "recovered" if tail else "reopened")
    if tail:
        assert torn.read_bytes() == tail
        digest = hashlib.sha256(tail).hexdigest()
        assert opening["torn"] == [{"file": torn.name, "bytes": len(tail), "sha256": digest}]
    else:
        assert "torn" not in opening


def test_power_loss_during_the_recovery_itself(tmp_path) -> None:
    """The tail was copied and cut off, but the entry that says so was not written: it is written next time."""
    path = written(tmp_path / "j")
    (tmp_path / "j.torn-5").write_bytes(b'{"event":{"ty')
    Journal(path).close()
    assert events(path)[-1]["type"] == "recovered"
    assert [t["file"] for t in events(path)[-1]["torn"]] == ["j.torn-5"]
    Journal(path).close()
    assert events(path)[-1]["type"] == "reopened"


def test_a_torn_recovery_does_not_overwrite_the_first_tail(tmp_path) -> None:
    path = written(tmp_path / "j")
    (tmp_path / "j.torn-5").write_bytes(b"first")
    path.write_bytes(path.read_bytes() + b"second")
    Journal(path).close()
    assert (tmp_path / "j.torn-5").read_bytes() == b"first"
    assert (tmp_path / "j.torn-5-2").read_bytes() == b"second"
    assert [t["file"] for t in events(path)[-1]["torn"]] == ["j.torn-5", "j.torn-5-2"]
    assert verify_journal(path).ok


def test_a_tail_of_zeros_is_torn_as_well(tmp_path) -> None:
    """Some file systems leave the new length with the old (no) content."""
    path = written(tmp_path / "j")
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert verify_journal(path).torn_tail
    Journal(path).close()
    assert verify_journal(path).ok


WRITER = """
import sys
from ecgedge.journal import Journal
with Journal(sys.argv[1], facts={"mode": "test"}) as journal:
    for i in range(10**9):
        entry = journal.append({"type": sys.argv[2], "t_s": i * 0.25, "text": "x" * (i % 700)})
        print(entry.seq, entry.hash, flush=True)
"""


@pytest.mark.parametrize(("kind", "lines"), [("alarm", 20), ("estimate", 400), ("alarm", 1)])
def test_a_killed_writer_loses_nothing_that_append_returned(tmp_path, kind: str, lines: int) -> None:
    path = tmp_path / "j"
    command = [sys.executable, "-c", WRITER, str(path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        told = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += [parts for parts in (line.split() for line in process.stdout) if len(parts) == 2]
        assert process.wait() == -signal.SIGKILL
    Journal(path).close()
    assert verify_journal(path).ok
    kept = {str(e.seq): e.hash for e in read_journal(path)}
    assert len(told) >= lines
    # The very last line of the pipe may be cut short by the kill; every other one is complete.
    assert all(kept[seq] == digest for seq, digest in told if len(digest) == 64)


# --- two writers ---


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        with pytest.raises(
            RecordError, match="is being written by another process; give this one a journal of its"
        ):
            Journal(path)
        journal.append(ALARM)
    assert events(path) == [{"type": "journal", "format": 1, "facts": {}}, ALARM]
    Journal(path).close()


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path) -> None:
    path = tmp_path / "j"
    command = [sys.executable, "-c", WRITER, str(path), "alarm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with pytest.raises(RecordError, match="another process"):
            Journal(path)
        process.kill()
        process.stdout.read()
        process.wait()
    Journal(path).close()
    assert verify_journal(path).ok


# --- a disk that does not take it ---


class FullDisk:
    """os.write that takes `room` more bytes, a few at a time, then fails."""

    def __init__(self, room: int) -> None:
        self.room, self.real = room, os.write

    def __call__(self, fd: int, data) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        n = self.real(fd, bytes(data[: min(7, self.room)]))
        self.room -= n
        return n


@pytest.mark.parametrize("room", [0, 1, 50, 150])
def test_a_full_disk_takes_back_the_half_line(tmp_path, monkeypatch, room: int) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append(estimate(1))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", FullDisk(room))
            with pytest.raises(RecordError, match="cannot be written: No space left"):
                journal.append(ALARM)
        assert path.read_bytes() == before
        journal.append(ALARM)
    assert events(path)[1:] == [estimate(1), ALARM]


def test_short_writes_are_completed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "write", FullDisk(10**6))
    assert verify_journal(written(tmp_path / "j")).ok


def test_a_full_disk_at_the_start(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", FullDisk(30))
        with pytest.raises(RecordError, match="No space left"):
            Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()  # unlocked, and clean
    assert events(tmp_path / "j") == [{"type": "journal", "format": 1, "facts": {}}]


def test_an_interrupt_within_append_leaves_a_good_journal(tmp_path, monkeypatch) -> None:
    path = tmp_path / "j"

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    with Journal(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.append(ALARM)
        journal.append(estimate(1))
    assert events(path)[1:] == [estimate(1)]


def test_where_not_even_taking_back_works_nothing_more_is_written_until_it_does(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "j"

    def refused(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refused)
        with patch.context() as full:
            full.setattr(os, "write", FullDisk(20))
            with pytest.raises(RecordError, match="cannot be written: No space left"):
                journal.append(ALARM)
        left = path.read_bytes()
        with pytest.raises(RecordError, match="cannot be written: Input/output error"):
            journal.append(ALARM)
        assert path.read_bytes() == left
    assert verify_journal(path).torn_tail
    journal.append(ALARM)
    assert events(path)[1:] == [ALARM]


def test_a_half_line_that_stays_is_recovered_by_the_next_opening(tmp_path, monkeypatch) -> None:
    path = tmp_path / "j"

    def refused(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Journal(path) as journal, monkeypatch.context() as patch:
        patch.setattr(os, "write", FullDisk(20))
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(RecordError, match="cannot be written"):
            journal.append(ALARM)
    Journal(path).close()
    assert events(path)[-1]["type"] == "recovered"


@pytest.mark.parametrize("device", ["/dev/full", "/dev/zero"])
def test_a_device_is_no_journal(device: str) -> None:
    """To read /dev/full does not end."""
    with pytest.raises(RecordError, match="is no regular file"):
        Journal(device)


def test_a_disk_that_fails_at_close_says_so_and_unlocks(tmp_path, monkeypatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path / "j")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(RecordError, match="to the disk: Input/output error"):
            journal.close()
    Journal(tmp_path / "j").close()


def test_a_failed_recovery_is_told_and_loses_nothing(tmp_path, monkeypatch) -> None:
    path = written(tmp_path / "j")
    path.write_bytes(path.read_bytes() + b"torn")

    def failing(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", failing)
        with pytest.raises(RecordError, match=r"cannot open the journal .*Input/output error"):
            Journal(path)
    assert path.read_bytes().endswith(b"torn")
    Journal(path).close()
    assert (tmp_path / "j.torn-5").read_bytes() == b"torn"
