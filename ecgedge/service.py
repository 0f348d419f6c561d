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
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecgedge.control import Asked, Command, Control, Inbox
from ecgedge.errors import FeedError, UsageError
from ecgedge.events import Summary
from ecgedge.feeds import Chunk, Feed
from ecgedge.journal import Backlog, Journal
from ecgedge.pace import AgeWatch, PaceWatch
from ecgedge.sinks import Output, Sink, first_trouble
from ecgedge.station import Station, StreamClock
from ecgedge.stream import Bed
from ecgedge.wallclock import ClockWatch, ReadClock, clock_synchronised

TICK_S = 0.25
"""How often silence is checked."""


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
    outputs: Sequence[Output] = (),
    journal: Journal | None = None,
    duration_s: float = math.inf,
    speed: float = 1.0,
    stop: asyncio.Event | None = None,
    control: Control | None = None,
    inbox: Inbox | None = None,
    read_clock: ReadClock = clock_synchronised,
    tap: Callable[[Chunk], None] | None = None,
) -> StreamResult:
    """Stream `feed` through `bed` until it ends, is lost, `duration_s` of stream time have passed, or `stop` is set.

    Parameters
    ----------
    bed, feed
        Must agree in leads and rate.
    sinks
        Each gets every event, after the journal.
    outputs
        Those that some of the sinks put events into; where one does not deliver, the bed is told (DELIVERY_FAILED).
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
    inbox
        The same, of users who wait for what becomes of them.
    read_clock
        Says whether the wall clock is synchronised. It is asked now and then, but at infinite speed, where stream time
        has nothing to do with it.
    tap
        Is shown each chunk before the bed has it.

    Raises
    ------
    RecordError
        At the end, if the journal still lacks events that it could not take.
    """
    pace = 1.0 if feed.info.live else speed
    late_ms = bed.hop_s * 1e3 / pace if math.isfinite(pace) else math.inf
    record = None if journal is None else Backlog(journal)
    station = Station(bed, sinks, record, late_ms=late_ms, tap=tap)
    lost: FeedError | None = None
    try:
        clock = StreamClock(pace)
        watch = _Watch(read_clock if clock.runs else lambda: None, feed, outputs)
        await _pump(
            bed,
            station,
            feed,
            control,
            inbox,
            clock,
            watch,
            duration_s=duration_s,
            stop=stop or asyncio.Event(),
        )
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


class _Watch:
    """Watches what no sample tells: the wall clock, the pace of a live feed, and whether events are delivered."""

    def __init__(self, read_clock: ReadClock, feed: Feed, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._clock, self._rate_hz = ClockWatch(read_clock), feed.info.rate_hz
        self._pace = PaceWatch(self._rate_hz) if feed.info.live else None
        self._age = AgeWatch()

    async def tell(self, station: Station, item: Chunk | Command | Asked | None) -> None:
        """Tell the station what has changed."""
        now_s = time.monotonic()
        await station.tell_of_clock(synchronised=self._clock.look(now_s))
        if self._outputs:
            await station.tell_of_delivery(first_trouble(self._outputs))
        if self._pace is None:
            return
        if isinstance(item, Chunk):
            end_s = item.t_s + item.samples_mv.shape[1] / self._rate_hz
            self._pace.heard(end_s, now_s)
            self._age.heard(item.t_s, end_s, now_s)
        await station.tell_of_rate(self._pace)
        await station.tell_of_delay(self._age)


async def _pump(
    bed: Bed,
    station: Station,
    feed: Feed,
    control: Control | None,
    inbox: Inbox | None,
    clock: StreamClock,
    watch: _Watch,
    *,
    duration_s: float,
    stop: asyncio.Event,
) -> None:
    end_s = math.inf
    async for item in _with_ticks(feed, control, inbox):
        if stop.is_set():
            return
        await watch.tell(station, item)
        if not isinstance(item, Chunk):
            if await _obey(station, item, clock, control, end_s=end_s):
                return
            continue
        end_s = item.t_s + duration_s if math.isinf(end_s) else end_s
        kept, is_last = _cut(item, end_s, feed.info.rate_hz)
        over = await _take(bed, station, kept, clock, end_s=end_s) if kept.samples_mv.shape[1] else False
        if is_last or over:
            return


async def _obey(
    station: Station,
    item: Command | Asked | None,
    clock: StreamClock,
    control: Control | None,
    *,
    end_s: float,
) -> bool:
    """Do what `_tick` does; whoever asked hears of a command that the bed cannot obey now."""
    command = item.command if isinstance(item, Asked) else item
    try:
        over = await _tick(station, command, clock, end_s=end_s)
    except UsageError as error:
        if isinstance(item, Asked):
            item.refuse(error)
        elif control is not None:
            control.refuse(str(error))
        else:
            raise
        return False
    if isinstance(item, Asked):
        item.obeyed()
    return over


async def _take(bed: Bed, station: Station, chunk: Chunk, clock: StreamClock, *, end_s: float) -> bool:
    """Take a chunk, and return whether the end is reached."""
    due_s = bed.due_s if bed.started else -math.inf
    await station.push(chunk, end_s=chunk.t_s + chunk.samples_mv.shape[1] / bed.rate_hz)
    if bed.due_s > due_s:
        # What the bed has taken, not what the feed says: a clock that was just set back may not hide its silence.
        clock.heard(bed.due_s)
        return False
    # Nothing but samples from the past: time passes as though nothing came.
    return await _tick(station, None, clock, end_s=end_s)


async def _tick(station: Station, command: Command | None, clock: StreamClock, *, end_s: float) -> bool:
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


async def _with_ticks(
    feed: Feed, control: Control | None, inbox: Inbox | None
) -> AsyncIterator[Chunk | Command | Asked | None]:
    """Yield the feed's chunks and the users' commands, and None whenever neither came for TICK_S.

    Of both at once a command goes first, so that none is lost to the end of the feed.
    """
    chunks = aiter(feed)
    commands = [source for source in (control, inbox) if source is not None]
    sources: list[AsyncIterator[Any]] = [*map(aiter, commands), chunks]
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
