"""What a bed says, until it goes to its outbox: lines for EVENTS, and entries for its journal."""

from __future__ import annotations

from ecgedge.cluster.checkpoint import JournalPlace, Message
from ecgedge.cluster.journal_part import Entries
from ecgedge.ecg import Mode
from ecgedge.events import Event, event_to_json
from ecgedge.wards.lines import URGENT


class Said:
    """A sink of one bed.

    Attributes
    ----------
    urgent
        Whether a line waits that may be told only behind a checkpoint that knows it.
    entries
        Of its journal; None as long as there is no bed.
    """

    def __init__(self, bed: str) -> None:
        self._bed = bed
        self._mode: Mode | None = None
        self._lines: list[Message] = []
        self.urgent = False
        self.entries: Entries | None = None

    def begin(self, entries: Entries, mode: Mode) -> None:
        """Take that there is a bed, of this mode."""
        self.entries, self._mode = entries, mode

    def say(self, line: str) -> None:
        """Take a line."""
        self._lines.append(Message("events", line, self._mode))

    async def send(self, event: Event) -> None:
        """Take an event."""
        self.say(f'{{"bed":"{self._bed}",' + event_to_json(event)[1:])
        self.urgent = self.urgent or event.type in URGENT

    async def close(self) -> None:
        """Have nothing to close."""

    def take(self) -> tuple[Message, ...]:
        """Return the lines; the entries wait on: only what a checkpoint knows has its number for good."""
        lines, self._lines, self.urgent = tuple(self._lines), [], False
        return lines

    def take_all(self) -> tuple[tuple[Message, ...], JournalPlace]:
        """Return all for the checkpoint that is made now, and where the journal goes on behind it.

        The entries come first: an alarm is on its way to the journal before it is told.

        Raises
        ------
        ValueError
            If there is no bed.
        """
        if self.entries is None:
            raise ValueError(f"bed {self._bed} has no journal before its first samples")
        part = self.entries.take()
        parts = () if part is None else (Message("journal", part.to_json()),)
        return (*parts, *self.take()), JournalPlace(
            self.entries.journal, self.entries.number, self.entries.refused
        )
