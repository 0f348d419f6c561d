"""The loop that owns the clock: feed in, bed, journal and sinks out.

The bed decides everything; this module only moves samples and users' commands, measures latency, notices
silence by the wall clock, and sees that an alarm is in the journal before any sink hears of it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecgedge.control import Acknowledge, Command, Control, PauseAudio
from ecgedge.errors import FeedError
from ecgedge.events import Estimate, Event, Summary, event_to_dict
from ecgedge.feeds import Chunk, Feed
from ecgedge.journal import Journal
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
        Gets every alarm and feed event, and the summary; estimates too.
    duration_s
        Stream time after which to stop.
    speed
        At which the feed plays, so that silence is measured in stream time; infinity does not measure it. A live
        feed has speed 1 whatever is said here.
    stop
        Ends the stream in good order: the summary still comes.
    control
        Users' commands. Each takes effect in stream time when it is read; the end of them ends nothing.
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
        await station.emit(bed.feed_lost(), 0.0)
    finally:
        await feed.close()
    summary = bed.summary(
        latency_ms=station.latency(), journal=None if journal is None else str(journal.path)
    )
    if control is not None:
        summary = replace(summary, dropped_commands=control.dropped)
    await station.emit([summary], 0.0)
    return StreamResult(summary, lost)


class _Station:
    """Carries the bed's events to the journal and the sinks, and keeps the latencies."""

    def __init__(self, bed: Bed, sinks: Sequence[Sink], journal: Journal | None) -> None:
        self.bed = bed
        self._sinks = sinks
        self._journal = journal
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)

    async def emit(self, events: Sequence[Event], latency_ms: float) -> None:
        for event in events:
            sent = event
            if isinstance(event, Estimate):
                sent = replace(event, latency_ms=round(latency_ms, 3))
                self._latencies_ms.append(latency_ms)
            if self._journal is not None:
                self._journal.append(event_to_dict(sent))
            for sink in self._sinks:
                await sink.send(sent)

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
            now_s = min(clock.now_s(), end_s)
            if clock.runs:
                # A command is a tick as well: a flood of them must not hide the silence of the feed.
                await station.emit(station.bed.advance(now_s), 0.0)
                if now_s == end_s:
                    return
            if item is not None:
                await station.emit(_obey(station.bed, item, now_s), 0.0)
            continue
        end_s = item.t_s + duration_s if math.isinf(end_s) else end_s
        kept, is_last = _cut(item, end_s, feed.info.rate_hz)
        arrived_s = time.perf_counter()
        events = station.bed.push(kept.samples_mv, t_s=kept.t_s)
        await station.emit(events, (time.perf_counter() - arrived_s) * 1e3)
        clock.heard(kept.t_s + kept.samples_mv.shape[1] / feed.info.rate_hz)
        if is_last:
            return


def _obey(bed: Bed, command: Command, t_s: float) -> list[Event]:
    if isinstance(command, Acknowledge):
        return bed.acknowledge(t_s, condition=command.condition, user=command.user)
    if isinstance(command, PauseAudio):
        return bed.pause_audio(t_s, duration_s=command.duration_s, user=command.user)
    return bed.resume_audio(t_s, user=command.user)


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
