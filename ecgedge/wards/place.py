"""One bed's place in a ward: its feed, which is opened again when it is lost, its journal, its snapshots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.alarms import load_policy
from ecgedge.bundle import Bundle
from ecgedge.control import Command
from ecgedge.errors import EcgedgeError, FeedError, RecordError, UsageError
from ecgedge.events import Event, event_to_json
from ecgedge.feeds import Feed, FeedInfo, open_feed
from ecgedge.journal import Journal
from ecgedge.rerun import facts_of_bed
from ecgedge.station import Station, StreamClock
from ecgedge.stream import Bed, BedSnapshot, Variants, Ward
from ecgedge.wards.config import BedConfig, WardSettings
from ecgedge.wards.outlet import Outlet
from ecgedge.wards.state import read_state, write_state

SILENT_S = 0.5
"""A feed that has been silent for so long is told that time passes."""

AGAIN_S = (0.5, 30.0)
"""A lost feed is opened again after the first, then twice as late each time, up to the second."""


@dataclass
class Shared:
    """What all places of a ward share."""

    bundle: Bundle
    variants: Variants
    ward: Ward
    settings: WardSettings
    outlet: Outlet | None
    speed: float
    say: Callable[[str], None]


class Place:
    """A bed, from the moment that it is asked for; there is a `bed` once its feed has said what leads it has.

    Raises
    ------
    RecipeError
        If the alarm policy cannot be read, or can never fire.
    """

    def __init__(self, config: BedConfig, shared: Shared) -> None:
        self.config, self._shared = config, shared
        hop_s = shared.bundle.manifest.hop_s
        self._policy = load_policy(Path(config.policy), hop_s=hop_s) if config.policy else None
        self._station: Station | None = None
        self._journal: Journal | None = None
        self._clock = StreamClock(1.0)
        self._heard_s = self._arrived_s = time.monotonic()
        self._saved_s = 0.0
        self._feed: Feed | None = None
        self._trouble: str | None = None
        self._ended = False
        self._task = asyncio.create_task(self._read(), name=f"feed of {config.name}")

    @property
    def name(self) -> str:
        """The bed's name."""
        return self.config.name

    @property
    def bed(self) -> Bed | None:
        """The bed, once there is one."""
        return self._shared.ward[self.name] if self._station is not None and not self._ended else None

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        bed = self.bed
        found: dict[str, Any] = {"feed": self.config.feed, "connected": self._feed is not None}
        if self._trouble is not None:
            found["trouble"] = self._trouble
        if bed is not None and self._station is not None:
            found |= {
                "leads": list(bed.leads),
                "t_s": bed.due_s,
                "waiting_samples": self._shared.ward.waiting(self.name),
                "alarms": [alarm.condition for alarm in bed.alarms()],
                "latency_ms": self._station.latency(),
            }
        return found

    async def obey(self, command: Command) -> None:
        """Do what a user asked for.

        Raises
        ------
        UsageError
            If there is no bed yet.
        """
        if self._station is None:
            raise UsageError(f"bed {self.name} has heard nothing of its feed yet: {self._trouble or 'wait'}")
        await self._station.obey(command, self._clock.now_s())

    def require_serves(self, bundle: Bundle, variants: Variants) -> None:
        """Raise UsageError if this bundle cannot serve the bed in the place of its own."""
        if self.bed is not None:
            self.bed.check_serves(bundle, variants)

    async def swap(self, bundle: Bundle, variants: Variants) -> None:
        """Let another bundle serve the bed from its next window on."""
        if self.bed is None or self._station is None:
            return
        await self.emit(self._shared.ward.settle(self.name))
        old = self.bed.bundle.id
        self.bed.serve(bundle, variants)
        self._station.note({"type": "bundle", "t_s": self._clock.now_s(), "from": old, "to": bundle.id})

    async def emit(self, events: Sequence[Event]) -> None:
        """Tell what the ward said of this bed."""
        if self._station is not None and events:
            await self._station.emit(events, (time.monotonic() - self._arrived_s) * 1e3)

    async def look_after(self, now_s: float) -> None:
        """Notice silence, and keep the state."""
        if self.bed is None or self._station is None:
            return
        if self._clock.runs and now_s - self._heard_s >= SILENT_S:
            await self._station.call("advance", t_s=self._clock.now_s())
        if now_s - self._saved_s >= self._shared.settings.state_s:
            self._save(now_s)

    async def leave(self, *, forget: bool) -> None:
        """End the bed: it says the rest and its summary. Its state is kept for a restart, unless to be forgotten."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._end()
        path = self._state_path()
        if forget and path is not None:
            path.unlink(missing_ok=True)

    # --- the feed ---

    async def _read(self) -> None:
        wait_s = AGAIN_S[0]
        while True:
            try:
                feed = await open_feed(self.config.feed, speed=self._shared.speed)
                try:
                    await self._open(feed.info)
                    wait_s, self._feed, self._trouble = AGAIN_S[0], feed, None
                    await self._take(feed)
                finally:
                    self._feed = None
                    await feed.close()
                await self._end()
            except EcgedgeError as error:
                if self._trouble is None:
                    self._shared.say(f"bed {self.name}: {error}; trying again")
                self._trouble = str(error)
                if self._station is not None:
                    await self._station.call("feed_lost")
                await asyncio.sleep(wait_s)
                wait_s = min(2.0 * wait_s, AGAIN_S[1])
            else:
                return

    async def _take(self, feed: Feed) -> None:
        if self._station is None:
            return
        rate_hz = feed.info.rate_hz
        async for chunk in feed:
            end_s = chunk.t_s + chunk.samples_mv.shape[1] / rate_hz
            await self._station.push(chunk, end_s=end_s)
            self._clock.heard(end_s)
            self._heard_s = self._arrived_s = time.monotonic()

    async def _open(self, info: FeedInfo) -> None:
        """Make the bed of what the feed says of itself, or see that it is still the same."""
        bed = self.bed
        if bed is None:
            await self._begin(info)
        elif (info.leads, info.rate_hz) != (bed.leads, bed.rate_hz):
            raise FeedError(
                f"{info.uri} has leads {','.join(info.leads)} at {info.rate_hz:g} Hz now, and had "
                f"{','.join(bed.leads)} at {bed.rate_hz:g} Hz; remove the bed and add it again"
            )

    async def _begin(self, info: FeedInfo) -> None:
        shared = self._shared
        restored = self._restored(info)
        bed = restored or Bed(
            shared.bundle,
            leads=info.leads,
            rate_hz=info.rate_hz,
            variants=shared.variants,
            policy=self._policy,
            mode=info.mode,
        )
        settings = shared.settings
        if settings.journals is not None:
            facts = facts_of_bed(
                bed,
                info.uri,
                shared.variants.runtimes,
                form=shared.variants.form,
                restored=restored is not None,
            )
            rotate = settings.journal_max_mb
            self._journal = Journal(
                Path(settings.journals) / f"{self.name}.jsonl",
                facts=facts,
                rotate_bytes=None if rotate is None else round(rotate * 1e6),
            )
        shared.ward.add(self.name, bed)
        sinks = [] if shared.outlet is None else [_Lines(self.name, shared.outlet)]
        self._clock = StreamClock(1.0 if info.live else shared.speed)
        self._station = Station(
            _InWard(shared.ward, self.name),
            sinks,
            self._journal,
            before_alarm=self._save_now,
            late_ms=bed.hop_s * 1e3 / (1.0 if info.live else shared.speed),
        )
        if restored is not None:
            # Whether anyone had heard of them before the restart, nobody knows.
            await self._station.emit(restored.alarms())

    async def _end(self) -> None:
        if self._station is None or self._ended:
            return
        await self._station.call("end")
        bed = self._shared.ward[self.name]
        await self.emit(self._shared.ward.settle(self.name))
        self._save_now()
        self._ended = True
        self._shared.ward.remove(self.name)
        journal = None if self._journal is None else str(self._journal.path)
        await self._station.emit([bed.summary(latency_ms=self._station.latency(), journal=journal)])
        if self._journal is not None:
            self._journal.close()

    # --- the state ---

    def _state_path(self) -> Path | None:
        folder = self._shared.settings.state
        return None if folder is None else Path(folder) / f"{self.name}.bed"

    def _save_now(self) -> None:
        self._save(time.monotonic())

    def _save(self, now_s: float) -> None:
        path = self._state_path()
        if path is None or self.bed is None:
            return
        self._saved_s = now_s
        try:
            write_state(path, self.bed.snapshot())
        except RecordError as error:
            self._shared.say(f"bed {self.name}: {error}; a restart would begin with an older state")

    def _restored(self, info: FeedInfo) -> Bed | None:
        """Return the bed as it was left, if it was; a state that does not fit is set aside, and said."""
        path = self._state_path()
        if path is None:
            return None
        try:
            snapshot = read_state(path)
            if snapshot is None:
                return None
            _require_feed(snapshot, info)
            return Bed.restore(
                self._shared.bundle, snapshot, variants=self._shared.variants, policy=self._policy
            )
        except (RecordError, UsageError) as error:
            aside = path.with_name(f"{path.name}.unfit")
            path.replace(aside)
            self._shared.say(
                f"bed {self.name} begins anew: {error}. Its old state is {aside}: what was on or latched must be "
                "looked at by hand"
            )
            return None


def _require_feed(snapshot: BedSnapshot, info: FeedInfo) -> None:
    facts = snapshot.facts
    if (facts.leads, facts.rate_hz) != (info.leads, info.rate_hz):
        raise UsageError(
            f"the state is of leads {','.join(facts.leads)} at {facts.rate_hz:g} Hz, the feed has "
            f"{','.join(info.leads)} at {info.rate_hz:g} Hz"
        )


class _InWard:
    """A bed as its station sees it: samples go to the inbox, and all else comes after what waits there."""

    def __init__(self, ward: Ward, name: str) -> None:
        self._ward, self._name = ward, name

    def push(self, samples_mv: NDArray[np.float32], *, t_s: float) -> list[Event]:
        self._ward.push(self._name, samples_mv, t_s=t_s)
        return []

    def advance(self, t_s: float) -> list[Event]:
        return self._ward.advance(self._name, t_s)

    def feed_lost(self) -> list[Event]:
        return self._settled(Bed.feed_lost)

    def journal(self, t_s: float, *, why: str | None) -> list[Event]:
        return self._settled(lambda bed: bed.journal(t_s, why=why))

    def model_late(self, t_s: float, *, why: str | None) -> list[Event]:
        return self._settled(lambda bed: bed.model_late(t_s, why=why))

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[Event]:
        return self._settled(lambda bed: bed.acknowledge(t_s, condition=condition, user=user))

    def pause_audio(self, t_s: float, *, duration_s: float, user: str) -> list[Event]:
        return self._settled(lambda bed: bed.pause_audio(t_s, duration_s=duration_s, user=user))

    def resume_audio(self, t_s: float, *, user: str) -> list[Event]:
        return self._settled(lambda bed: bed.resume_audio(t_s, user=user))

    def _settled(self, tell: Callable[[Bed], list[Event]]) -> list[Event]:
        return [*self._ward.settle(self._name), *tell(self._ward[self._name])]


class _Lines:
    """A sink of one bed: each event a JSON line that begins with the bed's name."""

    def __init__(self, name: str, outlet: Outlet) -> None:
        self._head = f'{{"bed":"{name}",'
        self._outlet = outlet

    async def send(self, event: Event) -> None:
        line = self._head + event_to_json(event)[1:]
        self._outlet.put(line.encode(), kind=event.type, urgent=event.type in ("alarm", "audio"))

    async def close(self) -> None:
        """Leave the outlet open: it is the ward's."""
