"""One stream as its bed told it: every estimate and feed event, but no alarm.

No alarm policy changes them, so they are computed once and kept; what a policy makes of them is replayed. A course
is kept as gzipped JSON lines, floats exact.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge import __version__
from ecgedge.bundle import Bundle
from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError, RecordError, UsageError
from ecgedge.events import Estimate, Event, FeedEvent
from ecgedge.replay.streams import Opened
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.stream import Bed, Ward
from ecgedge.stream.inbox import INBOX_S
from ecgedge.stream.variants import VariantChoice

COURSE_FORMAT: Final = 2
SETTINGS_FILE: Final = "settings.json"
COURSES_FOLDER: Final = "estimates"
PIECE_S: Final = INBOX_S / 4
"""Of a stream given to a ward at once; no estimate depends on it."""

Fact: TypeAlias = Estimate | FeedEvent
_FACTS: Final[Mapping[str, type[Estimate] | type[FeedEvent]]] = {
    "estimate": Estimate,
    "feed": FeedEvent,
}


@dataclass(frozen=True)
class CourseHead:
    """What is known of a stream beside its facts: see `Opened`."""

    format: int
    key: str
    mode: Mode
    duration_s: float
    latent_mmhg: tuple[float, ...] | None
    leads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """A stream's facts, in the order in which the bed told them."""

    head: CourseHead
    facts: tuple[Fact, ...]


def run_beds(streams: Sequence[Opened], bundle: Bundle, variants: VariantChoice) -> list[Course]:
    """Play streams side by side through the beds of a ward, which says of each what its bed would say alone.

    A few cost a good deal less together than one after another.

    Raises
    ------
    RecordError
        If a stream is shorter than one window.
    """
    # Nobody waits for what is told: whole hops at a time.
    ward, facts = Ward(block_s=bundle.manifest.hop_s), {opened.key: list[Fact]() for opened in streams}
    for opened in streams:
        require_a_window(opened, bundle)
        bed = Bed(bundle, leads=opened.leads, rate_hz=opened.rate_hz, variants=variants, mode=opened.mode)
        ward.add(opened.key, bed)
    for key, events in _told(ward, streams):
        facts[key] += [e for e in events if isinstance(e, Estimate | FeedEvent)]
    return [Course(_head(opened), tuple(facts[opened.key])) for opened in streams]


def _told(ward: Ward, streams: Sequence[Opened]) -> Iterator[tuple[str, list[Event]]]:
    """Play streams into the beds of their keys, in step with each other, to their ends."""
    for pieces in zip_longest(*(_pieces(opened) for opened in streams)):
        for opened, piece in zip(streams, pieces, strict=True):
            if piece is not None:
                ward.push(opened.key, piece[1], t_s=piece[0])
        while said := ward.step():
            yield from said.items()
    for opened in streams:
        yield opened.key, ward.remove(opened.key)


def require_a_window(opened: Opened, bundle: Bundle) -> None:
    """Raise RecordError if a stream is shorter than one window."""
    if opened.duration_s < bundle.manifest.window_s:
        raise RecordError(
            f"{opened.duration_s:.2f} s is shorter than the model's window of {bundle.manifest.window_s:g} s; "
            "leave this recording out"
        )


def _pieces(opened: Opened) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Cut a stream's chunks so that what waits in a ward never gets too much."""
    step = max(1, round(PIECE_S * opened.rate_hz))
    for t_s, samples_mv in opened.chunks:
        for k in range(0, samples_mv.shape[1], step):
            yield t_s + k / opened.rate_hz, samples_mv[:, k : k + step]


def _head(opened: Opened) -> CourseHead:
    return CourseHead(
        COURSE_FORMAT, opened.key, opened.mode, opened.duration_s, opened.latent_mmhg, opened.leads
    )


def to_lines(course: Course) -> str:
    """Write a course as JSON lines: its head, then a fact a line."""
    lines = [json.dumps(to_plain(course.head))]
    lines += [json.dumps({"type": fact.type, **to_plain(fact)}) for fact in course.facts]
    return "\n".join(lines) + "\n"


def from_lines(text: str) -> Course:
    """Read what `to_lines` wrote.

    Raises
    ------
    ValueError
        If it did not.
    """
    first, *others = text.splitlines()
    facts: list[Fact] = []
    for line in others:
        plain = json.loads(line)
        facts.append(_fact(plain))
    return Course(from_plain(CourseHead, json.loads(first)), tuple(facts))


def _fact(plain: dict[str, Any]) -> Fact:
    kind = _FACTS.get(plain.pop("type", ""))
    if kind is None:
        raise SchemaError("expected a fact of type estimate or feed")
    return from_plain(kind, plain)


def course_sha256(course: Course) -> str:
    """Return the SHA-256 of a course's lines."""
    return sha256(to_lines(course).encode()).hexdigest()


class CourseStore:
    """A folder of courses of one bundle on the same engines: what a killed run left is used by the next.

    Parameters
    ----------
    folder
        Made if it is not there.
    bundle, engines
        Whose estimates it holds, and which runtime serves each variant: another one rounds differently.

    Raises
    ------
    UsageError
        If the folder holds estimates of something else.
    """

    def __init__(self, folder: Path, *, bundle: Bundle, engines: Mapping[str, str]) -> None:
        self._folder = folder
        wanted = {
            "format": COURSE_FORMAT,
            "ecgedge": __version__,
            "bundle": bundle.id,
            "engines": dict(engines),
        }
        (folder / COURSES_FOLDER).mkdir(parents=True, exist_ok=True)
        file = folder / SETTINGS_FILE
        if not file.exists():
            _write(file, (json.dumps(wanted, indent=1) + "\n").encode())
            return
        _require_same(folder, _settings(file), wanted)

    def find(self, key: str) -> Course | None:
        """Return the course of `key`, None if it is not there.

        Raises
        ------
        EcgedgeError
            If the file that holds it is damaged.
        """
        file = self._file(key)
        return _load(file, key) if file.exists() else None

    def keep(self, course: Course) -> None:
        """Write a course."""
        # The same bytes for the same course: no time, no name in the gzip header.
        _write(
            self._file(course.head.key),
            gzip.compress(to_lines(course).encode(), compresslevel=6, mtime=0),
        )

    def _file(self, key: str) -> Path:
        return self._folder / COURSES_FOLDER / f"{key}.jsonl.gz"


def _settings(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise EcgedgeError(
            f"{file} is damaged ({error}); delete the folder, or give another --work"
        ) from error
    if not isinstance(plain, dict):
        raise EcgedgeError(f"{file} is no list of settings; delete the folder, or give another --work")
    return plain


def _require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UsageError(
                f"{folder} holds estimates made with {name} {found.get(name)!r}, not {value!r}: they cannot be "
                "mixed; give another --work, or delete the folder"
            )


def _load(file: Path, key: str) -> Course:
    try:
        course = from_lines(gzip.decompress(file.read_bytes()).decode())
    except (ValueError, EOFError, gzip.BadGzipFile, OSError) as error:
        raise EcgedgeError(f"{file} is damaged ({error}); delete it, and it is made anew") from error
    if course.head.key != key:
        raise EcgedgeError(f"{file} holds {course.head.key!r}; delete it, and it is made anew")
    return course


def _write(file: Path, content: bytes) -> None:
    """Write whole or not at all; the process id keeps two runs apart."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(file)
