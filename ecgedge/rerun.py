"""Run a journal's stream again and compare: the same samples must give the same events, bit for bit.

A run is what stands between two openings of the journal. Its facts name the bundle and hold policy, leads and rate;
its inputs (`ecgedge.inputs`) tell what reached the bed beside the samples, and after how many. The samples come from
a feed, which must deliver those that the bed had, with the same holes between them; into which chunks they are cut
is all one. Not compared: latencies, which are wall time, and in the summary the journal's name and dropped lines.

What cannot be run again is said and not guessed: a run without the facts (written by an earlier version), or one of
which the disk did not take every entry.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

from ecgedge.bundle import Bundle
from ecgedge.ecg import Mode
from ecgedge.errors import BundleError, RecordError, UsageError
from ecgedge.events import Event, event_to_dict
from ecgedge.feeds import Chunk, Feed
from ecgedge.inputs import Input, apply, time_of
from ecgedge.journal import JournalEntry, read_journal, verify_journal
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.stream import Bed
from ecgedge.stream.variants import Form, VariantChoice

LATER_S: Final = 60.0
"""Of a run that was cut off, how long the stream goes on behind the journal's last event."""

_OPENINGS: Final = ("journal", "reopened", "recovered")
_NOT_EVENTS: Final = (*_OPENINGS, "continued", "not_rotated", "part", "input")
_OF_WALL_CLOCK: Final = {
    "estimate": ("latency_ms",),
    "summary": ("latency_ms", "journal", "dropped_commands"),
}


@dataclass(frozen=True)
class RunFacts:
    """What must be known of a bed to build it again; the rest of an opening entry's facts is for people."""

    bundle: str
    policy: AlarmPolicy
    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    feed: str
    runtimes: Mapping[str, str]
    form: Form = "window"
    restored: bool = False


@dataclass
class Run:
    """One run in a journal: the facts of its opening, the numbers of its entries, and its inputs in order.

    `last_s` is the stream time of its last event, None without one; `ended` says that it has its summary.
    """

    facts: Mapping[str, Any]
    first_seq: int
    inputs: Sequence[Input]
    end_seq: int = 0
    last_s: float | None = None
    ended: bool = False


@dataclass(frozen=True)
class Difference:
    """The first event that is not equal, as JSON; None on a side that has no more."""

    seq: int | None
    journal: str | None
    replay: str | None


@dataclass(frozen=True)
class Comparison:
    """How a run compares: events equal before the first difference, if any.

    `later` counts the replay's events behind the end of a run that was cut off, over `LATER_S` at most.
    """

    equal: int
    difference: Difference | None
    later: int


def facts_of_bed(
    bed: Bed, feed_uri: str, runtimes: Mapping[str, str], *, form: Form = "window", restored: bool = False
) -> dict[str, Any]:
    """Return the facts of a run, for the journal's opening entry; `restored` if it goes on from a saved state."""
    facts = RunFacts(
        bed.bundle.id, bed.policy, bed.leads, bed.rate_hz, bed.mode, feed_uri, runtimes, form, restored
    )
    plain: dict[str, Any] = to_plain(facts)
    return plain


def find_runs(path: str | Path) -> list[Run]:
    """Return the runs of a journal.

    Raises
    ------
    RecordError
        If the journal cannot be read or is damaged, or an input is none that this version knows. An unfinished
        last line, as a kill or a power loss leaves it, is passed over.
    """
    runs: list[Run] = []
    inputs: list[Input] = []
    for entry in _entries(path):
        event, kind = entry.event, entry.event["type"]
        if kind in _OPENINGS:
            inputs = []
            runs.append(Run(event["facts"], entry.seq, inputs))
        run = runs[-1]
        run.end_seq = entry.seq + 1
        if kind == "input":
            inputs.append(_input(event, path))
        elif kind not in _NOT_EVENTS:
            run.last_s, run.ended = event.get("t_s", run.last_s), kind == "summary"
    return runs


async def compare_run(
    path: str | Path, run: Run, *, bundle: Bundle, feed: Feed, variants: VariantChoice | None = None
) -> Comparison:
    """Run a bed as `run` had it over the samples of `feed`, and compare its events with the journal's.

    Raises
    ------
    RecordError
        If the facts of the run do not tell what bed it was, it went on from a saved state, its bundle was changed
        in the middle, or the journal lacks entries within it.
    BundleError
        If the bundle is another.
    UsageError
        If the feed has other leads or another rate.
    """
    facts = run_facts(run)
    bed = _bed(facts, bundle, feed, variants)
    wanted = _wanted(path, run)
    equal, later = 0, 0
    async for event in _run_again(bed, feed, run.inputs):
        made = _text(event_to_dict(event))
        seq, want = next(wanted, (None, None))
        if want == made:
            equal += 1
        elif want is not None:
            return Comparison(equal, Difference(seq, want, made), 0)
        elif _is_far_behind(event, run):
            break
        else:
            later += 1
    seq, want = next(wanted, (None, None))
    return Comparison(equal, None if want is None else Difference(seq, want, None), later)


def run_facts(run: Run) -> RunFacts:
    """Read what bed a run had.

    Raises
    ------
    RecordError
        If its facts do not say it.
    """
    names = [field.name for field in fields(RunFacts)]
    try:
        return from_plain(RunFacts, {n: run.facts[n] for n in names if n in run.facts})
    except SchemaError as error:
        raise RecordError(
            f"the run that begins at entry {run.first_seq} cannot be run again ({error}): the journal was "
            "written by a version of ecgedge with other facts"
        ) from error


def _bed(facts: RunFacts, bundle: Bundle, feed: Feed, variants: VariantChoice | None) -> Bed:
    if facts.restored:
        raise RecordError(
            "the journal's run went on from a saved state, which is not in the journal: it cannot be run again"
        )
    if bundle.id != facts.bundle:
        raise BundleError(
            f"the journal's run had bundle {facts.bundle}, but {bundle.source} is {bundle.id}; give --bundle"
        )
    info = feed.info
    if (info.leads, info.rate_hz) != (facts.leads, facts.rate_hz):
        raise UsageError(
            f"the journal's run had leads {','.join(facts.leads)} at {facts.rate_hz:g} Hz, but {info.uri} has "
            f"{','.join(info.leads)} at {info.rate_hz:g} Hz"
        )
    return Bed(
        bundle,
        leads=facts.leads,
        rate_hz=facts.rate_hz,
        variants=variants,
        policy=facts.policy,
        mode=facts.mode,
    )


async def _run_again(bed: Bed, feed: Feed, inputs: Sequence[Input]) -> AsyncIterator[Event]:
    """Yield the bed's events, each input given after as many samples as it was given at first."""
    waiting, samples = deque(inputs), 0
    ends = bool(inputs) and inputs[-1].call == "end"
    async for chunk in feed:
        for part in _parts(chunk, [given.samples - samples for given in waiting], feed.info.rate_hz):
            for event in _give(bed, waiting, samples):
                yield event
            if ends and not waiting:
                return
            for event in bed.push(part.samples_mv, t_s=part.t_s):
                yield event
            samples += part.samples_mv.shape[1]
    for event in _give(bed, waiting, samples):
        yield event


def _give(bed: Bed, waiting: deque[Input], samples: int) -> Iterator[Event]:
    """Give what was given after so many samples."""
    while waiting and waiting[0].samples == samples:
        given = waiting.popleft()
        if given.call == "end":
            yield bed.summary(latency_ms={}, journal=None)
        yield from apply(bed, given)


def _parts(chunk: Chunk, cuts: Sequence[int], rate_hz: float) -> Iterator[Chunk]:
    """Cut a chunk where something is given in between."""
    n = chunk.samples_mv.shape[1]
    edges = sorted({0, n, *(cut for cut in cuts if 0 < cut < n)})
    for first, end in pairwise(edges):
        yield replace(chunk, t_s=chunk.t_s + first / rate_hz, samples_mv=chunk.samples_mv[:, first:end])


def _is_far_behind(event: Event, run: Run) -> bool:
    t_s = time_of(event)
    if run.last_s is None:
        run.last_s = t_s
    return t_s is not None and run.last_s is not None and t_s > run.last_s + LATER_S


def estimates_of(path: str | Path, run: Run) -> Iterator[tuple[float, float | None]]:
    """Yield time (seconds) and mPCWP (mmHg, None where there is no number) of a run's estimates, each time once.

    Raises
    ------
    RecordError
        If the journal is damaged.
    """
    last_s = -math.inf
    for entry in islice(_entries(path), run.first_seq, run.end_seq):
        if entry.event["type"] == "estimate" and entry.event["t_s"] > last_s:
            last_s = float(entry.event["t_s"])
            yield last_s, entry.event["mpcwp_mmhg"]


def _wanted(path: str | Path, run: Run) -> Iterator[tuple[int, str]]:
    """Yield number and text of the events of a run."""
    for entry in islice(_entries(path), run.first_seq, run.end_seq):
        if entry.event["type"] == "dropped":
            raise RecordError(
                f"the journal {path} cannot be run again past entry {entry.seq}: "
                f"{entry.event['events']} entries are missing there that the disk did not take"
            )
        if entry.event["type"] == "bundle":
            raise RecordError(
                f"the journal {path} cannot be run again past entry {entry.seq}: another bundle serves from there"
            )
        if entry.event["type"] not in _NOT_EVENTS:
            yield entry.seq, _text(entry.event)


def _text(event: Mapping[str, Any]) -> str:
    """Write an event without its wall-clock values; texts are equal where every bit of a number is."""
    left_out = _OF_WALL_CLOCK.get(event["type"], ())
    return json.dumps({k: v for k, v in event.items() if k not in left_out}, sort_keys=True)


def _entries(path: str | Path) -> Iterator[JournalEntry]:
    """Yield the entries before an unfinished last line; other damage is a RecordError."""
    report = verify_journal(path)
    return islice(read_journal(path), report.entries if report.torn_tail else None)


def _input(event: Mapping[str, Any], path: str | Path) -> Input:
    try:
        return from_plain(Input, {key: value for key, value in event.items() if key != "type"})
    except SchemaError as error:
        raise RecordError(f"the journal {path} has an input that cannot be given again: {error}") from error
