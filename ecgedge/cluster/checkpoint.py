"""What is kept of a bed on the bus: its snapshot, how far it has read, and what it said that may not be told yet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from ecgedge.ecg import Mode
from ecgedge.errors import RecordError
from ecgedge.pace import Quickest
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.stream import BedSnapshot

_MAGIC: Final = b"ecgedge checkpoint 4\n"
_DIGEST: Final = 64


@dataclass(frozen=True)
class Position:
    """How far a bed has read.

    All messages up to `sequence` were taken whole, and the first `partial` samples of the one that is `partial_of`:
    a bed takes whole hops, and a message may end elsewhere. The sequences are the stream's.
    """

    sequence: int = 0
    partial_of: int = 0
    partial: int = 0


@dataclass(frozen=True)
class Message:
    """A text for a stream of the bus: a line of EVENTS, or a part of a journal; `mode` is the bed's, once known."""

    to: Literal["events", "journal"]
    text: str
    mode: Mode | None = None


@dataclass(frozen=True)
class JournalPlace:
    """Where a bed's journal goes on: which it is, and the number of its next entry.

    `refused` is what its writer says is wrong with it: the writer does not say it to the bed's next owner again.
    """

    journal: str
    number: int
    refused: str | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A bed between two hops.

    Attributes
    ----------
    position
        What its snapshot has read.
    messages
        What it has said up to here and was not known to be on the bus: whoever restores it tells these again.
    snapshot
        All that the bed knows.
    owner
        Whoever serves it, named at random: two nodes that know the same must not take each other's for their own.
    journal
        Where its journal goes on, behind those of `messages`.
    quickest
        Of its live feed's samples, by the bus's clock; None where none came.
    published_s
        When the last samples that came were published, by the bus's clock.
    """

    position: Position
    messages: tuple[Message, ...]
    snapshot: BedSnapshot
    owner: str
    journal: JournalPlace
    quickest: Quickest | None = None
    published_s: float = 0.0

    def to_bytes(self) -> bytes:
        """Return it as the bus keeps it."""
        head = {
            "position": to_plain(self.position),
            "messages": to_plain(self.messages),
            "journal": to_plain(self.journal),
            "owner": self.owner,
            "quickest": self.quickest,
            "published_s": self.published_s,
        }
        body = json.dumps(head, separators=(",", ":")).encode() + b"\n" + self.snapshot.to_bytes()
        return _MAGIC + hashlib.sha256(body).hexdigest().encode() + body

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> Checkpoint:
        """Read what `to_bytes` gave.

        Raises
        ------
        RecordError
            If it is damaged, or of another format.
        """
        start = len(_MAGIC) + _DIGEST
        body = data[start:]
        digest = hashlib.sha256(body).hexdigest().encode()
        if not data.startswith(_MAGIC) or data[len(_MAGIC) : start] != digest:
            raise RecordError(f"{source} is no checkpoint of this version, or damaged")
        head, _, snapshot = body.partition(b"\n")
        try:
            plain: dict[str, Any] = json.loads(head)
            position = from_plain(Position, plain["position"], where="position")
            messages = tuple(from_plain(Message, one, where="message") for one in plain["messages"])
            journal, owner = from_plain(JournalPlace, plain["journal"], where="journal"), str(plain["owner"])
            quickest = None if plain["quickest"] is None else Quickest(*map(float, plain["quickest"]))
            published_s = float(plain["published_s"])
        except (SchemaError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordError(f"{source} is no checkpoint: {error}") from error
        bed = BedSnapshot.from_bytes(snapshot, source=source)
        return cls(position, messages, bed, owner, journal, quickest, published_s)
