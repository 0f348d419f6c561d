"""The chain of entries: how a line is made, and how it is checked. No files here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

JOURNAL_FORMAT: Final = 1
GENESIS: Final = "0" * 64
"""`prev` of the header."""

_FIRST_BYTES: Final = b'{"event":{"facts":{'
"""How every file begins: the keys of its first entry are sorted."""

_KEYS: Final = ({"seq", "prev", "event", "hash"}, {"seq", "prev", "event", "hash", "wall_s"})

# Made once: json.dumps with options builds an encoder for every call.
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class JournalEntry:
    """One entry. `wall_s` is the writer's wall clock (Unix seconds), where it gave one."""

    seq: int
    event: Mapping[str, Any]
    hash: str
    wall_s: float | None


@dataclass(frozen=True)
class Bad:
    """The first bad line of a file, counted from 0; `torn` is an unfinished last line."""

    line: int
    reason: str
    torn: bool


def make_line(
    event: Mapping[str, Any], *, seq: int, prev: str, wall_s: float | None = None
) -> tuple[bytes, str]:
    """Return the line of an entry, and its hash.

    The hash is over the line without itself, so it is spliced into the bytes that were hashed: `"hash"` sorts
    right after `"event"`.
    """
    head = '{"event":' + _encode(event)
    wall = "" if wall_s is None else f',"wall_s":{_encode(wall_s)}'
    tail = f',"prev":"{prev}","seq":{seq}{wall}}}'
    digest = hashlib.sha256((head + tail).encode("ascii")).hexdigest()
    return f'{head},"hash":"{digest}"{tail}\n'.encode("ascii"), digest


def check_lines(stream: BinaryIO, *, seq: int = 0, prev: str = GENESIS) -> Iterator[JournalEntry | Bad]:
    """Yield the good entries of one file until its end or its first bad line, which is the last thing yielded.

    Parameters
    ----------
    stream
        Read from where it stands, the file's beginning.
    seq, prev
        What the first entry must carry.
    """
    line_no = 0
    while line := stream.readline():
        if not line.endswith(b"\n"):
            yield _unfinished(line, line_no=line_no)
            return
        item = _check_line(line, seq=seq, prev=prev, line_no=line_no)
        yield item
        if isinstance(item, Bad):
            return
        seq, prev, line_no = seq + 1, item.hash, line_no + 1


def start_of(line: bytes) -> tuple[int, str, int]:
    """Return `seq` and `prev` with which a file begins, and its number: how many files come before it.

    Read off its first line, which `check_lines` has yet to check; (0, GENESIS, 0) if it says nothing else.
    """
    try:
        entry = json.loads(line)
        seq, prev, event = entry["seq"], entry["prev"], entry["event"]
        number = event["segment"] if event["type"] == "continued" else 0
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0, GENESIS, 0
    if not (type(seq) is type(number) is int and type(prev) is str and seq > 0 and number > 0):
        return 0, GENESIS, 0
    return seq, prev, number


def _unfinished(line: bytes, *, line_no: int) -> Bad:
    """Tell a torn line from a file that never was a journal, which must not be moved aside."""
    if line_no == 0 and not (line.startswith(_FIRST_BYTES) or _FIRST_BYTES.startswith(line)):
        return Bad(line_no, "not a journal", torn=False)
    reason = "the last line is unfinished (power loss?); opening it for writing recovers"
    return Bad(line_no, reason, torn=True)


def _check_line(line: bytes, *, seq: int, prev: str, line_no: int) -> JournalEntry | Bad:
    try:
        entry = json.loads(line)
        reason = _fault(line, entry, seq=seq, prev=prev) or _header_fault(entry["event"], seq, line_no)
    except (ValueError, RecursionError):
        reason = "not a line of JSON"
    if reason is not None:
        where = f"it does not follow the file before it ({reason})" if line_no == 0 and seq > 0 else reason
        return Bad(line_no, where, torn=False)
    return JournalEntry(seq, entry["event"], entry["hash"], entry.get("wall_s"))


def _header_fault(event: Mapping[str, Any], seq: int, line_no: int) -> str | None:
    if line_no > 0:
        return None
    if seq > 0 and event.get("type") != "continued":
        return "a file of a journal must begin with its header"
    if (seq == 0 and event.get("type") != "journal") or event.get("format") != JOURNAL_FORMAT:
        return f"not a journal of format {JOURNAL_FORMAT}"
    return None


def _fault(line: bytes, entry: Any, *, seq: int, prev: str) -> str | None:
    """Return what is wrong with a line that parses, if anything."""
    if isinstance(entry, dict) and isinstance(entry.get("event"), dict):
        # One comparison checks form, number, chain and hash; the rest is for naming what is wrong.
        made, _ = make_line(entry["event"], seq=seq, prev=prev, wall_s=entry.get("wall_s"))
        if made == line:
            return None
    # A line that parses to the same but is written otherwise (a space, 1e0 for 1.0) was edited as well.
    if _encode(entry).encode("ascii") + b"\n" != line:
        return "not written in canonical form"
    if not isinstance(entry, dict) or set(entry) not in _KEYS or not isinstance(entry["event"], dict):
        return "not an entry of a journal"
    if type(entry["seq"]) is not int or entry["seq"] != seq:
        return f"its number is {entry['seq']}, expected {seq}: lines are missing or were added"
    if entry["prev"] != prev:
        return "it does not follow the line before it"
    return "its content does not have its hash"
