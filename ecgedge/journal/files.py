"""The files of a journal: their names, the lock, and what must be on the disk in which order."""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

from ecgedge.errors import RecordError


def segment_path(path: Path, number: int) -> Path:
    """Return the name of closed file `number` of the journal `path`."""
    return path.with_name(f"{path.name}.{number:04d}")


def successor_path(path: Path) -> Path:
    """Return the name under which the next file is prepared; what lies there holds no event."""
    return path.with_name(f"{path.name}.next")


def segment_numbers(path: Path) -> list[int]:
    """Return the numbers of the closed files that lie beside the journal `path`, in order."""
    found = (re.fullmatch(re.escape(path.name) + r"\.(\d{4,})", p.name) for p in path.parent.iterdir())
    return sorted(int(match[1]) for match in found if match)


def has_header(path: Path) -> bool:
    """Whether the file `path` is there, with a whole first line."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.readline().endswith(b"\n")


def is_copy(segment: Path, path: Path) -> bool:
    """Whether a segment is the file `path` itself, as a rotation that was cut short leaves it.

    It is the same file under two names, or, where a backup has made two of it, two with the same content.
    """
    return segment.samefile(path) or filecmp.cmp(segment, path, shallow=False)


def open_locked(path: Path) -> int:
    """Open the journal `path` for writing, made where it is not there, and lock it.

    Raises
    ------
    RecordError
        If it is no regular file, or another process has it, also one that has just rotated it away.
    """
    # Not inherited by child processes, so that a child cannot keep the lock.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        _take(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _take(fd: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise RecordError(f"the journal {path} is no regular file; give it a place on a disk")
    _lock(fd, path)
    if not is_named(fd, path):
        raise _in_use(path)


def make_locked(path: Path) -> int:
    """Make an empty file and lock it before its name is known to anyone else."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_named(fd: int, path: Path) -> bool:
    """Whether the open file is what `path` names."""
    return os.path.samestat(os.fstat(fd), path.stat())


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path) from error
    except OSError as error:
        raise RecordError(f"cannot lock the journal {path}: {error.strerror}") from error


def _in_use(path: Path) -> RecordError:
    return RecordError(
        f"the journal {path} is being written by another process; give this one a journal of its own"
    )


def write(fd: int, line: bytes, *, sync: bool) -> None:
    """Write all of a line, and wait for the disk if `sync`."""
    left = memoryview(line)
    while left:
        left = left[os.write(fd, left) :]
    if sync:
        os.fsync(fd)


def keep_torn(tail: bytes, path: Path, *, seq: int) -> None:
    """Write a torn tail to `PATH.torn-SEQ`, or -SEQ-2, ... rather than over another tail."""
    target, copy = path.with_name(f"{path.name}.torn-{seq}"), 1
    while target.exists() and target.read_bytes() != tail:
        copy += 1
        target = path.with_name(f"{path.name}.torn-{seq}-{copy}")
    with target.open("wb") as stream:
        stream.write(tail)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def torn_files(path: Path, *, seq: int) -> list[dict[str, Any]]:
    """Describe the tails moved aside before entry `seq`, also those of a recovery that was cut short itself."""
    first = f"{path.name}.torn-{seq}"
    names = sorted(p.name for p in path.parent.iterdir() if p.name == first or p.name.startswith(f"{first}-"))
    tails = {name: path.with_name(name).read_bytes() for name in names}
    return [{"file": n, "bytes": len(t), "sha256": hashlib.sha256(t).hexdigest()} for n, t in tails.items()]


def sync_folder(folder: Path) -> None:
    """Bring new names to the disk: without it a power loss can take the whole file."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
