"""The loop that owns the clock: feed in, bed, journal and sinks out.

The bed decides everything; this module only moves samples and users' commands, measures latency, notices
silence by the wall clock, and sees that an alarm is in the journal before any sink hears of it. A journal that
cannot be written ends nothing: every sink is told (JOURNAL_FAILED), and what it did not take is tried again with
each event.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecgedge.control import Command, Control
from ecgedge.errors import FeedError, RecordError
from ecgedge.events import Estimate, Event, Summary, event_to_dict
from ecgedge.feeds import Chunk, Feed
from ecgedge.inputs import Call, Input, apply, from_command, input_to_dict, time_of
from ecgedge.journal import Backlog, Journal
from ecgedge.sinks import Sink
from ecgedge.stream import Bed

TICK_S = 0.25
"""How often silence is checked."""

LATENCIES_KEPT = 100_000
"""The newest of them count in the summary."""


@dataclass(frozen=True)
class StreamResult:
    """How a stream ended: its totals, and the feed's error if it was lost."""

    summary: Summary
    lost: FeedError | None


async def run_stream(
    bed: Bed,
    feed: Feed,
    *,
    sinks: Sequence[Sink],
    journal: Journal | None = None,
    duration_s: float = math.inf,
    speed: float = 1.0,
    stop: asyncio.Event | None = None,
    control: Control | None = None,
) -> StreamResult:
    """Stream `feed` through `bed` until it ends, is lost, `duration_s` of stream time have passed, or `stop` is set.

    Parameters
    ----------
    bed, feed
        Must agree in leads and rate.
    sinks
        Each gets every event, after the journal.
    journal
        Gets every event, and every input beside the samples from which they follow (`ecgedge.inputs`).
    duration_s
        Stream time after which to stop.
    speed
        At which the feed plays, so that silence is measured in stream time; infinity does not measure it. A live
        feed has speed 1 whatever is said here.
    stop
        Ends the stream in good order: the summary still comes.
    control
        Users' commands. Each takes effect in stream time when it is read; the end of them ends nothing.

    Raises
    ------
    RecordError
        At the end, if the journal still lacks events that it could not take.
    """
    station = _Station(bed, sinks, journal)
    lost: FeedError | None = None
    try:
        clock = _Clock(1.0 if feed.info.live else speed)
        await _pump(station, feed, control, clock, duration_s=duration_s, stop=stop or asyncio.Event())
        if bed.seen_samples == 0:
            lost = FeedError(f"{feed.info.uri}: the feed ended without a single sample")
    except FeedError as error:
        lost = error
        await station.call("feed_lost")
    finally:
        await feed.close()
    await station.call("end")
    summary = bed.summary(
        latency_ms=station.latency(), journal=None if journal is None else str(journal.path)
    )
    if control is not None:
        summary = replace(summary, dropped_commands=control.dropped)
    await station.emit([summary])
    station.require_written()
    return StreamResult(summary, lost)


class _Station:
    """Carries samples and other inputs to the bed, and what it says to the journal and the sinks."""

    def __init__(self, bed: Bed, sinks: Sequence[Sink], journal: Journal | None) -> None:
        self._bed = bed
        self._sinks = sinks
        self._backlog = None if journal is None else Backlog(journal)
        self._failure: str | None = None
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._samples, self._t_s = 0, 0.0
        self._moved: Input | None = None

    async def push(self, chunk: Chunk, *, end_s: float) -> None:
        """Take a chunk that ends at `end_s`."""
        arrived_s = time.perf_counter()
        events = self._bed.push(chunk.samples_mv, t_s=chunk.t_s)
        latency_ms = (time.perf_counter() - arrived_s) * 1e3
        self._samples += chunk.samples_mv.shape[1]
        self._t_s = end_s
        if events:
            self._note_move(map(time_of, events))
        await self.emit(events, latency_ms)
        await self._tell_of_journal()

    async def call(self, call: Call, *, t_s: float | None = None) -> None:
        """Make a call that no user asked for."""
        await self.give(Input(call, self._samples, self._t_s if t_s is None else t_s))

    async def obey(self, command: Command, t_s: float) -> None:
        """Do what a user asked for."""
        await self.give(from_command(command, samples=self._samples, t_s=t_s))

    async def give(self, given: Input) -> None:
        """Hand an input to the bed; the journal has it before what follows from it."""
        events = apply(self._bed, given)
        self._t_s = max(self._t_s, given.t_s)
        if given.call == "advance" and not events:
            if self._moved is None or given.t_s >= self._moved.t_s:
                self._moved = given
            return
        self._note_move([given.t_s, *map(time_of, events)])
        self._keep(input_to_dict(given))
        await self.emit(events)
        await self._tell_of_journal()

    async def emit(self, events: Sequence[Event], latency_ms: float = 0.0) -> None:
        """Send events, each to the journal first."""
        for event in events:
            sent = event
            if isinstance(event, Estimate):
                sent = replace(event, latency_ms=round(latency_ms, 3))
                self._latencies_ms.append(latency_ms)
            self._keep(event_to_dict(sent))
            for sink in self._sinks:
                await sink.send(sent)

    def require_written(self) -> None:
        """Raise RecordError if the journal lacks events."""
        if self._backlog is not None and self._backlog.waiting:
            raise RecordError(f"{self._backlog.why}; it lacks the last {self._backlog.waiting} entries")

    async def _tell_of_journal(self) -> None:
        """Tell on every sink where the journal fails since the last call, or works again."""
        why = None if self._backlog is None else self._backlog.why
        if (why is None) != (self._failure is None):
            self._failure = why
            await self.give(Input("journal", self._samples, self._t_s, why=why))

    def _note_move(self, times: Iterable[float | None]) -> None:
        """Note a move of the clock that brought nothing itself, if it can have moved something at these times.

        A fact from before the move takes effect at the move's time. Every fact gives an event with its own time, so
        where all are later the move changed nothing, and is forgotten. Before the first sample, time is the wait
        for it, which the first events of the stream may tell.
        """
        moved, self._moved = self._moved, None
        if moved is not None and (moved.samples == 0 or any(t is not None and t < moved.t_s for t in times)):
            self._keep(input_to_dict(moved))

    def _keep(self, entry: Mapping[str, Any]) -> None:
        if self._backlog is not None:
            self._backlog.append(entry)

    def latency(self) -> dict[str, float | None]:
        if not self._latencies_ms:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(list(self._latencies_ms), [50, 99])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


class _Clock:
    """Stream time between two chunks, by the wall clock; at infinite speed it stands still."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.runs = math.isfinite(speed)
        self.heard(0.0)

    def heard(self, t_s: float) -> None:
        """Take that the feed has come to `t_s`."""
        self._last_s, self._last_wall_s = t_s, time.monotonic()

    def now_s(self) -> float:
        if not self.runs:
            return self._last_s
        return self._last_s + (time.monotonic() - self._last_wall_s) * self._speed


async def _pump(
    station: _Station,
    feed: Feed,
    control: Control | None,
    clock: _Clock,
    *,
    duration_s: float,
    stop: asyncio.Event,
) -> None:
    end_s = math.inf
    async for item in _with_ticks(feed, control):
        if stop.is_set():
            return
        if not isinstance(item, Chunk):
            if await _tick(station, item, clock, end_s=end_s):
                return
            continue
        end_s = item.t_s + duration_s if math.isinf(end_s) else end_s
        kept, is_last = _cut(item, end_s, feed.info.rate_hz)
        if kept.samples_mv.shape[1]:
            heard_s = kept.t_s + kept.samples_mv.shape[1] / feed.info.rate_hz
            await station.push(kept, end_s=heard_s)
            clock.heard(heard_s)
        if is_last:
            return


async def _tick(station: _Station, command: Command | None, clock: _Clock, *, end_s: float) -> bool:
    """Let time pass, obey a command if there is one, and return whether the end is reached."""
    now_s = min(clock.now_s(), end_s)
    if clock.runs:
        # A command is a tick as well: a flood of them must not hide the silence of the feed.
        await station.call("advance", t_s=now_s)
        if now_s == end_s:
            return True
    if command is not None:
        await station.obey(command, now_s)
    return False


async def _with_ticks(feed: Feed, control: Control | None) -> AsyncIterator[Chunk | Command | None]:
    """Yield the feed's chunks and the users' commands, and None whenever neither came for TICK_S.

    Of both at once a command goes first, so that none is lost to the end of the feed.
    """
    chunks = aiter(feed)
    sources: list[AsyncIterator[Any]] = [chunks] if control is None else [aiter(control), chunks]
    pending: dict[AsyncIterator[Any], asyncio.Task[Any]] = {}
    try:
        while True:
            # A task outlives the timeout: a cancelled read could lose samples.
            pending |= {s: asyncio.create_task(_next(s)) for s in sources if s not in pending}
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait(pending.values(), timeout=TICK_S, return_when=first)
            if not done:
                yield None
            for source in [s for s in sources if pending[s] in done]:
                try:
                    item = pending.pop(source).result()
                except StopAsyncIteration:
                    if source is chunks:
                        return
                    sources.remove(source)
                else:
                    yield item
    finally:
        for task in pending.values():
            task.cancel()


async def _next(source: AsyncIterator[Any]) -> Any:
    return await anext(source)


def _cut(chunk: Chunk, end_s: float, rate_hz: float) -> tuple[Chunk, bool]:
    """Shorten the chunk that reaches `end_s`; the second value says that it does."""
    n = chunk.samples_mv.shape[1]
    if math.isinf(end_s) or chunk.t_s + n / rate_hz < end_s:
        return chunk, False
    kept = max(0, min(n, round((end_s - chunk.t_s) * rate_hz)))
    return replace(chunk, samples_mv=chunk.samples_mv[:, :kept]), True
