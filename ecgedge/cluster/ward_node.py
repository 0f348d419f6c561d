"""A node of the cluster: the beds that it is given, fed by the bus, in one ward.

It owns a loop and the wall clock, as `ecgedge.wards.serve` does; nobody tells it of other nodes. That a bed has been
given to another one it learns from the bus, which then refuses its checkpoint: it lets the bed go and tells no more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from ecgedge.bundle import Bundle
from ecgedge.cluster.bus import BedTaken, Bus
from ecgedge.cluster.deliver import RENEW_S
from ecgedge.cluster.journal_watch import PATIENCE_S, JournalWatch
from ecgedge.cluster.served import NodeShared, ServedBed
from ecgedge.policy import AlarmPolicy
from ecgedge.stream import Variants, Ward
from ecgedge.stream.ward import AT_ONCE
from ecgedge.tasks import end_tasks
from ecgedge.wards.serve import LOOP_S, SHARES, TICK_S

STATE_S: Final = 10.0
"""Seconds between a bed's checkpoints; one more stands before each alarm."""

BACK_S: Final = 60.0
"""A bed that has not read all that the bus has for it in this time is not waited for any longer."""

LEAVE_S: Final = 10.0
"""So long the bus is waited for when a bed is let go; who takes it next reads on from an older checkpoint then."""


class WardNode:
    """Serves named beds.

    Parameters
    ----------
    bundle, variants
        What serves all of them; the node closes the variants.
    bus
        Samples in, events and checkpoints out; the node closes it.
    policies
        Alarm policies of beds that have one of their own; the bundle's for the others.
    state_s
        Seconds between a bed's checkpoints.
    journal_patience_s
        So long entries of the journals may wait to be written; then the beds say so. 0: nobody is meant to write any.
    say
        Takes what people must know and no event tells.
    """

    def __init__(
        self,
        bundle: Bundle,
        variants: Variants,
        bus: Bus,
        *,
        policies: Mapping[str, AlarmPolicy] | None = None,
        state_s: float = STATE_S,
        journal_patience_s: float = PATIENCE_S,
        say: Callable[[str], None],
    ) -> None:
        journals = JournalWatch(journal_patience_s)
        self._shared = NodeShared(bundle, variants, Ward(), bus, dict(policies or {}), say, journals)
        self._state_s = state_s
        self._beds: dict[str, ServedBed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    async def take(self, names: Iterable[str]) -> dict[str, float]:
        """Serve these beds from now on; return, for each that is back, after how many seconds it was.

        A bed is back when it has read all that the bus has for it. Those that are served already are left alone.
        """
        began_s = time.monotonic()
        wanted = list(names)
        for name in wanted:
            if name not in self._beds:
                self._begin(name)
        waiting = [self._back(name, began_s) for name in wanted]
        return {name: took_s for name, took_s in await asyncio.gather(*waiting) if took_s is not None}

    async def release(self, names: Iterable[str]) -> None:
        """Let beds go: each is kept as it is, and what it said is told."""
        await asyncio.gather(*(self._release(name) for name in list(names)))

    @property
    def beds(self) -> tuple[str, ...]:
        """Who is served here."""
        return tuple(self._beds)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what an overseer wants to know of each bed, as plain JSON types."""
        return {name: bed.status() for name, bed in self._beds.items()}

    def stop(self) -> None:
        """End `run` in good order."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`, then let every bed go."""
        watching = asyncio.create_task(self._watch_services(), name="services")
        try:
            await self._serve()
        finally:
            watching.cancel()
            await self.release(self.beds)
            await self._shared.bus.close()
            self._shared.variants.close()

    # --- one bed ---

    def _begin(self, name: str) -> None:
        bed = ServedBed(name, self._shared)
        self._beds[name] = bed
        self._tasks[name] = asyncio.create_task(self._serve_bed(bed), name=f"bed {name}")

    async def _serve_bed(self, bed: ServedBed) -> None:
        try:
            await bed.serve()
        except BedTaken as taken:
            self._shared.say(str(taken))
        except Exception as error:  # noqa: BLE001 - whatever it is: the other beds go on
            self._shared.say(f"bed {bed.name} is not served any more: {type(error).__name__}: {error}")
        else:
            return
        self._forget(bed)

    def _forget(self, bed: ServedBed) -> None:
        bed.forget()
        if self._beds.get(bed.name) is bed:
            del self._beds[bed.name], self._tasks[bed.name]

    async def _back(self, name: str, began_s: float) -> tuple[str, float | None]:
        bed = self._beds.get(name)
        if bed is None:
            return name, None
        try:
            await asyncio.wait_for(bed.back.wait(), BACK_S)
        except (asyncio.TimeoutError, TimeoutError):
            return name, None
        return name, time.monotonic() - began_s

    async def _release(self, name: str) -> None:
        bed = self._beds.get(name)
        if bed is None:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(bed.settle_down(), LEAVE_S)
        await end_tasks(self._tasks[name])
        self._forget(bed)

    # --- all of them ---

    async def _watch_services(self) -> None:
        while True:
            await self._shared.delivery.look(self._shared.bus)
            await self._shared.journals.look(self._shared.bus)
            await asyncio.sleep(RENEW_S)

    async def _serve(self) -> None:
        next_tick_s = 0.0
        while not self._stop.is_set():
            now_s = time.monotonic()
            for name, events in self._shared.ward.step().items():
                if name in self._beds:  # who was let go meanwhile says it elsewhere
                    await self._beds[name].emit(events)
            if now_s >= next_tick_s:
                next_tick_s = now_s + TICK_S
                await self._look_after(now_s)
            await asyncio.sleep(self._rest_s())

    def _rest_s(self) -> float:
        ready = self._shared.ward.ready
        # Who has to catch up would wait for each rest.
        hurried = ready > 0 and not all(bed.back.is_set() for bed in self._beds.values())
        return 0.0 if hurried or ready >= AT_ONCE else LOOP_S

    async def _look_after(self, now_s: float) -> None:
        beds = list(self._beds.values())
        for bed in beds:
            await bed.look_after(now_s)
        share = math.ceil(SHARES * len(beds) * TICK_S / self._state_s)
        due = [bed for bed in beds if now_s - bed.saved_s >= self._state_s]
        for bed in sorted(due, key=lambda bed: bed.saved_s)[:share]:
            bed.save(now_s)
