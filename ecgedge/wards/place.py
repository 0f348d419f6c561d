"""One bed's place in a ward: its feed, which is opened again when it is lost, its journal, its snapshots."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ecgedge.alarms import load_policy
from ecgedge.bundle import Bundle
from ecgedge.control import Acknowledge, Command
from ecgedge.errors import EcgedgeError, FeedError, RecordError, UsageError
from ecgedge.events import Alarm, Estimate, Event
from ecgedge.feeds import Chunk, Feed, FeedInfo, open_feed
from ecgedge.feeds.eeb_feed import EebFeed
from ecgedge.journal import Backlog, Journal
from ecgedge.monitor.beds import BedFacts
from ecgedge.monitor.page import Page, without_secrets
from ecgedge.monitor.tap import PageTap
from ecgedge.pace import AgeWatch, PaceWatch
from ecgedge.patience import Patient
from ecgedge.rerun import facts_of_bed
from ecgedge.sinks import BedOutlet, Output, Sink
from ecgedge.station import Station
from ecgedge.stream import Bed, BedSnapshot, Variants, Ward
from ecgedge.stream.inbox import INBOX_S
from ecgedge.tasks import end_tasks
from ecgedge.wallclock import ClockWatch
from ecgedge.wards.config import BedConfig, WardSettings
from ecgedge.wards.delivery import Deliveries
from ecgedge.wards.front_end import FrontEnd
from ecgedge.wards.in_ward import InWard
from ecgedge.wards.lines import BedLines
from ecgedge.wards.outlet import Outlet
from ecgedge.wards.state import Signal, ended_alarms, read_state, replace_file, require_signal

SILENT_S = 0.5
"""A feed that has been silent for so long is told that time passes."""

AGAIN_S = (0.5, 30.0)
"""A lost feed is opened again after the first, then twice as late each time, up to the second."""


@dataclass
class Shared:
    """What all places of a ward share; `untaken` says what keeps events from an output."""

    bundle: Bundle
    variants: Variants
    ward: Ward
    settings: WardSettings
    outlet: Outlet | None
    outputs: Sequence[Output]
    speed: float
    say: Callable[[str], None]
    clock: ClockWatch
    deliveries: Deliveries
    page: Page | None = None
    untaken: str | None = None


class Place:
    """A bed, from the moment that it is asked for; there is a `bed` once its feed has said what leads it has.

    A bed that was left by an earlier process and whose feed does not open is there without it: its alarms go on.

    Raises
    ------
    RecipeError
        If the alarm policy cannot be read, or can never fire.
    """

    def __init__(self, config: BedConfig, shared: Shared) -> None:
        self.config, self._shared = config, shared
        hop_s = shared.bundle.manifest.hop_s
        self._policy = load_policy(Path(config.policy), hop_s=hop_s) if config.policy else None
        self._tap = None if shared.page is None else PageTap(shared.page.hub, config.name, self._shown_health)
        self._front_end = FrontEnd(config.name, self._acknowledge) if config.answers else None
        self._station: Station | None = None
        self._journal: Journal | None = None
        self._signal: Signal | None = None
        self._speed = 1.0
        self._heard_s = time.monotonic()
        self._n_came = 0
        self.saved_s = 0.0
        self._feed: Feed | None = None
        self._pace: PaceWatch | None = None
        self._age = AgeWatch()
        self._is_told_lost = False
        self._trouble: str | None = None
        self._said: set[str] = set()
        self._unsaved: str | None = None
        self._disk = Patient(f"the state of {config.name}")
        self._ended = False
        self._wait_s = AGAIN_S[0]
        self._task = asyncio.create_task(self._read(), name=f"feed of {config.name}")

    @property
    def name(self) -> str:
        """The bed's name."""
        return self.config.name

    @property
    def bed(self) -> Bed | None:
        """The bed, once there is one and until its feed has ended."""
        return self._shared.ward[self.name] if self._station is not None and not self._ended else None

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        bed = self.bed
        found: dict[str, Any] = {"feed": self.config.feed, "connected": self._feed is not None}
        found |= {"ended": True} if self._ended else {}
        found |= {} if self._trouble is None else {"trouble": self._trouble}
        found |= {} if self._unsaved is None else {"state_trouble": self._unsaved}
        if bed is not None and self._station is not None:
            found |= {
                "leads": list(bed.leads),
                "t_s": bed.due_s,
                "waiting_samples": self._shared.ward.waiting(self.name),
                "alarms": [alarm.condition for alarm in bed.alarms()],
                "latency_ms": self._station.latency(),
            }
            found |= {} if self._feed is None else {"health": self._health(self._feed, self._station)}
        return found

    def _health(self, feed: Feed, station: Station) -> dict[str, Any]:
        """Return how the open feed does: whether samples come, at the declared rate, how old, and what was dropped."""
        live = self._pace is not None
        device = feed.status() if isinstance(feed, EebFeed) else None
        return {
            **({} if device is None else {"device": device}),
            "alive": time.monotonic() - self._heard_s < SILENT_S + feed.info.chunk_s,
            "rate_ok": not station.wrong_rate
            if self._pace is not None and self._pace.steady is not None
            else None,
            "age_s": round(self._age.age_s, 3) if live else None,
            "dropped": dict(feed.dropped),
        }

    async def obey(self, command: Command) -> None:
        """Do what a user asked for.

        Raises
        ------
        UsageError
            If there is no bed yet, or no more.
        """
        if self._ended:
            raise UsageError(f"bed {self.name} has ended: so did its feed")
        if self._station is None:
            raise UsageError(f"bed {self.name} has heard nothing of its feed yet: {self._trouble or 'wait'}")
        await self._settle()
        await self._station.obey(command, self._now_s())

    def require_serves(self, bundle: Bundle, variants: Variants) -> None:
        """Raise UsageError if this bundle cannot serve the bed in the place of its own."""
        if self.bed is not None:
            self.bed.check_serves(bundle, variants)

    async def swap(self, bundle: Bundle, variants: Variants) -> None:
        """Let another bundle serve the bed from its next window on."""
        if self.bed is None or self._station is None:
            return
        await self._settle()
        old = self.bed.bundle.id
        events = self.bed.serve(bundle, variants)
        await self._answer()
        self._station.note({"type": "bundle", "t_s": self._now_s(), "from": old, "to": bundle.id})
        await self._station.emit(events)

    async def emit(self, events: Sequence[Event]) -> None:
        """Tell what the ward said of this bed."""
        if self._station is not None and events:
            await self._station.emit(events)

    async def look_after(self, now_s: float) -> None:
        """Notice alarms that are not confirmed, silence, and a wall clock that no time server holds.

        At infinite speed the last two mean nothing.
        """
        if self.bed is None or self._station is None:
            return
        trouble = self._shared.deliveries.trouble(self.name)
        why = trouble.why or self._shared.untaken
        if trouble.sure or why is not None:
            await self._station.tell_of_delivery(why, user=trouble.user)
        if math.isinf(self._speed):
            return
        await self._station.tell_of_clock(synchronised=self._shared.clock.synchronised)
        if self._pace is not None:
            await self._station.tell_of_rate(self._pace)
            await self._station.tell_of_delay(self._age)
        if now_s - self._heard_s >= SILENT_S:
            await self._settle()
            await self._station.call("advance", t_s=self._now_s())

    async def leave(self, *, forget: bool) -> None:
        """End the bed: it says the rest and its summary. Its state is kept for a restart, unless to be forgotten."""
        await end_tasks(self._task)
        await self._try(self._end)
        if forget and self._tap is not None:
            self._tap.forget()
        path = self._state_path()
        if forget and path is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._say(f"its state {path} cannot be removed: {error.strerror}")

    # --- the feed ---

    async def _read(self) -> None:
        """Follow the feed to its end; whatever goes wrong, try again."""
        while not await self._try(self._follow, "; trying again"):
            await self._try(self._do_without)
            await asyncio.sleep(self._wait_s)
            self._wait_s = min(2.0 * self._wait_s, AGAIN_S[1])

    async def _try(self, work: Callable[[], Awaitable[None]], then: str = "") -> bool:
        """Do it and return whether it went well; what did not is said, the same only once until samples come."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is: this bed is tried again, the others go on
            text = str(error) if isinstance(error, EcgedgeError) else f"{type(error).__name__}: {error}"
            self._trouble = text
            if text not in self._said:
                self._said.add(text)
                self._say(f"{text}{then}")
            return False
        return True

    async def _follow(self) -> None:
        feed = await open_feed(self.config.feed, speed=self._shared.speed)
        try:
            await self._open(feed.info)
            self._feed, self._trouble = feed, None
            if isinstance(feed, EebFeed):
                feed.tell(self._say)
            await self._answer()
            await self._take(feed)
        finally:
            self._feed = None
            if self._front_end is not None:
                self._front_end.disconnect()
            await feed.close()
        if feed.info.live:
            raise FeedError(f"{feed.info.uri}: the device has closed the connection")
        await self._end()

    async def _answer(self) -> None:
        """Have the front end show what the bed says, if it is to."""
        if self._front_end is not None and self._feed is not None and self.bed is not None:
            await self._front_end.connect(self._feed, self.bed.bundle, self.bed.alarms())

    async def _acknowledge(self, _bed: str, condition: str, user: str) -> None:
        await self.obey(Acknowledge(condition, user))

    async def _take(self, feed: Feed) -> None:
        if self._station is None:
            return
        rate_hz = feed.info.rate_hz
        async for chunk in feed:
            if not feed.info.live:
                await self._make_room(chunk.samples_mv.shape[1])
            is_late = self._is_late(chunk)
            await self._station.push(chunk, end_s=chunk.t_s + chunk.samples_mv.shape[1] / rate_hz)
            self._n_came += chunk.samples_mv.shape[1]
            if self._pace is not None:
                end_s, now_s = chunk.t_s + chunk.samples_mv.shape[1] / rate_hz, time.monotonic()
                self._pace.heard(end_s, now_s)
                self._age.heard(chunk.t_s, end_s, now_s)
            if not is_late:
                self._heard_s = time.monotonic()
            self._is_told_lost, self._wait_s = False, AGAIN_S[0]
            self._said.clear()

    def _is_late(self, chunk: Chunk) -> bool:
        """Tell whether a chunk is all from the past: then time passes as though nothing came."""
        bed, waiting = self._shared.ward[self.name], self._shared.ward.waiting(self.name)
        return bed.started and bed.missing(chunk.t_s, waiting=waiting) + chunk.samples_mv.shape[1] <= 0

    async def _make_room(self, n: int) -> None:
        """Wait until another n samples fit: a feed that is not live can wait, and loses nothing to a full inbox."""
        ward, rate_hz = self._shared.ward, self._shared.ward[self.name].rate_hz
        while ward.waiting(self.name) >= INBOX_S / 2.0 * rate_hz:
            await asyncio.sleep(0.0)
        if ward.waiting(self.name) + n > INBOX_S * rate_hz:
            await self._settle()

    async def _open(self, info: FeedInfo) -> None:
        """Make the bed of what the feed says of itself, or see that it is still the same."""
        found = Signal(info.leads, info.rate_hz, info.mode)
        if self._signal is None:
            await self._begin(found)
        elif found != self._signal:
            raise FeedError(
                f"{info.uri} has {found} now, and had {self._signal}; remove the bed and add it again"
            )
        self._speed = 1.0 if info.live else self._shared.speed
        self._pace = PaceWatch(info.rate_hz) if info.live else None
        self._age = AgeWatch()
        if self._station is not None and self.bed is not None:
            self._station.late_ms = self.bed.hop_s * 1e3 / self._speed if self._speed < math.inf else math.inf

    async def _do_without(self) -> None:
        """Go on without the feed: nobody else would tell what is on."""
        if self._station is None:
            await self._begin(None)
        if self._station is not None and not self._ended and not self._is_told_lost:
            self._is_told_lost = True
            await self._station.call("feed_lost")

    async def _begin(self, signal: Signal | None) -> None:
        """Make the bed as it was left, or anew of what its feed has; without either there is none yet."""
        shared = self._shared
        snapshot, bed = self._restored(signal)
        if bed is None:
            if signal is None:
                return
            bed = Bed(
                shared.bundle,
                leads=signal.leads,
                rate_hz=signal.rate_hz,
                variants=shared.variants,
                policy=self._policy,
                mode=signal.mode,
            )
        self._journal = self._open_journal(bed, restored=snapshot is not None)
        shared.ward.add(self.name, bed)
        sinks: list[Sink] = [
            BedLines(self.name, shared.outlet, shared.deliveries),
            *([] if self._front_end is None else [self._front_end]),
            *(BedOutlet(output, self.name, bed.mode) for output in shared.outputs),
            *([] if self._tap is None else [self._tap]),
        ]
        self._station = Station(
            InWard(shared.ward, self.name),
            sinks,
            None if self._journal is None else Backlog(self._journal),
            before_alarm=self._save_now,
            age_ms=self._age_ms,
            taken=self._taken,
            tap=None if self._tap is None else self._tap.samples,
        )
        self._show(bed)
        self._heard_s = time.monotonic()
        self._signal = signal
        if snapshot is not None:
            self._signal = Signal.of(snapshot)
            await self._tell_anew(snapshot, bed.alarms())

    def _show(self, bed: Bed) -> None:
        """Tell the page what the bed is made for."""
        if self._tap is not None:
            feed = without_secrets(self.config.feed)
            self._tap.describe(BedFacts(bed.leads, bed.rate_hz, feed, bed.mode, bed.policy))

    def _shown_health(self) -> dict[str, Any]:
        found = self.status()
        health = dict(found.get("health", {}))
        late_s = {"late_s": health.pop("age_s", None)}
        trouble = {"trouble": self._trouble} if self._trouble is not None else {}
        return {
            "connected": found["connected"],
            "queue": found.get("waiting_samples", 0),
            **health,
            **late_s,
            **trouble,
        }

    async def _tell_anew(self, snapshot: BedSnapshot, on: Sequence[Alarm]) -> None:
        """Tell what is on and what is not any more: what anyone heard of it before the restart, nobody knows."""
        if self._station is None:
            return
        await self._station.emit([*on, *ended_alarms(snapshot, on)])
        # What ailed the earlier process does not ail this one. The feed's time may be behind the stream's.
        due_s = self._shared.ward[self.name].due_s
        if self._journal is not None:
            await self._station.call("journal", t_s=due_s)
        await self._station.call("model_late", t_s=due_s)
        # The machine's clock, and those who should listen, are the same as before.
        self._station.unsync = self._shared.ward[self.name].holds("CLOCK_UNSYNC")
        self._station.wrong_rate = self._shared.ward[self.name].holds("FEED_RATE")
        self._station.delayed = self._shared.ward[self.name].holds("FEED_DELAYED")
        self._station.undelivered = self._shared.ward[self.name].holds("DELIVERY_FAILED")

    def _open_journal(self, bed: Bed, *, restored: bool) -> Journal | None:
        settings, variants = self._shared.settings, self._shared.variants
        if settings.journals is None:
            return None
        facts = facts_of_bed(bed, self.config.feed, variants.runtimes, form=variants.form, restored=restored)
        rotate = settings.journal_max_mb
        return Journal(
            Path(settings.journals) / f"{self.name}.jsonl",
            facts=facts,
            rotate_bytes=None if rotate is None else round(rotate * 1e6),
        )

    async def _end(self) -> None:
        if self._station is None or self._ended:
            return
        await self._station.call("end")
        await self._settle()
        self._save_now()
        bed = self._shared.ward[self.name]
        self._ended = True
        self._shared.ward.remove(self.name)
        journal = None if self._journal is None else str(self._journal.path)
        await self._station.emit([bed.summary(latency_ms=self._station.latency(), journal=journal)])
        for finish in (self._station.require_written, self._station.close_journal):
            try:
                finish()
            except RecordError as error:
                self._say(str(error))

    # --- time ---

    def _age_ms(self, estimate: Estimate) -> float:
        """Return how long ago the last sample of an estimate's window came."""
        bed, waiting = self._shared.ward[self.name], self._shared.ward.waiting(self.name)
        later_s = bed.reached_s + waiting / bed.rate_hz - estimate.t_s
        return (time.monotonic() - self._heard_s + later_s / self._speed) * 1e3

    def _taken(self) -> tuple[int, float]:
        """Return how many samples the bed has taken of those that came, and the feed's time of the next."""
        return self._n_came - self._shared.ward.waiting(self.name), self._shared.ward[self.name].due_s

    async def _settle(self) -> None:
        """Let the bed take all that waits, and tell what it says."""
        await self.emit(self._shared.ward.settle(self.name))

    def _now_s(self) -> float:
        """Return what time it should be, in the feed's time, for a bed of which nothing waits.

        It counts on from what the bed has taken: a feed whose clock has just been set back may not hide its silence.
        """
        due_s = self._shared.ward[self.name].due_s
        silent_s = time.monotonic() - self._heard_s
        return due_s + silent_s * self._speed if math.isfinite(self._speed) else due_s

    # --- the state ---

    def _say(self, text: str) -> None:
        self._shared.say(f"bed {self.name}: {text}")

    def _state_path(self) -> Path | None:
        folder = self._shared.settings.state
        return None if folder is None else Path(folder) / f"{self.name}.bed"

    def _save_now(self) -> None:
        self.save(time.monotonic())

    def save(self, now_s: float) -> None:
        """Keep the state, if there is one to keep."""
        path, bed = self._state_path(), self.bed
        self.saved_s = now_s
        if path is None or bed is None:
            return
        try:
            self._disk.do(partial(replace_file, path, bed.snapshot().to_bytes()))
        except RecordError as error:
            if self._unsaved is None:
                self._say(f"{error}; a restart would begin with an older state")
            self._unsaved = str(error)
        else:
            if self._unsaved is not None:
                self._say(f"the state {path} is written again")
            self._unsaved = None

    def _restored(self, signal: Signal | None) -> tuple[BedSnapshot, Bed] | tuple[None, None]:
        """Return the bed as it was left, if it was; a state that does not fit is set aside, and said."""
        path, shared = self._state_path(), self._shared
        if path is None:
            return None, None
        try:
            snapshot = read_state(path)
            if snapshot is None:
                return None, None
            require_signal(snapshot, signal)
            bed = Bed.restore(shared.bundle, snapshot, variants=shared.variants, policy=self._policy)
        except (RecordError, UsageError) as error:
            self._set_aside(path, error)
            return None, None
        return snapshot, bed

    def _set_aside(self, path: Path, why: EcgedgeError) -> None:
        aside = path.with_name(f"{path.name}.unfit")
        by_hand = "what was on or latched must be looked at by hand"
        try:
            path.replace(aside)
        except OSError as error:
            self._say(
                f"begins anew: {why}. Its old state cannot be set aside ({error.strerror}) and goes: {by_hand}"
            )
        else:
            self._say(f"begins anew: {why}. Its old state is {aside}: {by_hand}")
