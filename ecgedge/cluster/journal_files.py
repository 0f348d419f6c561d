"""The journals of a cluster's beds, in one folder: parts come in, hash-chained files are written (no bus here).

A file is what `ecgedge ward` writes: `Journal` writes it, and a new run opens it again ("reopened"). Before the entries
of each part stands one that says which they are:

    {"type":"part","journal":"9f1c...","run":"77ab...","first":120,"published_s":1790000000.25}

So the file itself knows how far it has come, and a part that comes twice is written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ecgedge.cluster.journal_part import JournalPart
from ecgedge.errors import RecordError
from ecgedge.journal import Journal, JournalEntry
from ecgedge.journal.chain import check_lines, start_of
from ecgedge.journal.files import segment_numbers, segment_path

_NOT_ENTRIES: Final = ("journal", "reopened", "recovered", "continued", "not_rotated", "dropped")
"""What the file says of itself."""


@dataclass(frozen=True)
class Reached:
    """How far a journal's file has come: the number of the bed's entry that is next; `past` has earlier journals."""

    journal: str
    run: str
    number: int
    past: frozenset[str] = frozenset()


def reached(path: Path) -> Reached | None:
    """Return how far a journal's file has come; None where it has nothing of a cluster's bed.

    Raises
    ------
    RecordError
        If it cannot be read.
    """
    try:
        return _reached_in_all(path) if path.exists() else None
    except OSError as error:
        raise RecordError(f"cannot read the journal {path}: {error.strerror}") from error


def _reached_in_all(path: Path) -> Reached | None:
    files = [segment_path(path, number) for number in segment_numbers(path)]
    found: Reached | None = None
    n_behind = 0
    for file in (path, *reversed(files)):  # a part may go on over several files
        found, n = _reached(file)
        n_behind += n
        if found is not None:
            return replace(found, number=found.number + n_behind)
    return None


def _reached(file: Path) -> tuple[Reached | None, int]:
    """Return what the last part of one file says, and how many entries stand behind it."""
    found: Reached | None = None
    n = 0
    for entry in _entries(file):
        event = entry.event
        if event["type"] == "part":
            past = frozenset() if found is None else found.past | {found.journal}
            found = Reached(event["journal"], event["run"], event["first"], past - {event["journal"]})
            n = 0
        elif event["type"] not in _NOT_ENTRIES:
            n += 1
    return found, n


def _entries(file: Path) -> Iterator[JournalEntry]:
    with file.open("rb") as stream:
        seq, prev, _ = start_of(stream.readline())
        stream.seek(0)
        for item in check_lines(stream, seq=seq, prev=prev):
            if not isinstance(item, JournalEntry):  # whoever opens the file for writing says what is wrong
                return
            yield item


@dataclass
class JournalFile:
    """One bed's journal.

    Every method raises RecordError where the disk does not take something; what it has taken it knows, and the same
    part may be given again.
    """

    path: Path
    rotate_bytes: int | None = None
    _journal: Journal | None = None
    _reached: Reached | None = field(default=None)
    _is_read: bool = False

    def write(self, part: JournalPart, *, published_s: float) -> None:
        """Write what is new of a part."""
        if not self._is_read:
            self._reached, self._is_read = reached(self.path), True
        at = self._reached
        if at is not None and part.journal in at.past:
            return
        due = at.number if at is not None and at.journal == part.journal else 0
        new = part.entries[max(0, due - part.first) :]
        if not new:
            return
        journal = self._opened(part)
        first = max(due, part.first)
        if first > due:
            self._note_lost(journal, first - due)
        head: dict[str, Any] = {"journal": part.journal, "run": part.run, "first": first}
        journal.append({"type": "part", **head, "published_s": published_s})
        past = frozenset() if at is None else (at.past | {at.journal}) - {part.journal}
        for number, entry in enumerate(new, first + 1):
            journal.append(entry)
            self._reached = Reached(part.journal, part.run, number, past)

    def sync(self) -> None:
        """Bring all to the disk."""
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Bring all to the disk and unlock; safe to call twice."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _opened(self, part: JournalPart) -> Journal:
        """Return the journal, opened again where another serves the bed: so it says from where on."""
        if self._journal is not None and self._reached is not None and self._reached.run != part.run:
            self.close()
        if self._journal is None:
            facts = dict(part.facts)
            if part.first > 0 or (self._reached is not None and self._reached.journal == part.journal):
                facts["restored"] = True  # the file goes on in the midst of a run
            self._journal = Journal(self.path, facts=facts, rotate_bytes=self.rotate_bytes)
        return self._journal

    def _note_lost(self, journal: Journal, n: int) -> None:
        """Say that the bus has forgotten entries before anyone took them."""
        journal.append({"type": "dropped", "events": n})
