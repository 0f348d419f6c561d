"""Parts of a journal onto the disk: each entry once, in its order, whatever comes twice, and wherever a kill cuts."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.cluster.journal_files import JournalFile
from ecgedge.cluster.journal_part import Entries, JournalPart, read_part
from ecgedge.errors import RecordError
from ecgedge.journal import read_journal, verify_journal

FACTS = {"bundle": "b"}
OF_THE_FILE = ("journal", "reopened", "recovered", "continued", "part", "dropped")


def part(first, n, *, journal="j", run="a"):
    entries = tuple({"type": "alarm" if k % 7 == 0 else "estimate", "n": k} for k in range(first, first + n))
    return JournalPart("icu-1", journal, run, first, FACTS, entries)


def numbers(path):
    return [e.event["n"] for e in read_journal(path) if e.event["type"] not in OF_THE_FILE]


def types(path):
    return [e.event["type"] for e in read_journal(path) if e.event["type"] in OF_THE_FILE]


def write(path, *parts, **how):
    file = JournalFile(path, **how)
    try:
        for one in parts:
            file.write(one, published_s=1.5)
    finally:
        file.close()


def test_what_comes_twice_is_written_once(tmp_path):
    path = tmp_path / "icu-1.jsonl"
    write(path, part(0, 5), part(0, 5), part(5, 3), part(2, 9), part(5, 3))
    assert numbers(path) == list(range(11))
    assert verify_journal(path).ok
    assert types(path) == ["journal", "part", "part", "part"]
    first = next(e.event for e in read_journal(path) if e.event["type"] == "part")
    assert first == {"type": "part", "journal": "j", "run": "a", "first": 0, "published_s": 1.5}


def test_another_run_opens_the_file_again(tmp_path):
    path = tmp_path / "icu-1.jsonl"
    write(path, part(0, 5), part(5, 5, run="b"), part(5, 7, run="c"))
    assert numbers(path) == list(range(12))
    openings = [e.event["facts"] for e in read_journal(path) if "facts" in e.event]
    assert openings == [FACTS, {**FACTS, "restored": True}, {**FACTS, "restored": True}]


def test_what_the_bus_has_forgotten_is_said(tmp_path):
    path = tmp_path / "icu-1.jsonl"
    write(path, part(0, 5), part(9, 2))
    assert [e.event["events"] for e in read_journal(path) if e.event["type"] == "dropped"] == [4]
    assert numbers(path) == [0, 1, 2, 3, 4, 9, 10]


def test_a_bed_that_began_anew_goes_on_in_the_same_file_and_the_old_one_never_comes_back(tmp_path):
    path = tmp_path / "icu-1.jsonl"
    write(path, part(0, 5), part(0, 3, journal="new", run="b"), part(0, 9))
    write(path, part(3, 6), part(3, 1, journal="new", run="b"))
    assert numbers(path) == [*range(5), *range(4)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), rotate_bytes=st.sampled_from([None, 300, 2000]))
def test_a_kill_at_any_byte_loses_and_doubles_nothing(tmp_path_factory, data, rotate_bytes):
    path = tmp_path_factory.mktemp("j") / "icu-1.jsonl"
    parts = [part(0, 3), part(3, 4), part(7, 2, run="b"), part(9, 5, run="b")]
    write(
        path, *parts[: data.draw(st.integers(1, 4), label="parts before the kill")], rotate_bytes=rotate_bytes
    )
    # Only the file that is written to can be cut short, and not its header, which was on the disk before the first.
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    path.write_bytes(whole[: data.draw(st.integers(header, len(whole)), label="bytes")])
    write(path, *parts, rotate_bytes=rotate_bytes)
    assert numbers(path) == list(range(14))
    assert verify_journal(path).ok


def test_an_edit_is_found_and_the_file_left_as_it_is(tmp_path):
    path = tmp_path / "icu-1.jsonl"
    write(path, part(0, 5))
    edited = path.read_bytes().replace(b'"n":3', b'"n":4')
    path.write_bytes(edited)
    assert not verify_journal(path).ok
    with pytest.raises(RecordError, match="is damaged at line"):
        write(path, part(0, 9))
    assert path.read_bytes() == edited


def test_a_journal_of_a_ward_goes_on(tmp_path):
    from ecgedge.journal import Journal

    path = tmp_path / "icu-1.jsonl"
    with Journal(path, facts=FACTS) as journal:
        journal.append({"type": "estimate", "n": 77})
    write(path, part(0, 2))
    assert numbers(path) == [77, 0, 1]


def test_entries_have_their_numbers_from_the_checkpoint_on():
    entries = Entries("icu-1", "j", "a", FACTS, 7)
    assert entries.take() is None
    entries.append({"type": "input"})
    entries.append({"type": "alarm"})
    assert entries.waiting == 2
    found = entries.take()
    assert (found.first, len(found.entries), entries.number, entries.waiting) == (7, 2, 9, 0)
    assert read_part(found.to_json().encode()) == found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bed", "../../etc/passwd"),
        ("bed", None),
        ("first", -1),
        ("first", True),
        ("facts", []),
        ("entries", [1]),
        ("entries", [{}]),
        ("journal", 3),
        ("more", 1),
    ],
)
def test_what_is_no_part_is_none(key, value):
    plain = json.loads(part(0, 2).to_json()) | {key: value}
    assert read_part(json.dumps(plain).encode()) is None


@given(garbage=st.binary(max_size=100))
def test_garbage_is_no_part(garbage):
    assert read_part(garbage) is None
