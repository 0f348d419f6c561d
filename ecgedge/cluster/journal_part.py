"""A part of a bed's journal on its way to the disk: entries that a checkpoint knows, as one message of the bus.

    {"bed":"icu-3","journal":"9f1c...","run":"77ab...","first":120,"facts":{...},"entries":[{...},{...}]}

`journal` names the bed from its first sample on, whoever serves it; `run` is who serves it, and `facts` are those with
which a journal on one machine opens. Entries are counted from the bed's first: since nothing is told that is not in a
checkpoint, the same number is the same entry, whoever tells it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ecgedge.wards.config import check_name


@dataclass(frozen=True)
class JournalPart:
    """See the module's head."""

    bed: str
    journal: str
    run: str
    first: int
    facts: Mapping[str, Any]
    entries: tuple[Mapping[str, Any], ...]

    def to_json(self) -> str:
        """Return it as the bus has it."""
        plain = {**vars(self), "entries": list(self.entries)}
        return json.dumps(plain, separators=(",", ":"), allow_nan=False)


def read_part(message: bytes) -> JournalPart | None:
    """Read a message; None if it is no part of a journal. Never raises."""
    try:
        plain = dict(json.loads(message))
        part = JournalPart(**{**plain, "entries": tuple(plain["entries"])})
        check_name(part.bed)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = (part.journal, part.run)
    is_one = all(isinstance(text, str) for text in texts) and type(part.first) is int and part.first >= 0
    maps = (part.facts, *part.entries)
    return part if is_one and all(isinstance(x, dict) for x in maps) and _have_types(part) else None


def _have_types(part: JournalPart) -> bool:
    return all(isinstance(entry.get("type"), str) for entry in part.entries)


@dataclass
class Entries:
    """What a bed's journal is to be given, as its station's `Record`; it waits for the next checkpoint.

    Attributes
    ----------
    bed, journal, run, facts
        See `JournalPart`.
    number
        Of the next entry that goes into a part.
    refused
        What whoever writes the journal says is wrong with it; None if nothing is.
    behind
        What keeps all journals from being written, as the bed's node sees it; None if nothing does.
    """

    bed: str
    journal: str
    run: str
    facts: Mapping[str, Any]
    number: int = 0
    refused: str | None = None
    behind: str | None = None
    _waiting: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """How many entries no checkpoint knows."""
        return len(self._waiting)

    @property
    def why(self) -> str | None:
        """What is wrong with the journal; None if nothing is."""
        return self.behind if self.refused is None else self.refused

    def append(self, event: Mapping[str, Any]) -> None:
        """Take an entry."""
        self._waiting.append(event)

    def take(self) -> JournalPart | None:
        """Return what waits, for the checkpoint that is made now; None if nothing does."""
        if not self._waiting:
            return None
        part = JournalPart(self.bed, self.journal, self.run, self.number, self.facts, tuple(self._waiting))
        self.number += len(self._waiting)
        self._waiting = []
        return part

    def close(self) -> None:
        """Have nothing to close: the file is another's."""
