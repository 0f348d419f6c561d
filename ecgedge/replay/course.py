"""One stream as its bed told it: every estimate and feed event, but no alarm.

No alarm policy changes them, so they are computed once and kept; what a policy makes of them is replayed. A course
is kept as gzipped JSON lines, floats exact.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

from ecgedge import __version__
from ecgedge.bundle import Bundle
from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError, RecordError, UsageError
from ecgedge.events import Estimate, FeedEvent
from ecgedge.replay.streams import Opened
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.stream import Bed
from ecgedge.stream.variants import VariantChoice

COURSE_FORMAT: Final = 2
SETTINGS_FILE: Final = "settings.json"
COURSES_FOLDER: Final = "estimates"

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


def run_bed(opened: Opened, bundle: Bundle, variants: VariantChoice) -> Course:
    """Play a stream through a bed.

    Raises
    ------
    RecordError
        If the stream is shorter than one window.
    """
    if opened.duration_s < bundle.manifest.window_s:
        raise RecordError(
            f"{opened.duration_s:.2f} s is shorter than the model's window of {bundle.manifest.window_s:g} s; "
            "leave this recording out"
        )
    bed = Bed(bundle, leads=opened.leads, rate_hz=opened.rate_hz, variants=variants, mode=opened.mode)
    facts: list[Fact] = []
    for t_s, samples_mv in opened.chunks:
        facts += [e for e in bed.push(samples_mv, t_s=t_s) if isinstance(e, Estimate | FeedEvent)]
    head = CourseHead(
        COURSE_FORMAT, opened.key, opened.mode, opened.duration_s, opened.latent_mmhg, opened.leads
    )
    return Course(head, tuple(facts))


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

    def get(self, key: str, make: Callable[[], Course]) -> Course:
        """Return the course of `key`, made and kept if it is not there.

        Raises
        ------
        EcgedgeError
            If the file that holds it is damaged.
        """
        file = self._folder / COURSES_FOLDER / f"{key}.jsonl.gz"
        if file.exists():
            return _load(file, key)
        course = make()
        # The same bytes for the same course: no time, no name in the gzip header.
        _write(file, gzip.compress(to_lines(course).encode(), compresslevel=6, mtime=0))
        return course


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
