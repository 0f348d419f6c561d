"""The ward's loop: feeds in; journals, events and snapshots out; and the wall clock.

The loop steps the ward, lets time pass for beds whose feeds are silent, and takes snapshots. Where the machine is too
slow, things give way in this order: snapshots come later; samples wait in their inboxes and estimates come late, which
their latency tells; a bed whose inbox is full loses its oldest samples and reports the gap; lines of events, but no
alarms, are given up for a reader who is too slow, and counted. Alarms and journals give way to nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecgedge.bundle import Bundle
from ecgedge.errors import UsageError
from ecgedge.events import event_to_json
from ecgedge.monitor.page import Page
from ecgedge.signal import COMPILED
from ecgedge.sinks import Output, first_trouble
from ecgedge.stream import Variants, Ward
from ecgedge.stream.ward import AT_ONCE
from ecgedge.wallclock import ClockWatch, ReadClock, clock_synchronised
from ecgedge.wards.config import BedConfig, WardSettings
from ecgedge.wards.delivery import Deliveries, Listener
from ecgedge.wards.notify import notify, watchdog_s
from ecgedge.wards.outlet import Outlet
from ecgedge.wards.place import Place, Shared

LOOP_S = 0.02
"""How long the loop rests where less than a batch is ready: so beds of all phases meet in batches."""

TICK_S = 0.25
"""How often beds are looked after: silence, snapshots."""

SHARES = 1.25
"""So many times a tick's even share of the snapshots may be written in it: what came late is made up for."""


class WardService:
    """Serves beds that come and go.

    Parameters
    ----------
    bundle, variants
        What serves all of them; the service closes the variants, also those that others took the place of.
    settings
        From the ward's file.
    outlet
        Where all events go, if anywhere.
    outputs
        Where they go over a network, too; who opened them closes them, after the service has ended.
    speed
        At which feeds play that are not live.
    say
        Takes what people must know and no event tells.
    read_clock
        Says whether the wall clock is synchronised.
    page
        Where all beds are shown, if anywhere; who opened it closes it.
    """

    def __init__(
        self,
        bundle: Bundle,
        variants: Variants,
        settings: WardSettings,
        *,
        outlet: Outlet | None = None,
        outputs: Sequence[Output] = (),
        speed: float = 1.0,
        say: Callable[[str], None],
        read_clock: ReadClock = clock_synchronised,
        page: Page | None = None,
    ) -> None:
        self._variants = variants
        clock = ClockWatch(read_clock)
        clock.look(time.monotonic())
        remembered = None if settings.state is None else Path(settings.state) / "stations.json"
        self.deliveries = Deliveries(delivery_s=settings.delivery_s, remembered=remembered, say=say)
        self._shared = Shared(
            bundle, variants, Ward(), settings, outlet, outputs, speed, say, clock, self.deliveries, page
        )
        self._places: dict[str, Place] = {}
        self._stop = asyncio.Event()
        self._began_s = time.monotonic()
        self._busy_s = 0.0

    def add(self, config: BedConfig) -> None:
        """Add a bed; its feed is opened, and opened again, from now on.

        Raises
        ------
        UsageError
            If there is one of its name, or the ward is full.
        RecipeError
            If its alarm policy cannot be read, or can never fire.
        """
        most = self._shared.settings.most_beds
        if config.name in self._places:
            raise UsageError(
                f"there is a bed {config.name} already; remove it first, or give the new one another name"
            )
        if most is not None and len(self._places) >= most:
            raise UsageError(f"the ward is full: it takes {most} beds, and {config.name} would be one more")
        self._places[config.name] = Place(config, self._shared)

    async def remove(self, name: str) -> None:
        """Let a bed go: it says all that it still has to say, and its summary.

        Raises
        ------
        UsageError
            If there is none of this name.
        """
        place = self.place(name)
        await place.leave(forget=True)
        if self._places.get(name) is place:  # who asked at the same time may have been faster
            del self._places[name]

    def place(self, name: str) -> Place:
        """Return a bed's place.

        Raises
        ------
        UsageError
            If there is none of this name.
        """
        if name not in self._places:
            raise UsageError(f"there is no bed {name}; there are {', '.join(self._places) or 'none'}")
        return self._places[name]

    async def swap(self, bundle: Bundle, variants: Variants) -> None:
        """Let another bundle serve all beds from their next windows on.

        Raises
        ------
        UsageError
            If some bed cannot be served by it; then the old one goes on serving all.
        """
        places = [place for place in self._places.values() if place.bed is not None]
        for place in places:
            place.require_serves(bundle, variants)
        for place in places:
            await place.swap(bundle, variants)
        self._shared.bundle, self._shared.variants = bundle, variants
        if self._shared.page is not None:
            self._shared.page.serve(bundle)
        old, self._variants = self._variants, variants
        old.close()

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        shared = self._shared
        return {
            "bundle": shared.bundle.id,
            "simulated": shared.bundle.simulated,
            "beds": {name: place.status() for name, place in self._places.items()},
            "compiled_loops": COMPILED.loops is not None,
            "clock_synchronised": shared.clock.synchronised,
            "busy": round(self._busy_s / max(1e-9, time.monotonic() - self._began_s), 4),
            "dropped_lines": {} if shared.outlet is None else dict(shared.outlet.dropped),
            "events_trouble": None if shared.outlet is None else shared.outlet.failure,
            "channels": {
                "events": None if shared.outlet is None else {"delivery": "information only"},
                "stations": self.deliveries.status(),
                "sinks": {output.name: output.status() for output in self._shared.outputs},
            },
            **({} if shared.page is None else {"page": shared.page.counts()}),
            "research_use_only": True,
        }

    def listen(self, station: str, writer: asyncio.StreamWriter) -> Listener:
        """Let a station listen on this connection; see `Deliveries.listen`."""
        on = [
            (name, event_to_json(alarm))
            for name, place in self._places.items()
            if place.bed is not None
            for alarm in place.bed.alarms()
        ]
        return self.deliveries.listen(station, writer, on)

    def stop(self) -> None:
        """End `run` in good order."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`, then let every bed say the rest, and close all."""
        notify("READY=1")
        try:
            await self._serve()
        finally:
            notify("STOPPING=1")
            for place in self._places.values():
                await place.leave(forget=False)
            await self.deliveries.close()
            self._variants.close()

    async def _serve(self) -> None:
        watchdog = watchdog_s()
        next_tick_s = next_word_s = 0.0
        while not self._stop.is_set():
            began_s = time.monotonic()
            said = self._shared.ward.step()
            for name, events in said.items():
                await self._places[name].emit(events)
            if began_s >= next_tick_s:
                next_tick_s = began_s + TICK_S
                await self._look_after(began_s)
            if watchdog is not None and began_s >= next_word_s:
                next_word_s = began_s + watchdog / 3.0
                notify("WATCHDOG=1")
            self._busy_s += time.monotonic() - began_s
            await asyncio.sleep(self._rest_s())

    def _rest_s(self) -> float:
        ready = self._shared.ward.ready
        # Feeds that play faster than time would wait for each rest.
        hurried = self._shared.speed > 1.0 and ready > 0
        return 0.0 if hurried or ready >= AT_ONCE else LOOP_S

    async def _look_after(self, now_s: float) -> None:
        places = list(self._places.values())
        self._shared.clock.look(now_s)
        self.deliveries.look(now_s)
        self._shared.untaken = first_trouble(self._shared.outputs)
        for place in places:
            await place.look_after(now_s)
        for place in places_to_save(places, now_s, state_s=self._shared.settings.state_s):
            place.save(now_s)


def places_to_save(places: Sequence[Place], now_s: float, *, state_s: float) -> list[Place]:
    """Return whose snapshots are due, the oldest first, and no more than a tick's share: the disk meets no wave."""
    share = math.ceil(SHARES * len(places) * TICK_S / state_s)
    due = [place for place in places if now_s - place.saved_s >= state_s]
    return sorted(due, key=lambda place: place.saved_s)[:share]
