"""Reading a journal: verified over all its files, entry by entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from ecgedge.errors import RecordError
from ecgedge.journal.chain import GENESIS, Bad, JournalEntry, check_lines, start_of
from ecgedge.journal.files import is_copy, segment_numbers, segment_path

_EMPTY: Final = "the file is empty: it has no header"
_NO_HEADER: Final = "the file is cut off in its header"


@dataclass(frozen=True)
class JournalReport:
    """What `verify_journal` found.

    Attributes
    ----------
    entries
        Good entries before the first bad line, over all files.
    ok
        Whether every line of every file is good and the last one complete.
    first_bad_line
        Counted from 0 within `bad_file`; None where all is good.
    reason
        What is wrong with it.
    torn_tail
        Whether all that is wrong is an unfinished last line, as a power loss leaves it; opening the journal
        for writing moves it aside.
    head
        Hash of the last good entry.
    files
        How many files were read.
    bad_file
        In which of them the bad line is.
    """

    entries: int
    ok: bool
    first_bad_line: int | None
    reason: str | None
    torn_tail: bool
    head: str
    files: int = 1
    bad_file: Path | None = None


def verify_journal(path: str | Path) -> JournalReport:
    """Check every line of a journal, in all its files; it may be open for writing meanwhile.

    Parameters
    ----------
    path
        The file that is written to, not one of its closed segments.

    Raises
    ------
    RecordError
        If the file cannot be read. Damage is reported, not raised.
    """
    report = JournalReport(0, ok=False, first_bad_line=0, reason=_EMPTY, torn_tail=False, head=GENESIS)
    file: Path | None = None
    for found, item in _read(Path(path)):
        files, file = report.files + (file is not None and found != file), found
        if isinstance(item, Bad):
            bad = replace(report, ok=False, first_bad_line=item.line, reason=item.reason, torn_tail=item.torn)
            return replace(bad, files=files, bad_file=found)
        report = JournalReport(
            item.seq + 1,
            ok=True,
            first_bad_line=None,
            reason=None,
            torn_tail=False,
            head=item.hash,
            files=files,
        )
    return report if file else replace(report, bad_file=Path(path))


def read_journal(path: str | Path) -> Iterator[JournalEntry]:
    """Yield the entries of a journal, from all its files, each checked against the chain before it is handed out.

    Raises
    ------
    RecordError
        At the first bad line (an unfinished last one as well), or if a file cannot be read.
    """
    for file, item in _read(Path(path)):
        if isinstance(item, Bad):
            raise RecordError(f"the journal {file} is damaged at line {item.line}: {item.reason}")
        yield item


def _read(path: Path) -> Iterator[tuple[Path, JournalEntry | Bad]]:
    """Yield what each file holds, in order, until the end or the first bad line."""
    try:
        # The live file is opened first: should a writer rotate meanwhile, its segments are all there.
        with path.open("rb") as live:
            yield from _read_files(path, live)
    except OSError as error:
        rest = "; its closed segments are there, the newest entries are lost" if _is_headless(path) else ""
        raise RecordError(f"cannot read the journal {path}: {error.strerror}{rest}") from error


def _is_headless(path: Path) -> bool:
    return path.parent.is_dir() and not path.exists() and bool(segment_numbers(path))


def _read_files(path: Path, live: BinaryIO) -> Iterator[tuple[Path, JournalEntry | Bad]]:
    seq, prev, number = 0, GENESIS, _number_of(path, live)
    for file in (segment_path(path, n) for n in range(number)):
        for item in _closed(file, seq=seq, prev=prev):
            yield file, item
            if isinstance(item, Bad):
                return
            seq, prev = item.seq + 1, item.hash
    yield from ((path, item) for item in _newest(live, seq=seq, prev=prev))
    if (reason := _surplus(path, live, number)) is not None:
        yield path, Bad(0, reason, torn=False)


def _newest(live: BinaryIO, *, seq: int, prev: str) -> Iterator[JournalEntry | Bad]:
    item: JournalEntry | Bad | None = None
    for item in check_lines(live, seq=seq, prev=prev):
        # The header was on the disk before the file had its name: only the very first may be torn.
        is_lost = isinstance(item, Bad) and item.torn and item.line == 0 and seq > 0
        yield Bad(0, _NO_HEADER, torn=False) if is_lost else item
    if item is None and seq > 0:
        yield Bad(0, _EMPTY, torn=False)


def _surplus(path: Path, live: BinaryIO, number: int) -> str | None:
    """Say so if there are newer segments than the live file knows of: an old file was put in its place."""
    newer = [n for n in segment_numbers(path) if n >= number]
    if not newer:
        return None
    segment = segment_path(path, newer[0])
    if newer[0] == number and os.path.samestat(segment.stat(), os.fstat(live.fileno())):
        return None  # a rotation since the live file was opened, or one that was cut short
    if newer == [number] and is_copy(segment, path):
        return None
    return f"{segment.name} is there, but this file does not continue it"


def _number_of(path: Path, live: BinaryIO) -> int:
    """Return how many closed files come before the live one; where its header does not tell, all that are there."""
    line = live.readline()
    live.seek(0)
    _, _, number = start_of(line)
    if number == 0 and b'"type":"journal"' not in line:
        return max(segment_numbers(path), default=-1) + 1
    return number


def _closed(file: Path, *, seq: int, prev: str) -> Iterator[JournalEntry | Bad]:
    if not file.exists():
        yield Bad(0, "the file is missing", torn=False)
        return
    if file.stat().st_size == 0:
        yield Bad(0, _EMPTY, torn=False)
        return
    with file.open("rb") as stream:
        for item in check_lines(stream, seq=seq, prev=prev):
            # A closed file was on the disk before its name was: no power loss tears its last line.
            if isinstance(item, Bad) and item.torn:
                yield Bad(item.line, "the file is cut off in this line", torn=False)
            else:
                yield item
