"""What stands between a bed and the world: inputs go to the bed, what it says goes to the journal and the sinks.

An alarm is in the journal before any sink hears of it. A journal that cannot be written ends nothing: every sink is
told (JOURNAL_FAILED), and what it did not take is tried again with each event.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecgedge.control import Command
from ecgedge.errors import RecordError
from ecgedge.events import Alarm, AudioEvent, CalibrationEvent, Estimate, Event, event_to_dict
from ecgedge.feeds import Chunk
from ecgedge.inputs import Call, Input, Watched, apply, from_command, input_to_dict, time_of
from ecgedge.journal import Record
from ecgedge.pace import AgeWatch, PaceWatch
from ecgedge.sinks import Sink

_KEPT_FIRST = (Alarm, AudioEvent, CalibrationEvent)

LATENCIES_KEPT = 100_000
"""The newest of them count in the summary."""


class Station:
    """Carries samples and other inputs to the bed, and what it says to the journal and the sinks.

    `before_alarm` is called before an alarm, audio or calibration event goes anywhere: so that what is told is kept.
    Estimates with a latency above `late_ms` are late, and the bed is told when they begin and cease to be. Where
    samples wait before the bed takes them, `age_ms` gives an estimate's latency, and `taken` how many samples the bed
    has, and until when. `tap` is shown each chunk as it came, before the bed has it.
    """

    def __init__(
        self,
        bed: Watched,
        sinks: Sequence[Sink],
        record: Record | None,
        *,
        before_alarm: Callable[[], None] | None = None,
        late_ms: float = math.inf,
        age_ms: Callable[[Estimate], float] | None = None,
        taken: Callable[[], tuple[int, float]] | None = None,
        tap: Callable[[Chunk], None] | None = None,
    ) -> None:
        self._age_ms, self._taken, self._tap = age_ms, taken, tap
        self.late_ms, self._late = late_ms, False
        self.unsync = self.undelivered = self.unwritten = self.wrong_rate = self.delayed = False
        self._before_alarm = before_alarm
        self._bed = bed
        self._sinks = sinks
        self._record = record
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._samples, self._t_s = 0, 0.0
        self._moved: Input | None = None

    async def push(self, chunk: Chunk, *, end_s: float) -> None:
        """Take a chunk that ends at `end_s`."""
        if self._tap is not None:
            self._tap(chunk)
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

    async def emit(self, events: Sequence[Event], latency_ms: float | None = None) -> None:
        """Send events, each to the journal first; estimates have this latency, where it is known."""
        if self._before_alarm is not None and any(isinstance(event, _KEPT_FIRST) for event in events):
            self._before_alarm()
        for event in events:
            sent = event
            if isinstance(event, Estimate):
                latency_ms = latency_ms if self._age_ms is None else self._age_ms(event)
                if latency_ms is not None:
                    sent = replace(event, latency_ms=round(latency_ms, 3))
                    self._latencies_ms.append(latency_ms)
            self._keep(event_to_dict(sent))
            for sink in self._sinks:
                await sink.send(sent)
        if latency_ms is not None and any(isinstance(event, Estimate) for event in events):
            await self._tell_of_age(latency_ms)

    async def tell_of_clock(self, *, synchronised: bool | None) -> None:
        """Tell where the wall clock begins not to be synchronised, or is so again; None is not known, and no news."""
        if synchronised is not None and synchronised == self.unsync:
            self.unsync = not synchronised
            why = "no time server holds the wall clock" if self.unsync else None
            await self.give(Input("clock_unsync", self._samples, self._t_s, why=why))

    async def tell_of_rate(self, watch: PaceWatch) -> None:
        """Tell where samples begin to come at another rate than declared, or come at it; not known is no news."""
        if watch.steady is not None and watch.steady == self.wrong_rate:
            self.wrong_rate = not watch.steady
            await self.give(Input("feed_rate", self._samples, self._t_s, why=watch.why))

    async def tell_of_delay(self, watch: AgeWatch) -> None:
        """Tell where samples begin to come late, or cease to."""
        if watch.delayed != self.delayed:
            self.delayed = watch.delayed
            await self.give(Input("feed_delay", self._samples, self._t_s, why=watch.why))

    async def tell_of_delivery(self, why: str | None, *, user: str | None = None) -> None:
        """Tell where a receiver begins not to confirm alarms, or all do; `user` may have dismissed one."""
        if (why is not None) != self.undelivered:
            self.undelivered = why is not None
            await self.give(Input("delivery", self._samples, self._t_s, why=why, user=user))

    async def _tell_of_age(self, latency_ms: float) -> None:
        """Tell where estimates begin to come late, or cease to."""
        late = latency_ms > self.late_ms
        if late != self._late:
            self._late = late
            why = f"estimates come {latency_ms / 1e3:.1f} s after their windows" if late else None
            samples, t_s = (self._samples, self._t_s) if self._taken is None else self._taken()
            await self.give(Input("model_late", samples, t_s, why=why))

    def note(self, entry: Mapping[str, Any]) -> None:
        """Write something into the journal that is no event."""
        self._keep(entry)

    def require_written(self) -> None:
        """Raise RecordError if the journal lacks events."""
        if self._record is not None and self._record.waiting:
            raise RecordError(f"{self._record.why}; it lacks the last {self._record.waiting} entries")

    def close_journal(self) -> None:
        """Close the journal, if there is one; RecordError where it cannot be brought to the disk."""
        if self._record is not None:
            self._record.close()

    async def _tell_of_journal(self) -> None:
        """Tell on every sink where the journal fails since the last call, or works again."""
        if self._record is not None:
            await self.tell_of_journal(self._record.why)

    async def tell_of_journal(self, why: str | None) -> None:
        """Tell where the journal begins not to be written, or is written again."""
        if (why is not None) != self.unwritten:
            self.unwritten = why is not None
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
        if self._record is not None:
            self._record.append(entry)

    def latency(self) -> dict[str, float | None]:
        """Return the median and the 99th percentile in milliseconds; None before the first estimate."""
        if not self._latencies_ms:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(list(self._latencies_ms), [50, 99])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


class StreamClock:
    """Stream time between two chunks, by the wall clock; at infinite speed it stands still."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.runs = math.isfinite(speed)
        self.heard(0.0)

    def heard(self, t_s: float) -> None:
        """Take that the feed has come to `t_s`."""
        self._last_s, self._last_wall_s = t_s, time.monotonic()

    def now_s(self) -> float:
        """Return the stream time that it should be now."""
        if not self.runs:
            return self._last_s
        return self._last_s + (time.monotonic() - self._last_wall_s) * self._speed
