"""The journal: its format, its chain, and that an edit at any byte is found."""

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import ALARM, AUDIO, FACTS, estimate, events, written

from ecgedge.errors import RecordError
from ecgedge.journal import GENESIS, Journal, JournalEntry, read_journal, verify_journal
from ecgedge.journal.chain import Bad, check_lines


@pytest.fixture
def syncs(monkeypatch) -> list[int]:
    """Every fsync from here on."""
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(fd), real(fd))[1])
    return calls


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
    journal.append(AUDIO)
    assert len(syncs) == 4
    journal.close()
    assert len(syncs) == 5


# --- damage ---


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """One journal for all examples."""
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal(path, facts=FACTS) as journal:
        journal.append({"type": "note", "text": "naïve 1e0 é", "x": 1.0, "y": 1e22, "z": [True, None]})
        journal.append(estimate(1), wall_s=1700000000.25)
        journal.append(ALARM)
    return path.read_bytes()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_single_byte_edit_is_found(tmp_path_factory, good, data) -> None:
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


def test_every_bit_of_a_short_journal(good) -> None:
    """Exhaustive where the property test samples: each bit of a journal turned over (in memory: files are slow)."""
    for place in range(len(good)):
        for bit in range(8):
            edited = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
            assert isinstance([*check_lines(io.BytesIO(edited))][-1], Bad), (place, bit)
    assert isinstance([*check_lines(io.BytesIO(good))][-1], JournalEntry)


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


# --- journals of earlier versions ---


def test_a_journal_from_before_audio_events_verifies_reads_and_goes_on(tmp_path) -> None:
    """Written by the version before an alarm could name its user and the sound could be paused."""
    path = tmp_path / "j"
    path.write_bytes((Path(__file__).parent / "golden" / "journal_before_audio.jsonl").read_bytes())
    assert verify_journal(path).ok
    _, lost, seen = read_journal(path)
    assert (lost.event["condition"], lost.event["signal"]) == ("FEED_LOST", "on")
    assert seen.event["signal"] == "acknowledged"
    with Journal(path, facts=FACTS) as journal:
        journal.append(AUDIO)
    assert verify_journal(path).ok
    assert events(path)[-1] == AUDIO


def test_a_journal_is_brought_to_the_disk_while_it_is_open(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append({"type": "estimate"})
        journal.sync()
        assert verify_journal(tmp_path / "j").entries == 2
    with pytest.raises(ValueError, match="is closed"):
        journal.sync()
