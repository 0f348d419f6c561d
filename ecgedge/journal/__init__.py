"""The journal: an append-only log of events in which a lost, added or altered line shows.

One entry a line, as canonical JSON (sorted keys, no spaces, ASCII):

    {"event":{...},"hash":"...","prev":"...","seq":7}

`hash` is the SHA-256 over the canonical JSON of the rest of the entry, `prev` the hash of the entry before
(64 zeros at first), `seq` counts from 0; `wall_s` stands where the caller gave a wall-clock time. Each opening
writes one entry with the caller's facts of that run (bundle id, policy, feed, mode): "journal" is the header,
entry 0, with the format version; "reopened" continues; "recovered" continues after a torn line.

A journal that rotates is a chain over several files: NAME.0000, NAME.0001, ... are closed, NAME is written to.
Every file but the first begins with an entry "continued", which names the file before it and its last hash, and
repeats the facts. `seq` and `prev` run on: the files put together in order are one journal again.

What it does not show: lines cut off the end exactly at a line's edge, and a file written anew from its first
changed line on. The chain has no key: keep `JournalReport.head` elsewhere to find these too.

The file is locked while it is open, by flock: POSIX systems only. To rotate, the file system must know hard
links; where it does not, the journal says so in an entry "not_rotated" and grows on.
"""

from __future__ import annotations

from ecgedge.journal.backlog import Backlog, Record
from ecgedge.journal.chain import GENESIS, JOURNAL_FORMAT, JournalEntry
from ecgedge.journal.reader import JournalReport, read_journal, verify_journal
from ecgedge.journal.writer import Journal

__all__ = [
    "GENESIS",
    "JOURNAL_FORMAT",
    "Backlog",
    "Journal",
    "JournalEntry",
    "JournalReport",
    "Record",
    "read_journal",
    "verify_journal",
]
