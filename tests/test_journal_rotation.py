"""A journal over several files: its chain, every way to damage it, and power loss at every step of a rotation."""

import errno
import fcntl
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journals import ALARM, FACTS, estimate, events

from ecgedge.errors import RecordError
from ecgedge.journal import Journal, read_journal, verify_journal


def rotated(path: Path, n: int = 12, *, rotate_bytes: int = 900) -> Path:
    """A journal of `n` estimates, each third followed by an alarm, over several files."""
    with Journal(path, facts=FACTS, rotate_bytes=rotate_bytes) as journal:
        for i in range(n):
            journal.append(estimate(i))
            if i % 3 == 2:
                journal.append(ALARM)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def kept(path: Path) -> list[dict]:
    """What the caller wrote, without what the journal says of itself."""
    own = ("journal", "continued", "reopened", "recovered", "not_rotated")
    return [e for e in events(path) if e["type"] not in own]


WRITTEN = [e for i in range(12) for e in ([estimate(i), ALARM] if i % 3 == 2 else [estimate(i)])]


# --- the files ---


def test_the_files_put_together_are_one_journal(tmp_path) -> None:
    path = rotated(tmp_path / "j")
    files = names(tmp_path)
    assert files == ["j", *(f"j.{n:04d}" for n in range(len(files) - 1))]
    assert len(files) >= 4
    whole = b"".join((tmp_path / name).read_bytes() for name in [*files[1:], "j"])
    (tmp_path / "whole").write_bytes(whole)
    assert list(read_journal(tmp_path / "whole")) == list(read_journal(path))
    assert kept(path) == WRITTEN
    report = verify_journal(path)
    assert (report.ok, report.files, report.head) == (
        True,
        len(files),
        verify_journal(tmp_path / "whole").head,
    )
    assert report.entries == whole.count(b"\n")


def test_a_new_file_names_the_one_before_it_and_its_last_hash(tmp_path) -> None:
    path = rotated(tmp_path / "j")
    first = json.loads((tmp_path / "j.0001").read_bytes().splitlines()[0])
    last = json.loads((tmp_path / "j.0000").read_bytes().splitlines()[-1])
    assert first["event"] == {
        "type": "continued",
        "format": 1,
        "facts": FACTS,
        "segment": 1,
        "previous": {"file": "j.0000", "hash": last["hash"]},
    }
    assert (first["seq"], first["prev"]) == (last["seq"] + 1, last["hash"])
    assert [e.seq for e in read_journal(path)] == list(range(verify_journal(path).entries))


def test_a_file_is_closed_when_it_has_grown_to_the_size(tmp_path) -> None:
    rotated(tmp_path / "j", 40, rotate_bytes=1500)
    for name in names(tmp_path)[1:]:
        *before, last = (tmp_path / name).read_bytes().splitlines(keepends=True)
        assert sum(map(len, before)) < 1500 <= sum(map(len, before)) + len(last)


def test_a_size_below_a_single_entry_still_writes_one_a_file(tmp_path) -> None:
    path = rotated(tmp_path / "j", 3, rotate_bytes=1)
    assert kept(path) == [estimate(0), estimate(1), estimate(2), ALARM]
    assert [(tmp_path / name).read_bytes().count(b"\n") for name in names(tmp_path)[2:]] == [2, 2]
    assert verify_journal(path).ok


def test_opening_again_continues_the_newest_file_with_or_without_a_size(tmp_path) -> None:
    path = rotated(tmp_path / "j")
    files = len(names(tmp_path))
    with Journal(path, facts=FACTS) as journal:
        for i in range(12):
            journal.append(estimate(i))
    assert len(names(tmp_path)) == files
    rotated(path)
    assert len(names(tmp_path)) > files
    assert verify_journal(path).ok
    assert kept(path) == [*WRITTEN, *map(estimate, range(12)), *WRITTEN]


def test_a_journal_of_before_rotation_goes_on_in_several_files(tmp_path) -> None:
    path = tmp_path / "j"
    shutil.copy(Path(__file__).parent / "golden" / "journal_before_audio.jsonl", path)
    before = path.read_bytes()
    rotated(path)
    assert (tmp_path / "j.0000").read_bytes().startswith(before)
    assert verify_journal(path).ok
    assert kept(path)[-len(WRITTEN) :] == WRITTEN


def test_older_files_may_be_archived_elsewhere_and_verify_says_which_is_missing(tmp_path) -> None:
    path = rotated(tmp_path / "j")
    (tmp_path / "j.0000").unlink()
    rotated(path)
    report = verify_journal(path)
    assert (report.ok, report.bad_file, report.reason) == (False, tmp_path / "j.0000", "the file is missing")


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_cannot_be(tmp_path, size: int) -> None:
    with pytest.raises(ValueError, match=f"rotate_bytes is {size}; it must be at least 1"):
        Journal(tmp_path / "j", rotate_bytes=size)
    assert names(tmp_path) == []


# --- damage ---


def swap(folder: Path) -> None:
    one, two = (folder / "j.0000").read_bytes(), (folder / "j.0001").read_bytes()
    (folder / "j.0000").write_bytes(two)
    (folder / "j.0001").write_bytes(one)


def cut(name: str, lines: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        all_lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(all_lines[:lines] if lines > 0 else all_lines[-lines:]))

    return edit


def alter(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes().replace(b'"II"', b'"V1"', 1))

    return edit


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / target).write_bytes((folder / source).read_bytes())


@pytest.mark.parametrize(
    ("damage", "file", "line", "reason"),
    [
        (lambda f: (f / "j.0000").unlink(), "j.0000", 0, "missing"),
        (lambda f: (f / "j.0001").unlink(), "j.0001", 0, "missing"),
        (lambda f: (f / "j.0001").rename(f / "j.0009"), "j.0001", 0, "missing"),
        (swap, "j.0000", 0, "its number is"),
        (copy("j.0000", "j.0001"), "j.0001", 0, "does not follow the file before it (its number is 0"),
        (copy("j.0001", "j"), "j", 0, "j.0001 is there, but this file does not continue it"),
        (copy("j.0000", "j"), "j", 0, "j.0000 is there, but this file does not continue it"),
        (cut("j.0000", 2), "j.0001", 0, "does not follow the file before it (its number is"),
        (cut("j.0001", -1), "j.0001", 0, "does not follow the file before it (its number is"),
        (cut("j", -1), "j", 0, "does not follow the file before it (its number is"),
        (lambda f: (f / "j.0000").write_bytes(b""), "j.0000", 0, "the file is empty"),
        (lambda f: os.truncate(f / "j.0001", 700), "j.0001", 1, "cut off"),
        (alter("j.0000"), "j.0000", 1, "does not have its hash"),
        (alter("j.0002"), "j.0002", 1, "does not have its hash"),
        (lambda f: (f / "j").write_bytes(b""), "j", 0, "the file is empty"),
        (lambda f: os.truncate(f / "j", 100), "j", 0, "cut off in its header"),
        (lambda f: (f / "j.0001").write_text("notes"), "j.0001", 0, "not a journal"),
    ],
)
def test_damage_to_a_file_of_several_is_found_and_named(tmp_path, damage, file, line, reason) -> None:
    path = rotated(tmp_path / "j")
    damage(tmp_path)
    report = verify_journal(path)
    assert not report.ok
    assert (report.bad_file, report.first_bad_line) == (tmp_path / file, line)
    assert reason in report.reason
    assert not report.torn_tail
    with pytest.raises(RecordError, match=rf"the journal .*{file} is damaged at line {line}"):
        list(read_journal(path))


def test_every_byte_of_every_file(tmp_path) -> None:
    path = rotated(tmp_path / "j", 6)
    assert len(names(tmp_path)) >= 3
    for file in sorted(tmp_path.iterdir()):
        good = file.read_bytes()
        for place in range(len(good)):
            file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            report = verify_journal(path)
            assert not report.ok, (file, place)
        file.write_bytes(good)
    assert verify_journal(path).ok


@pytest.mark.parametrize("left", [None, b"", b'{"event":{"facts":{'])
def test_without_the_newest_file_or_its_header_there_is_no_new_journal(tmp_path, left) -> None:
    path = rotated(tmp_path / "j")
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    with pytest.raises(
        RecordError, match=r"missing or has lost its header, but .*j.000\d is there: put the fi"
    ):
        Journal(path)
    assert path.exists() == (left is not None)


def test_a_missing_newest_file_is_said(tmp_path) -> None:
    path = rotated(tmp_path / "j")
    path.unlink()
    for call in (verify_journal, lambda p: list(read_journal(p))):
        with pytest.raises(RecordError, match=r"No such file or directory; its closed segments are there"):
            call(path)


@pytest.mark.parametrize("other", [b"other", None])
def test_an_older_file_in_place_of_the_newest_is_not_written_to(tmp_path, other) -> None:
    path = rotated(tmp_path / "j")
    shutil.copy(tmp_path / "j.0001", path)
    if other is not None:
        (tmp_path / "j.0001").write_bytes(other)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"j.0001 is there, but the journal .* does not continue it"):
        Journal(path, rotate_bytes=900)
    assert path.read_bytes() == before


def test_a_closed_file_is_no_journal_of_its_own(tmp_path) -> None:
    rotated(tmp_path / "j")
    report = verify_journal(tmp_path / "j.0001")
    assert not report.ok
    assert report.bad_file == tmp_path / "j.0001.0000"


# --- two processes ---


def test_a_reader_meets_a_rotation(tmp_path) -> None:
    """It holds the newest file open while that becomes a segment."""
    path = tmp_path / "j"
    with Journal(path, facts=FACTS, rotate_bytes=900) as journal:
        reading = read_journal(path)
        next(reading)
        for i in range(12):
            journal.append(estimate(i))
        assert len(names(tmp_path)) > 2
        seen = [e.event for e in reading]
        assert seen == [estimate(i) for i in range(len(seen))]
        assert len(seen) >= 3
        assert kept(path) == [estimate(i) for i in range(12)]


def test_a_second_writer_is_refused_after_a_rotation_too(tmp_path) -> None:
    path = tmp_path / "j"
    with Journal(path, rotate_bytes=1) as journal:
        for i in range(3):
            journal.append(estimate(i))
            with pytest.raises(RecordError, match="another process"):
                Journal(path)
    assert verify_journal(path).entries == 6


def test_a_file_that_is_rotated_away_before_it_could_be_locked_is_not_written_to(
    tmp_path, monkeypatch
) -> None:
    path, real = rotated(tmp_path / "j"), fcntl.flock
    before = path.read_bytes()

    def late(fd: int, how: int) -> None:
        """The writer rotates, and ends, between our opening and our locking."""
        shutil.copy(path, tmp_path / "next")
        os.replace(tmp_path / "next", path)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(RecordError, match="another process"):
        Journal(path)
    assert path.read_bytes() == before


# --- a disk that does not let it ---


@pytest.mark.parametrize("name", ["link", "replace", "fsync"])
def test_a_rotation_that_fails_is_said_and_loses_nothing(tmp_path, monkeypatch, name: str) -> None:
    path = tmp_path / "j"

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with Journal(path, facts=FACTS, rotate_bytes=600) as journal:
        for i in range(2):
            journal.append(estimate(i))
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refused)
            journal.append(estimate(2))
        assert names(tmp_path) == ["j"]
        assert events(path)[-2:] == [
            {"type": "not_rotated", "reason": "Operation not permitted"},
            estimate(2),
        ]
        for i in range(3, 9):
            journal.append(estimate(i))
    assert kept(path) == [estimate(i) for i in range(9)]
    assert "j.0000" in names(tmp_path)  # tried again, later
    assert verify_journal(path).ok


def test_a_foreign_file_under_the_name_of_a_segment_is_left_alone(tmp_path) -> None:
    path = tmp_path / "j"
    with Journal(path, facts=FACTS, rotate_bytes=500) as journal:
        (tmp_path / "j.0000").write_text("mine")
        for i in range(4):
            journal.append(estimate(i))
    assert (tmp_path / "j.0000").read_text() == "mine"
    assert "File exists" in {e.get("reason") for e in events_of_file(path)}


def events_of_file(path: Path) -> list[dict]:
    return [json.loads(line)["event"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["link", "replace", "fsync", "write"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_within_a_rotation_leaves_a_good_journal(tmp_path, monkeypatch, name, after) -> None:
    path, real = tmp_path / "j", getattr(os, name)

    def interrupted(*arguments: object) -> None:
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    with Journal(path, facts=FACTS, rotate_bytes=500) as journal:
        for i in range(2):
            journal.append(estimate(i))
        with monkeypatch.context() as patch:
            patch.setattr(os, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.append(estimate(2))
        for i in range(2, 6):
            journal.append(estimate(i))
    assert verify_journal(path).ok
    assert kept(path) == [estimate(i) for i in range(6)]


# --- power loss ---


class Disk:
    """Records what a program asks of a disk, and makes what a power loss may leave of it.

    The model is POSIX's and harsher than ext4: what was written after a file's last fsync is there up to any
    byte, and of the names made, moved and removed since the folder's last fsync any choice is there.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple] = []
        for name in ("open", *STEPS):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **options):
            is_new = name == "open" and not os.path.exists(arguments[0])
            result = real(*arguments, **options)
            if name != "open":
                self.steps.append(STEPS[name](*arguments, result))
            elif is_new:
                self.steps.append(("name", Path(arguments[0]).name, inode(result)))
            return result

        return call


def inode(file: int | Path) -> int:
    return os.stat(file).st_ino


STEPS = {
    "write": lambda fd, data, n: ("write", inode(fd), bytes(data[:n])),
    "fsync": lambda fd, _: ("sync_names",) if stat.S_ISDIR(os.stat(fd).st_mode) else ("sync", inode(fd)),
    "ftruncate": lambda fd, size, _: ("truncate", inode(fd), size),
    "link": lambda old, new, _: ("name", new.name, inode(old)),
    "replace": lambda old, new, _: ("move", old.name, new.name),
    "unlink": lambda path, _: ("forget", path.name),
}


def left_by(steps: list[tuple]) -> Iterator[tuple[dict[str, bytes], dict[str, str]]]:
    """Yield every folder that a power loss after these steps may leave: content by name."""
    synced: dict[int, bytes] = {}
    content: dict[int, bytes] = {}
    names: dict[str, int] = {}
    pending: list[tuple] = []
    for kind, *what in steps:
        if kind == "write":
            content[what[0]] = content.get(what[0], b"") + what[1]
        elif kind == "truncate":
            content[what[0]] = content[what[0]][: what[1]]
        elif kind == "sync":
            synced[what[0]] = content.get(what[0], b"")
        elif kind == "sync_names":
            names, pending = renamed(names, pending), []
        else:
            pending.append((kind, *what))
    for chosen in itertools.product([False, True], repeat=len(pending)):
        some = renamed(names, [step for step, is_chosen in zip(pending, chosen, strict=True) if is_chosen])
        unsure = [i for i in sorted(set(some.values())) if content.get(i, b"") != synced.get(i, b"")]
        ranges = [range(len(synced.get(i, b"")), len(content.get(i, b"")) + 1) for i in unsure]
        for lengths in itertools.product(*ranges):
            data = {**content, **{i: content[i][:n] for i, n in zip(unsure, lengths, strict=True)}}
            yield {name: data.get(inode, b"") for name, inode in some.items()}, some


def renamed(names: dict[str, int], steps: list[tuple]) -> dict[str, int]:
    names = dict(names)
    for kind, *what in steps:
        if kind == "name":
            names[what[0]] = what[1]
        elif kind == "move" and what[0] in names:
            names[what[1]] = names.pop(what[0])
        elif kind == "forget":
            names.pop(what[0], None)
    return names


def lay(folder: Path, contents: dict[str, bytes], inodes: dict[str, int]) -> None:
    """Make the folder, with two names of one file where the disk had them."""
    folder.mkdir()
    made: dict[int, Path] = {}
    for name, data in contents.items():
        if inodes[name] in made:
            os.link(made[inodes[name]], folder / name)
        else:
            (folder / name).write_bytes(data)
            made[inodes[name]] = folder / name


@pytest.mark.parametrize("linked", [True, False], ids=["as left", "from a backup without links"])
def test_power_loss_at_every_byte_and_between_any_two_calls(tmp_path, monkeypatch, linked: bool) -> None:
    """About 30 entries over five files; after each call, all that a power loss there may leave."""
    told: list[int] = []  # how many steps had been taken when `append` returned the k-th synced event
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        (tmp_path / "real").mkdir()
        with Journal(tmp_path / "real" / "j", rotate_bytes=1300) as journal:
            for i in range(22):
                journal.append(estimate(i))
                if i % 4 == 3:
                    journal.append({**ALARM, "t_s": float(i)})
                    told.append(len(disk.steps))
    assert len(names(tmp_path / "real")) >= 5
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of openings are checked for content
    whole = kept(tmp_path / "real" / "j")
    seen: set[tuple] = set()
    for taken in range(len(disk.steps) + 1):
        sure = sum(steps <= taken for steps in told)
        for contents, inodes in left_by(disk.steps[:taken]):
            state = (sure, *sorted(contents.items()), *sorted(inodes.items()))
            two_names = len(set(inodes.values())) < len(inodes)
            if state in seen or not (linked or two_names):
                continue
            seen.add(state)
            folder = tmp_path / "left"
            lay(folder, contents, inodes if linked else {name: k for k, name in enumerate(contents)})
            check_left(folder / "j", whole, alarms=sure)
            shutil.rmtree(folder)
    assert len(seen) > (5000 if linked else 10)  # every byte of every entry that a power loss can tear


def check_left(path: Path, whole: list[dict], *, alarms: int) -> None:
    """Reopened, the journal is good, goes on, and holds a beginning of what was written, every synced alarm in it."""
    report = verify_journal(path) if path.exists() else None
    assert report is None or report.ok or report.torn_tail or report.entries == 0, report
    with Journal(path, facts=FACTS, rotate_bytes=1500) as journal:
        journal.append({"type": "note"})
    assert verify_journal(path).ok, verify_journal(path)
    *found, note = kept(path)
    assert note == {"type": "note"}
    assert found == whole[: len(found)]
    assert sum(e["type"] == "alarm" for e in found) >= alarms
    assert not path.with_name("j.next").exists()
