"""The journal: an append-only log of events in which a lost, added or altered line shows.

One entry a line, as canonical JSON (sorted keys, no spaces, ASCII):

    {"event":{...},"hash":"...","prev":"...","seq":7}

`hash` is the SHA-256 over the canonical JSON of the rest of the entry, `prev` the hash of the entry before
(64 zeros at first), `seq` counts from 0; `wall_s` stands where the caller gave a wall-clock time. Each opening
writes one entry with the caller's facts of that run (bundle id, policy hash, feed, mode): "journal" is the
header, entry 0, with the format version; "reopened" continues; "recovered" continues after a torn line.

What it does not show: lines cut off the end exactly at a line's edge, and a file written anew from its first
changed line on. The chain has no key: keep `JournalReport.head` elsewhere to find these too.

The file is locked while it is open, by flock: POSIX systems only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from ecgedge.errors import RecordError

JOURNAL_FORMAT: Final = 1
GENESIS: Final = "0" * 64
"""`prev` of the header."""

_FIRST_BYTES: Final = b'{"event":{"facts":{'
"""How every journal begins: the keys of its header are sorted."""

_SYNCED: Final = ("alarm", "audio")
"""Events that no power loss may take: what was said of the patient, and who silenced it."""

_KEYS: Final = ({"seq", "prev", "event", "hash"}, {"seq", "prev", "event", "hash", "wall_s"})


@dataclass(frozen=True)
class JournalEntry:
    """One entry. `wall_s` is the writer's wall clock (Unix seconds), where it gave one."""

    seq: int
    event: Mapping[str, Any]
    hash: str
    wall_s: float | None


@dataclass(frozen=True)
class JournalReport:
    """What `verify_journal` found.

    Attributes
    ----------
    entries
        Good entries before the first bad line.
    ok
        Whether every line is good and the last one complete.
    first_bad_line
        Counted from 0, like `seq`; None where all is good.
    reason
        What is wrong with it.
    torn_tail
        Whether all that is wrong is an unfinished last line, as a power loss leaves it; opening the journal
        for writing moves it aside.
    head
        Hash of the last good entry.
    """

    entries: int
    ok: bool
    first_bad_line: int | None
    reason: str | None
    torn_tail: bool
    head: str


class Journal:
    """Writes a journal; one writer at a time.

    An alarm or audio event is on the disk (fsync) when `append` returns, any other is with the operating system: a
    killed process loses nothing, a power loss at most what came after the last alarm.

    Parameters
    ----------
    path
        Written anew, or verified and continued.
    facts
        What the opening entry says of this run, plain JSON types.

    Raises
    ------
    RecordError
        If the file cannot be opened, another process writes it, or it is damaged other than by an unfinished
        last line. That one is moved to `PATH.torn-SEQ`, and the opening entry names it under `torn`.
    """

    def __init__(self, path: str | Path, *, facts: Mapping[str, Any] | None = None) -> None:
        self._path = Path(path)
        try:
            # Not inherited by child processes, so that a child cannot keep the lock.
            self._fd: int | None = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise RecordError(f"cannot open the journal {path}: {error.strerror}") from error
        try:
            self._start(facts or {})
        except OSError as error:
            self._abandon()
            raise RecordError(f"cannot open the journal {path}: {error.strerror}") from error
        except BaseException:
            self._abandon()
            raise

    @property
    def path(self) -> Path:
        """Where the journal is."""
        return self._path

    @property
    def head(self) -> str:
        """Hash of the last entry."""
        return self._head

    def append(self, event: Mapping[str, Any], *, wall_s: float | None = None) -> JournalEntry:
        """Write one event and return its entry; fsync if its `type` is "alarm" or "audio".

        Raises
        ------
        RecordError
            If the disk does not take it. What was written of the line is taken back, so that the journal
            stays good; the event is not in it.
        ValueError, TypeError
            If the journal is closed, or the event is no plain JSON (NaN is not). Nothing is written.
        """
        return self._append(event, wall_s=wall_s, sync=event.get("type") in _SYNCED)

    def close(self) -> None:
        """Bring everything to the disk and unlock; safe to call twice."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.fsync(fd)
        except OSError as error:
            raise RecordError(
                f"cannot bring the journal {self._path} to the disk: {error.strerror}"
            ) from error
        finally:
            os.close(fd)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, facts: Mapping[str, Any]) -> None:
        """Lock, check what is there, move a torn tail aside, and write the first entry of this run."""
        _lock(self._open_fd(), self._path)
        with self._path.open("rb") as stream:
            scan = _scan(stream)
        if scan.reason is not None and not scan.torn_tail:
            raise RecordError(
                f"the journal {self._path} is damaged at line {scan.entries} ({scan.reason}); "
                "it is left as it is: keep it as evidence and write to a new file"
            )
        self._seq, self._head, self._size = scan.entries, scan.head, scan.good_bytes
        self._move_torn_tail()
        torn = _torn_files(self._path, seq=self._seq)
        opening: dict[str, Any] = {"type": "recovered" if torn else "reopened"}
        if self._seq == 0:
            opening = {"type": "journal", "format": JOURNAL_FORMAT}
        self._append({**opening, "facts": dict(facts), **({"torn": torn} if torn else {})}, sync=True)
        _sync_folder(self._path.parent)

    def _move_torn_tail(self) -> None:
        """Copy the bytes after the last good entry to a file of their own, then cut them off."""
        fd, size = self._open_fd(), os.fstat(self._open_fd()).st_size
        if size > self._size:
            _keep_torn(os.pread(fd, size - self._size, self._size), self._path, seq=self._seq)
            # Only now, with the copy on the disk: a second power loss here leaves the tail in both places.
            os.ftruncate(fd, self._size)

    def _append(self, event: Mapping[str, Any], *, wall_s: float | None = None, sync: bool) -> JournalEntry:
        rest: dict[str, Any] = {"seq": self._seq, "prev": self._head, "event": dict(event)}
        if wall_s is not None:
            rest["wall_s"] = wall_s
        digest = _digest(rest)
        line = _canonical({**rest, "hash": digest}) + b"\n"
        try:
            _write(self._open_fd(), line, sync=sync)
            self._seq, self._head, self._size = self._seq + 1, digest, self._size + len(line)
        except OSError as error:
            self._take_back()
            raise RecordError(f"the journal {self._path} cannot be written: {error.strerror}") from error
        except BaseException:  # an interrupt between write and count would give two entries one number
            self._take_back()
            raise
        return JournalEntry(rest["seq"], rest["event"], digest, wall_s)

    def _take_back(self) -> None:
        """Cut off a half-written line; where even that fails, write no more: the half line must stay last."""
        if self._fd is None:
            return
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        """Unlock without another write."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError(f"the journal {self._path} is closed")
        return self._fd


def verify_journal(path: str | Path) -> JournalReport:
    """Check every line of a journal; it may be open for writing meanwhile.

    Raises
    ------
    RecordError
        If the file cannot be read. Damage is reported, not raised.
    """
    try:
        with Path(path).open("rb") as stream:
            scan = _scan(stream)
    except OSError as error:
        raise RecordError(f"cannot read the journal {path}: {error.strerror}") from error
    reason = scan.reason or (None if scan.entries else "the file is empty: it has no header")
    bad = None if reason is None else scan.entries
    return JournalReport(scan.entries, reason is None, bad, reason, scan.torn_tail, scan.head)


def read_journal(path: str | Path) -> Iterator[JournalEntry]:
    """Yield the entries of a journal, each checked against the chain before it is handed out.

    Raises
    ------
    RecordError
        At the first bad line (an unfinished last one as well), or if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            for item in _check_lines(stream):
                if isinstance(item, _Bad):
                    raise RecordError(f"the journal {path} is damaged at line {item.line}: {item.reason}")
                yield item
    except OSError as error:
        raise RecordError(f"cannot read the journal {path}: {error.strerror}") from error


# --- the chain ---


@dataclass(frozen=True)
class _Bad:
    line: int
    reason: str
    torn: bool


@dataclass(frozen=True)
class _Scan:
    entries: int
    good_bytes: int
    head: str
    reason: str | None
    torn_tail: bool


def _canonical(value: object) -> bytes:
    """Return the one way to write `value`: the hash is over these bytes, and these bytes are the line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _digest(rest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(rest)).hexdigest()


def _scan(stream: BinaryIO) -> _Scan:
    """Run over all lines up to the first bad one."""
    entries, head, good_bytes = 0, GENESIS, 0
    for item in _check_lines(stream):
        if isinstance(item, _Bad):
            return _Scan(entries, good_bytes, head, item.reason, item.torn)
        entries, head, good_bytes = entries + 1, item.hash, stream.tell()
    return _Scan(entries, good_bytes, head, None, torn_tail=False)


def _check_lines(stream: BinaryIO) -> Iterator[JournalEntry | _Bad]:
    """Yield good entries until the end or the first bad line, which is the last thing yielded."""
    seq, prev = 0, GENESIS
    while line := stream.readline():
        if not line.endswith(b"\n"):
            yield _unfinished(line, seq=seq)
            return
        item = _check_line(line, seq=seq, prev=prev)
        yield item
        if isinstance(item, _Bad):
            return
        seq, prev = seq + 1, item.hash


def _unfinished(line: bytes, *, seq: int) -> _Bad:
    """Tell a torn line from a file that never was a journal, which must not be moved aside."""
    if seq == 0 and not (line.startswith(_FIRST_BYTES) or _FIRST_BYTES.startswith(line)):
        return _Bad(seq, "not a journal", torn=False)
    return _Bad(seq, "the last line is unfinished (power loss?); opening it for writing recovers", torn=True)


def _check_line(line: bytes, *, seq: int, prev: str) -> JournalEntry | _Bad:
    try:
        entry = json.loads(line)
        # A line that parses to the same but is written otherwise (a space, 1e0 for 1.0) was edited as well.
        is_canonical = _canonical(entry) + b"\n" == line
    except (ValueError, RecursionError):
        return _Bad(seq, "not a line of JSON", torn=False)
    reason = _fault(entry, seq=seq, prev=prev) if is_canonical else "not written in canonical form"
    if reason is not None:
        return _Bad(seq, reason, torn=False)
    return JournalEntry(seq, entry["event"], entry["hash"], entry.get("wall_s"))


def _fault(entry: Any, *, seq: int, prev: str) -> str | None:
    """Return what is wrong with a parsed entry, if anything."""
    if not isinstance(entry, dict) or set(entry) not in _KEYS or not isinstance(entry["event"], dict):
        return "not an entry of a journal"
    if type(entry["seq"]) is not int or entry["seq"] != seq:
        return f"its number is {entry['seq']}, expected {seq}: lines are missing or were added"
    if entry["prev"] != prev:
        return "it does not follow the line before it"
    if entry["hash"] != _digest({key: value for key, value in entry.items() if key != "hash"}):
        return "its content does not have its hash"
    event = entry["event"]
    if seq == 0 and (event.get("type"), event.get("format")) != ("journal", JOURNAL_FORMAT):
        return f"not a journal of format {JOURNAL_FORMAT}"
    return None


# --- the file ---


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RecordError(
            f"the journal {path} is being written by another process; give this one a journal of its own"
        ) from error
    except OSError as error:
        raise RecordError(f"cannot lock the journal {path}: {error.strerror}") from error


def _write(fd: int, line: bytes, *, sync: bool) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(fd, left) :]
    if sync:
        os.fsync(fd)


def _keep_torn(tail: bytes, path: Path, *, seq: int) -> None:
    """Write a torn tail to `PATH.torn-SEQ`, or -SEQ-2, ... rather than over another tail."""
    target, copy = path.with_name(f"{path.name}.torn-{seq}"), 1
    while target.exists() and target.read_bytes() != tail:
        copy += 1
        target = path.with_name(f"{path.name}.torn-{seq}-{copy}")
    with target.open("wb") as stream:
        stream.write(tail)
        stream.flush()
        os.fsync(stream.fileno())
    _sync_folder(path.parent)


def _torn_files(path: Path, *, seq: int) -> list[dict[str, Any]]:
    """Describe the tails moved aside before entry `seq`, also those of a recovery that was cut short itself."""
    first = f"{path.name}.torn-{seq}"
    names = sorted(p.name for p in path.parent.iterdir() if p.name == first or p.name.startswith(f"{first}-"))
    tails = {name: path.with_name(name).read_bytes() for name in names}
    return [{"file": n, "bytes": len(t), "sha256": hashlib.sha256(t).hexdigest()} for n, t in tails.items()]


def _sync_folder(folder: Path) -> None:
    """Bring a new file's name to the disk: without it a power loss can take the whole file."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
