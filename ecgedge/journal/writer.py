"""Writing a journal: every entry whole or not at all, whatever the machine does meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ecgedge.errors import RecordError
from ecgedge.journal.chain import GENESIS, JOURNAL_FORMAT, Bad, JournalEntry, check_lines, make_line, start_of
from ecgedge.journal.files import (
    has_header,
    is_copy,
    is_named,
    keep_torn,
    make_locked,
    open_locked,
    segment_numbers,
    segment_path,
    successor_path,
    sync_folder,
    torn_files,
    write,
)

_SYNCED: Final = ("alarm", "audio", "calibration")
"""Events that no power loss may take: what was said of the patient, and who silenced it."""


class Journal:
    """Writes a journal; one writer at a time.

    An alarm or audio event is on the disk (fsync) when `append` returns, any other is with the operating system: a
    killed process loses nothing, a power loss at most what came after the last alarm.

    Parameters
    ----------
    path
        Written anew, or verified and continued. Of a journal in several files only this one is verified here.
    facts
        What the opening entry says of this run, plain JSON types.
    rotate_bytes
        A file that has grown to this size is closed as `PATH.NNNN` at the next `append`, and a new one goes on.

    Raises
    ------
    RecordError
        If the file cannot be opened, another process writes it, or it is damaged other than by an unfinished
        last line. That one is moved to `PATH.torn-SEQ`, and the opening entry names it under `torn`.
    ValueError
        If `rotate_bytes` is below 1.
    """

    def __init__(
        self, path: str | Path, *, facts: Mapping[str, Any] | None = None, rotate_bytes: int | None = None
    ) -> None:
        if rotate_bytes is not None and rotate_bytes < 1:
            raise ValueError(f"rotate_bytes is {rotate_bytes}; it must be at least 1")
        self._path = Path(path)
        self._facts = dict(facts or {})
        self._rotate_bytes = self._full_bytes = rotate_bytes
        self._fd: int | None = None
        self._seq, self._head, self._size = 0, GENESIS, 0
        self._number, self._first_seq = 0, 0
        self._is_name_due = self._has_half_line = False
        try:
            self._open()
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

    def waits_for_the_disk(self, event: Mapping[str, Any]) -> bool:
        """Tell whether `append` of this event would wait for the disk itself."""
        return event.get("type") in _SYNCED or self._is_full or self._is_name_due

    @property
    def _is_full(self) -> bool:
        return self._full_bytes is not None and self._size >= self._full_bytes

    def append(self, event: Mapping[str, Any], *, wall_s: float | None = None) -> JournalEntry:
        """Write one event and return its entry; fsync if its `type` is one of `_SYNCED`.

        Raises
        ------
        RecordError
            If the disk does not take it. What was written of the line is taken back, at the latest by the next
            `append`, so that the journal stays good; the event is not in it.
        ValueError, TypeError
            If the journal is closed, or the event is no plain JSON (NaN is not). Nothing is written.
        """
        if self._is_full:
            self._rotate_or_say()
        return self._append(event, wall_s=wall_s, sync=event.get("type") in _SYNCED)

    def sync(self) -> None:
        """Bring everything to the disk; RecordError where it does not take it, ValueError if the journal is closed."""
        try:
            os.fsync(self._open_fd())
        except OSError as error:
            raise self._not_on_the_disk(error) from error

    def close(self) -> None:
        """Bring everything to the disk and unlock; safe to call twice."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.fsync(fd)
        except OSError as error:
            raise self._not_on_the_disk(error) from error
        finally:
            os.close(fd)

    def _not_on_the_disk(self, error: OSError) -> RecordError:
        return RecordError(f"cannot bring the journal {self._path} to the disk: {error.strerror}")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- opening ---

    def _open(self) -> None:
        """Lock, check what is there, move a torn tail aside, and write the first entry of this run."""
        self._refuse_headless()
        self._fd = open_locked(self._path)
        self._read()
        self._clear_rotation()
        self._move_torn_tail()
        torn = torn_files(self._path, seq=self._seq)
        said = {"torn": torn} if torn else {}
        self._is_name_due = True
        if self._seq > self._first_seq:
            opening = {"type": "recovered" if torn else "reopened", "facts": self._facts}
            self._append({**opening, **said}, sync=True)
        else:
            self._append({**self._header(), **said}, sync=True)
            self._set_full()

    def _refuse_headless(self) -> None:
        """Refuse to begin anew beside closed files: after a rotation there is always a file with its header."""
        closed = segment_numbers(self._path)
        if closed and not has_header(self._path):
            raise RecordError(
                f"the journal {self._path} is missing or has lost its header, but "
                f"{segment_path(self._path, closed[-1]).name} is there: put the file back, or write to a new one"
            )

    def _read(self) -> None:
        """Verify this file, and take from it where the chain goes on."""
        with self._path.open("rb") as stream:
            self._seq, self._head, self._number = start_of(stream.readline())
            stream.seek(0)
            self._first_seq = self._seq
            for item in check_lines(stream, seq=self._seq, prev=self._head):
                if isinstance(item, Bad):
                    self._refuse_damage(item)
                    break
                self._seq, self._head, self._size = item.seq + 1, item.hash, stream.tell()

    def _refuse_damage(self, bad: Bad) -> None:
        if not bad.torn:
            raise RecordError(
                f"the journal {self._path} is damaged at line {bad.line} ({bad.reason}); "
                "it is left as it is: keep it as evidence and write to a new file"
            )

    def _clear_rotation(self) -> None:
        """Undo a rotation that was cut short: this file is still the one that is written to."""
        if successor_path(self._path).exists():
            os.unlink(successor_path(self._path))
        newer = [n for n in segment_numbers(self._path) if n >= self._number]
        if not newer:
            return
        segment = segment_path(self._path, newer[0])
        if newer != [self._number] or not is_copy(segment, self._path):
            raise RecordError(
                f"{segment} is there, but the journal {self._path} does not continue it; "
                "both are left as they are: write to a new file"
            )
        os.unlink(segment)

    def _move_torn_tail(self) -> None:
        """Copy the bytes after the last good entry to a file of their own, then cut them off."""
        fd = self._open_fd()
        size = os.fstat(fd).st_size
        if size > self._size:
            keep_torn(os.pread(fd, size - self._size, self._size), self._path, seq=self._seq)
            # Only now, with the copy on the disk: a second power loss here leaves the tail in both places.
            os.ftruncate(fd, self._size)

    def _header(self) -> dict[str, Any]:
        """Return the first event of a file."""
        header = {"facts": self._facts, "format": JOURNAL_FORMAT}
        if self._number == 0:
            return {"type": "journal", **header}
        previous = {"file": segment_path(self._path, self._number - 1).name, "hash": self._head}
        return {"type": "continued", **header, "segment": self._number, "previous": previous}

    # --- rotation ---

    def _rotate_or_say(self) -> None:
        """Rotate; where the file system does not let us, the journal says so and grows on."""
        try:
            self._rotate()
        except OSError as error:
            self._full_bytes = self._size + (self._rotate_bytes or 0)
            self._append({"type": "not_rotated", "reason": error.strerror}, sync=False)

    def _rotate(self) -> None:
        """Close this file under its segment's name and go on in a new one.

        At every moment PATH names a good file that ends with the newest entry or with a header that follows it.
        A rotation that is cut short before the rename is undone by the next opening; after it, it is done.
        """
        segment, successor = segment_path(self._path, self._number), successor_path(self._path)
        old = self._open_fd()
        os.fsync(old)  # no entry of a closed file is left to a power loss
        new = make_locked(successor)
        self._number += 1
        line, digest = make_line(self._header(), seq=self._seq, prev=self._head)
        try:
            write(new, line, sync=True)
            os.link(self._path, segment)  # fails rather than replace a segment
            sync_folder(self._path.parent)  # else a power loss could keep the rename and lose this name
            os.replace(successor, self._path)
        except BaseException:
            if is_named(new, self._path):
                self._go_on_in(new, header=line, digest=digest)
            else:
                self._undo_rotation(new)
            raise
        self._go_on_in(new, header=line, digest=digest)

    def _go_on_in(self, new: int, *, header: bytes, digest: str) -> None:
        """Take the new file for ours; its name goes to the disk with its first entry."""
        old, self._fd = self._open_fd(), new
        self._first_seq, self._seq, self._head, self._size = self._seq, self._seq + 1, digest, len(header)
        self._set_full()
        self._is_name_due = True
        os.close(old)

    def _set_full(self) -> None:
        """Say when a file that has just begun is full: it holds an event at least."""
        if self._rotate_bytes is not None:
            self._full_bytes = max(self._rotate_bytes, self._size + 1)

    def _undo_rotation(self, new: int) -> None:
        self._number -= 1
        segment, successor = segment_path(self._path, self._number), successor_path(self._path)
        os.close(new)
        os.unlink(successor)
        if segment.exists() and segment.samefile(self._path):
            os.unlink(segment)

    # --- one entry ---

    def _append(self, event: Mapping[str, Any], *, wall_s: float | None = None, sync: bool) -> JournalEntry:
        fd = self._open_fd()
        line, digest = make_line(event, seq=self._seq, prev=self._head, wall_s=wall_s)
        try:
            if self._has_half_line:
                self._cut_half_line(fd)
            write(fd, line, sync=sync)
            if self._is_name_due:
                sync_folder(self._path.parent)
                self._is_name_due = False
            entry = JournalEntry(self._seq, dict(event), digest, wall_s)
            self._seq, self._head, self._size = self._seq + 1, digest, self._size + len(line)
        except OSError as error:
            self._take_back(fd)
            raise RecordError(f"the journal {self._path} cannot be written: {error.strerror}") from error
        except BaseException:  # an interrupt between write and count would give two entries one number
            self._take_back(fd)
            raise
        return entry

    def _take_back(self, fd: int) -> None:
        """Cut off a half-written line; where even that fails, nothing more is written until it is cut off."""
        self._has_half_line = True
        try:
            self._cut_half_line(fd)
        except OSError:
            return

    def _cut_half_line(self, fd: int) -> None:
        os.ftruncate(fd, self._size)
        self._has_half_line = False

    def _abandon(self) -> None:
        """Unlock without another write."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError(f"the journal {self._path} is closed")
        return self._fd
