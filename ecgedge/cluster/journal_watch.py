"""Whether the journals are written: who writes them says on the bus how far, and every node looks.

What counts is the disk, not what was read off the bus. So an end, a kill, a disk that is full or hangs and a load that
is too much all look the same here: an entry that is not on the disk grows old.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from ecgedge.cluster.bus import JOURNAL, Bus, BusError, Kept
from ecgedge.cluster.stream_reader import Mark, newest
from ecgedge.schema import from_plain, to_plain

STATE: Final = "journal"
PATIENCE_S: Final = 60.0
"""Entries of the journals may wait so long for a disk by default: above a restart of who writes them."""

SHORTEST_PATIENCE_S: Final = 15.0
"""Who writes brings all to the disk each 5 s and nodes look each 2 s: from here up nothing is told of a calm ward."""

_START: Final = "start ecgedge cluster journal"


@dataclass(frozen=True)
class Written:
    """What whoever writes the journals says of itself.

    Attributes
    ----------
    mark
        Up to where the stream is on the disk, but for beds that were told that theirs is not.
    why
        What keeps the rest from it, where that is known.
    """

    mark: Mark
    why: str | None = None

    def to_bytes(self) -> bytes:
        """Return it as the bus keeps it."""
        return json.dumps(to_plain(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Written | None:
        """Read what `to_bytes` gave; None if it is none."""
        try:
            return from_plain(cls, json.loads(data))
        except (ValueError, RecursionError):  # SchemaError is one
            return None


class _Seen(NamedTuple):
    """At `at_s` the stream had come to the sequence `last`: so what is up to there is older."""

    at_s: float
    last: int


class JournalWatch:
    """What a node knows of the journals.

    Time that the node did not watch, since the bus was away or the node stood still, counts for nobody: no entry is
    held to be old that this clock has not seen grow old.

    Parameters
    ----------
    patience_s
        So long an entry may wait; 0: nobody is meant to write journals.

    Attributes
    ----------
    why
        What keeps entries from the disk, and what to do; None if nothing does. It goes once what waits is younger
        than half of the patience, so that it does not come and go at its edge.
    is_known
        Whether `why` is more than a beginning.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self.why: str | None = None
        self.is_known = patience_s == 0.0
        self._seen: deque[_Seen] = deque()
        self._made = ""
        self._revision: int | None = None
        self._renewed_s = self._looked_s = -math.inf

    async def look(self, bus: Bus) -> None:
        """Look at the stream and at who writes it; where the bus does not say, nothing new is known."""
        if self._patience_s == 0.0:
            return
        try:
            at, kept = await newest(bus, JOURNAL), await bus.state(STATE)
        except BusError:
            return
        self.heard(time.monotonic(), at, kept)

    def heard(self, now_s: float, at: Mark, kept: Kept | None) -> None:
        """Take that at a time of any steady clock the stream has come to `at`, and its writer said `kept`."""
        if at.made != self._made or now_s - self._looked_s > self._patience_s / 2.0:
            self._seen.clear()
        if kept is not None and kept.revision != self._revision:
            self._revision, self._renewed_s = kept.revision, now_s
        self._made, self._looked_s = at.made, now_s
        written = None if kept is None else Written.from_bytes(kept.data)
        after = written.mark.after if written is not None and written.mark.made == at.made else 0
        moved, waited_s = self._age(now_s, at.after, after)
        if waited_s > self._patience_s:
            self.why, self.is_known = self._reason(now_s, kept, written), True
        elif moved and waited_s < self._patience_s / 2.0:
            self.why, self.is_known = None, True

    def _age(self, now_s: float, last: int, after: int) -> tuple[bool, float]:
        """Return whether anything came to the disk, and for how many seconds the oldest of the rest has been seen."""
        seen, moved = self._seen, after >= last
        while seen and seen[0].last <= after:
            seen.popleft()
            moved = True
        if last > max(after, seen[-1].last if seen else 0):
            seen.append(_Seen(now_s, last))
        while len(seen) > 1 and now_s - seen[1].at_s > self._patience_s:
            seen.popleft()  # the next one is too old as well, so this one decides nothing
        return moved, now_s - seen[0].at_s if seen else 0.0

    def _reason(self, now_s: float, kept: Kept | None, written: Written | None) -> str:
        if kept is None:
            return f"nobody writes journals; {_START}, or serve with --journal-patience-s 0"
        if now_s - self._renewed_s > self._patience_s / 2.0:
            return f"nobody writes the journals any more; {_START} again"
        if written is None:
            return f"how the journals fare cannot be read; {_START} of the nodes' version"
        if written.mark.made != self._made:
            return f"who writes the journals reads a stream that is gone; {_START} again"
        slow = "look at the disk and the load of ecgedge cluster journal"
        return f"entries have waited longer than {self._patience_s:g} s; {written.why or slow}"
