"""The journal: its chain, power loss at every byte, edits at any byte, two writers, a full disk."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import journal as journal_module
from ecgedge.errors import RecordError
from ecgedge.events import Alarm, event_to_dict
from ecgedge.journal import GENESIS, Journal, JournalEntry, read_journal, verify_journal

FACTS = {"bundle": "ab" * 32, "feed": "sim:decompensation?seed=1", "mode": "demo"}
ALARM = event_to_dict(Alarm(300.0, "MPCWP_ELEVATED", "physiological", "low", "on", "on", "elevated"))


def estimate(i: int) -> dict:
    return {"type": "estimate", "t_s": i * 5.0, "p_gt_18": 0.25, "reason": None, "leads": ["I", "II"]}


def written(path: Path, n: int = 3) -> Path:
    """A journal of a header, `n` estimates and an alarm."""
    with Journal(path, facts=FACTS) as journal:
        for i in range(n):
            journal.append(estimate(i))
        journal.append(ALARM)
    return path


def events(path: Path) -> list[dict]:
    return [dict(e.event) for e in read_journal(path)]


@pytest.fixture
def syncs(monkeypatch) -> list[int]:
    """Every fsync from here on."""
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(fd), real(fd))[1])
    return calls


@pytest.fixture
def quick(monkeypatch) -> None:
    """No fsync: hundreds of openings are checked for content, not for durability."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# --- the format ---


def test_a_line_by_hand(tmp_path) -> None:
    """The hash of each line, made here with nothing but json and hashlib."""
    path = written(tmp_path / "j", n=1)
    previous = "0" * 64
    wanted = [{"type": "journal", "format": 1, "facts": FACTS}, estimate(0), ALARM]
    for seq, (line, event) in enumerate(zip(path.read_bytes().splitlines(), wanted, strict=True)):
        rest = {"event": event, "prev": previous, "seq": seq}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert json.loads(line) == {**rest, "hash": previous}
        assert line.decode() == json.dumps({**rest, "hash": previous}, sort_keys=True, separators=(",", ":"))


def test_a_good_journal_is_reported_good(tmp_path) -> None:
    path = written(tmp_path / "j")
    report = verify_journal(str(path))
    assert (report.entries, report.ok, report.first_bad_line, report.reason, report.torn_tail) == (
        5,
        True,
        None,
        None,
        False,
    )
    assert report.head == list(read_journal(path))[-1].hash != GENESIS


def test_what_append_returns_is_what_is_read(tmp_path) -> None:
    with Journal(tmp_path / "j") as journal:
        made = [journal.append(estimate(1)), journal.append(estimate(2), wall_s=1.5)]
        assert made[-1].hash == journal.head
        assert journal.path == tmp_path / "j"
        assert verify_journal(journal.path).entries == 3  # readable while open
    assert made == [
        JournalEntry(1, estimate(1), made[0].hash, None),
        JournalEntry(2, estimate(2), made[1].hash, 1.5),
    ]
    assert list(read_journal(tmp_path / "j"))[1:] == made


def test_opening_again_continues_the_chain(tmp_path) -> None:
    path = written(tmp_path / "j")
    before = path.read_bytes()
    with Journal(path, facts={"bundle": "other"}) as journal:
        journal.append(estimate(9))
    assert path.read_bytes().startswith(before)
    assert events(path)[5:] == [{"type": "reopened", "facts": {"bundle": "other"}}, estimate(9)]
    assert verify_journal(path).ok


def test_any_text_is_kept(tmp_path) -> None:
    event = {
        "type": "note",
        "text": 'ü\u2028\n"\\ \x00 \ud800 𝄞',
        "n": 10**30,
        "x": -0.0,
        "deep": [{"a": []}],
    }
    with Journal(tmp_path / "j") as journal:
        journal.append(event)
    assert events(tmp_path / "j")[-1] == event
    assert (tmp_path / "j").read_bytes().isascii()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
def test_what_is_no_json_is_refused_and_leaves_no_trace(tmp_path, bad) -> None:
    with Journal(tmp_path / "j") as journal:
        with pytest.raises((ValueError, TypeError)):
            journal.append({"type": "alarm", "value": bad})
        journal.append(estimate(1))
    assert verify_journal(tmp_path / "j").entries == 2


def test_a_closed_journal_takes_nothing(tmp_path) -> None:
    journal = Journal(tmp_path / "j")
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.append(estimate(1))


def test_an_alarm_is_synced_and_an_estimate_is_not(tmp_path, syncs) -> None:
    journal = Journal(tmp_path / "j")
    assert len(syncs) == 2  # the header, and the folder that names the new file
    journal.append(estimate(1))
    assert len(syncs) == 2
    assert verify_journal(tmp_path / "j").entries == 2  # but it is with the operating system
    journal.append(ALARM)
    assert len(syncs) == 3
    journal.append(estimate(2))
    journal.close()
    assert len(syncs) == 4


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


# --- damage ---


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_single_byte_edit_is_found(tmp_path_factory, data) -> None:
    good = GOOD(tmp_path_factory)
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != good[place]))
    path = tmp_path_factory.getbasetemp() / "edited"
    path.write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
    report = verify_journal(path)
    line = good[:place].count(b"\n")
    assert not report.ok
    assert report.reason
    assert report.first_bad_line == report.entries == line
    with pytest.raises(RecordError, match=f"line {line}"):
        list(read_journal(path))


def GOOD(factory, _kept={}) -> bytes:  # noqa: B006, N802 - one journal for all examples
    if "data" not in _kept:
        path = factory.mktemp("journal") / "j"
        with Journal(path, facts=FACTS) as journal:
            journal.append({"type": "note", "text": "naïve 1e0 é", "x": 1.0, "y": 1e22, "z": [True, None]})
            journal.append(estimate(1), wall_s=1700000000.25)
            journal.append(ALARM)
        _kept["data"] = path.read_bytes()
    return _kept["data"]


def test_every_bit_of_a_short_journal(tmp_path_factory) -> None:
    """Exhaustive where the property test samples: each bit of a journal turned over (in memory: files are slow)."""
    good = GOOD(tmp_path_factory)
    for place in range(len(good)):
        for bit in range(8):
            edited = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
            assert journal_module._scan(io.BytesIO(edited)).reason is not None, (place, bit)
    assert journal_module._scan(io.BytesIO(good)).reason is None


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def renumbered(lines: list[bytes]) -> list[bytes]:
    """An entry taken out and the next one given its number, with a hash that fits."""
    entry = json.loads(lines[2])
    entry["seq"] = 1
    entry["hash"] = rehash(entry)
    return [lines[0], canonical(entry), *lines[3:]]


def changed(**changes):
    """Entry 1 with changes and a fresh hash, as someone would write who knows the format."""

    def edit(lines: list[bytes]) -> list[bytes]:
        entry = {**json.loads(lines[1]), **changes}
        if "hash" not in changes:
            entry["hash"] = rehash(entry)
        return [lines[0], canonical(entry), *lines[2:]]

    return edit


def canonical(entry: dict) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def rehash(entry: dict) -> str:
    return hashlib.sha256(canonical({k: v for k, v in entry.items() if k != "hash"})[:-1]).hexdigest()


@pytest.mark.parametrize(
    ("edit", "line", "reason"),
    [
        (lambda x: x[:1] + x[2:], 1, "its number is 2, expected 1: lines are missing or were added"),
        (lambda x: x[:2] + x[1:], 2, "its number is 1, expected 2"),
        (swap, 1, "its number is 2, expected 1"),
        (renumbered, 1, "does not follow"),
        (lambda x: x[1:], 0, "its number is 1, expected 0"),
        (changed(event={"type": "estimate"}), 2, "does not follow"),
        (changed(hash="0" * 64), 1, "does not have its hash"),
        (changed(event=[]), 1, "not an entry"),
        (changed(more=1), 1, "not an entry"),
        (changed(seq=True), 1, "its number is True, expected 1"),
        (lambda x: [x[0], b"[]\n"], 1, "not an entry"),
        (lambda x: [x[0], b"\n"], 1, "not a line of JSON"),
        (lambda x: [x[0], b"[" * 100_000 + b"\n"], 1, "not a line of JSON"),
        (lambda x: [x[0], b"1e999\n"], 1, "not a line of JSON"),
        (lambda x: [x[0], b"9" * 5000 + b"\n"], 1, "not a line of JSON"),
        (lambda x: [x[0], b"\xff\n"], 1, "not a line of JSON"),
        (lambda x: [x[0], x[1].replace(b":", b": ", 1)], 1, "canonical"),
        (lambda _: [b"a,b,c\n"], 0, "not a line of JSON"),
        (lambda _: [b"a,b,c"], 0, "not a journal"),
    ],
)
def test_damage_is_named_and_never_written_to(tmp_path, edit, line: int, reason: str) -> None:
    path = written(tmp_path / "j")
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    damaged = path.read_bytes()
    report = verify_journal(path)
    assert (report.ok, report.first_bad_line, report.entries) == (False, line, line)
    assert reason in report.reason
    assert not report.torn_tail
    with pytest.raises(RecordError, match=f"damaged at line {line} .*write to a new file"):
        Journal(path)
    assert path.read_bytes() == damaged
    assert [p.name for p in tmp_path.iterdir()] == ["j"]


def test_another_format_is_refused(tmp_path) -> None:
    header = {"event": {"type": "journal", "format": 2, "facts": {}}, "prev": GENESIS, "seq": 0}
    header["hash"] = rehash(header)
    (tmp_path / "j").write_bytes(canonical(header))
    assert verify_journal(tmp_path / "j").reason == "not a journal of format 1"


def test_an_empty_file_is_no_journal_yet(tmp_path) -> None:
    (tmp_path / "j").touch()
    report = verify_journal(tmp_path / "j")
    assert (report.ok, report.first_bad_line, report.reason) == (
        False,
        0,
        "the file is empty: it has no header",
    )
    Journal(tmp_path / "j").close()
    assert verify_journal(tmp_path / "j").ok


def test_a_journal_that_cannot_be_read(tmp_path) -> None:
    for call in (verify_journal, lambda path: list(read_journal(path))):
        with pytest.raises(RecordError, match=r"cannot read the journal .*No such file"):
            call(tmp_path / "none")
    with pytest.raises(RecordError, match=r"cannot open the journal .*Is a directory"):
        Journal(tmp_path)
    with pytest.raises(RecordError, match=r"cannot open the journal .*No such file"):
        Journal(tmp_path / "none" / "j")


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


def test_where_not_even_taking_back_works_nothing_more_is_written(tmp_path, monkeypatch) -> None:
    path = tmp_path / "j"

    def refused(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", FullDisk(20))
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(RecordError, match="cannot be written"):
            journal.append(ALARM)
    with pytest.raises(ValueError, match="closed"):
        journal.append(ALARM)
    assert verify_journal(path).torn_tail
    Journal(path).close()
    assert events(path)[-1]["type"] == "recovered"


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
        patch.setattr(journal_module, "_sync_folder", failing)
        with pytest.raises(RecordError, match=r"cannot open the journal .*Input/output error"):
            Journal(path)
    assert path.read_bytes().endswith(b"torn")
    Journal(path).close()
    assert (tmp_path / "j.torn-5").read_bytes() == b"torn"
