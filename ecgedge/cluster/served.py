"""One bed on a node: samples come from the bus, what it says and knows goes to the bus.

Every checkpoint holds the bed, how far it has read, and what it has said that may not be on the bus yet. A bed is
deterministic, so a node that restores it and reads on says everything that was never told, and some of it twice.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ecgedge.bundle import Bundle
from ecgedge.cluster.bus import BedTaken, Bus, BusError, Delivery, Following
from ecgedge.cluster.checkpoint import Checkpoint, JournalPlace, Message, Position
from ecgedge.cluster.command import BedCommand, decode_command, is_command
from ecgedge.cluster.deliver import DeliveryWatch
from ecgedge.cluster.journal_part import Entries
from ecgedge.cluster.journal_watch import JournalWatch
from ecgedge.cluster.message import BedChunk, decode_chunk
from ecgedge.cluster.outbox import AGAIN_S, Outbox
from ecgedge.cluster.reading import Reading
from ecgedge.cluster.said import Said
from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError, RecordError, UsageError
from ecgedge.events import Estimate, Event
from ecgedge.feeds import Chunk
from ecgedge.pace import AgeWatch, PaceWatch
from ecgedge.policy import AlarmPolicy
from ecgedge.rerun import facts_of_bed
from ecgedge.station import Station
from ecgedge.stream import Bed, Variants, Ward
from ecgedge.stream.inbox import INBOX_S
from ecgedge.wards.commands import BED_COMMANDS, read_command
from ecgedge.wards.in_ward import InWard
from ecgedge.wards.state import ended_alarms

SILENT_S: Final = 2.0
"""A bed that has read all and heard nothing for so long is told that time passes; well above a message's length, since
samples that come after it take effect late."""

RENEW_S: Final = 10.0
"""A subscription that has brought nothing for so long is made anew."""

CATCHING_UP: Final = 8
"""Beds of a node that catch up at a time."""

STUCK_S: Final = 5.0
"""So is one whose bus has more for it, and does not deliver."""

LOOK_S: Final = 0.005
"""How often a full inbox is looked at."""

CLAIMS: Final = 5
"""So often a bed is asked for whose last node still keeps checkpoints."""


@dataclass
class NodeShared:
    """What all beds of a node share."""

    bundle: Bundle
    variants: Variants
    ward: Ward
    bus: Bus
    policies: dict[str, AlarmPolicy]
    say: Callable[[str], None]
    journals: JournalWatch
    delivery: DeliveryWatch = field(default_factory=DeliveryWatch)
    catching_up: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CATCHING_UP))


class ServedBed:
    """A bed, from the moment that it is asked for; there is a `Bed` once a checkpoint or a message has come."""

    def __init__(self, name: str, shared: NodeShared) -> None:
        self.name, self._shared = name, shared
        self._owner = uuid.uuid4().hex
        self.dropped: Counter[str] = Counter()
        self.saved_s = 0.0
        self.back = asyncio.Event()
        self._said = Said(name)
        self._signal: tuple[tuple[str, ...], float, Mode] | None = None
        self._station: Station | None = None
        self._pace: PaceWatch | None = None
        self._age = AgeWatch()
        self._outbox: Outbox | None = None
        self._following: Following | None = None
        self._reading = Reading()
        self._heard_s = self._delivered_s = time.monotonic()
        self._delivered, self._is_taking = 0, False
        self._published_s = 0.0
        self._is_caught_up = False
        self._replayed = 0

    # --- from the first moment to the last ---

    async def serve(self) -> None:
        """Restore the bed, follow the bus and write what it says, until cancelled.

        Raises
        ------
        BedTaken
            When another node serves it.
        """
        self._outbox = await self._claim()
        self._delivered = self._up_to().sequence
        following = asyncio.create_task(self._follow(), name=f"samples of {self.name}")
        try:
            await self._outbox.write()
        finally:
            following.cancel()
            await self._unfollow()

    async def _claim(self) -> Outbox:
        """Restore the bed and keep a checkpoint of our own: from then on no other node can tell of it."""
        for left in reversed(range(CLAIMS)):
            kept = await self._again(lambda: self._shared.bus.checkpoint(self.name))
            outbox = Outbox(self.name, self._shared.bus, revision=None if kept is None else kept.revision)
            try:
                if kept is not None:
                    await self._restore(kept.data, outbox)
            except BedTaken:  # whoever had the bed until now has kept one more meanwhile
                self.forget()
                if left == 0:
                    raise
                await asyncio.sleep(AGAIN_S)  # it may have several to keep
            else:
                break
        return outbox

    async def _follow(self) -> None:
        """Follow the bus; where nothing comes for long, anew: a subscription may have died and nobody said so."""
        while True:
            # All of them at once would be more than the server lets wait for a reader.
            async with self._shared.catching_up:
                self._delivered_s = time.monotonic()
                if self._following is None:
                    self._heard_s = self._delivered_s
                self._following = await self._again(
                    lambda: self._shared.bus.follow(self.name, self._take, after=self._delivered)
                )
                if self._following.pending == 0:
                    self._catch_up()
                while not (self.back.is_set() or self._is_deaf()):
                    await asyncio.sleep(LOOK_S)
            while not self._is_deaf():
                await asyncio.sleep(RENEW_S / 10.0)
            await self._unfollow()

    def _is_deaf(self) -> bool:
        return not self._is_taking and time.monotonic() - self._delivered_s > RENEW_S

    async def _unfollow(self) -> None:
        if self._following is not None:
            await self._following.close()

    async def _again(self, work: Callable[[], Any]) -> Any:
        said = ""
        while True:
            try:
                return await work()
            except BusError as error:
                if str(error) != said:
                    said = str(error)
                    self._say(f"{error}; trying again")
                await asyncio.sleep(AGAIN_S)

    async def settle_down(self) -> None:
        """Keep the bed as it is now, and wait until all that it said is on the bus."""
        await self._unfollow()
        self.save(time.monotonic())
        if self._outbox is not None:
            await self._outbox.sent()

    def forget(self) -> None:
        """Take the bed out of the ward; what it would still say, who serves it next says."""
        if self._station is not None:
            self._shared.ward.remove(self.name)
            self._station = None
        self._said.take()

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know, as plain JSON types."""
        found: dict[str, Any] = {"back": self.back.is_set(), "replayed_messages": self._replayed}
        found |= {"dropped": dict(self.dropped)} if self.dropped else {}
        if self._outbox is not None and self._outbox.trouble is not None:
            found["trouble"] = self._outbox.trouble
        if self._station is not None:
            bed = self._shared.ward[self.name]
            found |= {
                "t_s": bed.due_s,
                "waiting_samples": self._shared.ward.waiting(self.name),
                "alarms": [alarm.condition for alarm in bed.alarms()],
                "latency_ms": self._station.latency(),
            }
        return found

    # --- the bed ---

    async def _restore(self, data: bytes, outbox: Outbox) -> None:
        """Make the bed as it was left; what does not fit is set aside, and said."""
        shared = self._shared
        try:
            checkpoint = Checkpoint.from_bytes(data, source=f"the checkpoint of {self.name}")
            self._reading = Reading(checkpoint.position)
            policy = shared.policies.get(self.name)
            bed = Bed.restore(shared.bundle, checkpoint.snapshot, variants=shared.variants, policy=policy)
        except (RecordError, UsageError) as error:
            key = await self._again(lambda: shared.bus.set_aside(self.name, data))
            self._say(
                f"begins anew: {error}. What was kept is {key}: what was on or latched must be looked at by hand"
            )
            return
        station = self._add(bed, checkpoint.snapshot.facts.mode, checkpoint.journal, restored=True)
        on = bed.alarms()
        # Who heard of an alarm, and whether of its end, nobody knows: what is on and what is not any more is told anew.
        await station.emit([*on, *ended_alarms(checkpoint.snapshot, on)])
        await station.call("model_late", t_s=bed.due_s)
        station.wrong_rate, station.delayed = bed.holds("FEED_RATE"), bed.holds("FEED_DELAYED")
        station.undelivered, station.unwritten = bed.holds("DELIVERY_FAILED"), bed.holds("JOURNAL_FAILED")
        self._published_s = checkpoint.published_s
        self._age = AgeWatch(checkpoint.quickest, delayed=station.delayed)
        messages, data = self._checkpoint(checkpoint.messages)
        await outbox.claim(data)
        outbox.put((*checkpoint.messages, *messages))

    def _begin(self, chunk: BedChunk) -> None:
        shared = self._shared
        policy = shared.policies.get(self.name)
        bed = Bed(
            shared.bundle,
            leads=chunk.leads,
            rate_hz=chunk.rate_hz,
            variants=shared.variants,
            policy=policy,
            mode=chunk.mode,
        )
        self._add(bed, chunk.mode, JournalPlace(uuid.uuid4().hex, 0), restored=False)
        self._flush(keep=True)  # from here on it is this node's

    def _add(self, bed: Bed, mode: Mode, journal: JournalPlace, *, restored: bool) -> Station:
        self._signal = (bed.leads, bed.rate_hz, mode)
        variants = self._shared.variants
        facts = facts_of_bed(
            bed, f"bus:{self.name}", variants.runtimes, form=variants.form, restored=restored
        )
        entries = Entries(self.name, journal.journal, self._owner, facts, journal.number, journal.refused)
        if entries.refused is None and bed.holds("JOURNAL_FAILED"):  # until this node's own watch knows
            entries.behind = "not written when the bed was restored"
        self._said.begin(entries, mode)
        self._pace, self._age = PaceWatch(bed.rate_hz), AgeWatch()
        self._shared.ward.add(self.name, bed)
        self._station = Station(
            InWard(self._shared.ward, self.name),
            [self._said],
            entries,
            late_ms=bed.hop_s * 1e3,
            age_ms=self._age_ms,
            taken=lambda: (self._reading.n_came - self._shared.ward.waiting(self.name), bed.due_s),
        )
        return self._station

    def _age_ms(self, estimate: Estimate) -> float:
        """Return how long ago the last sample of an estimate's window was published, by this machine's clock."""
        bed, waiting = self._shared.ward[self.name], self._shared.ward.waiting(self.name)
        later_s = bed.reached_s + waiting / bed.rate_hz - estimate.t_s
        return max(0.0, time.time() - self._published_s + later_s) * 1e3

    # --- samples ---

    async def _take(self, delivery: Delivery) -> None:
        self._is_taking = True
        try:
            await (self._obey if is_command(delivery.data) else self._push)(delivery)
        except EcgedgeError as error:  # leads or a rate that no bed takes
            self._drop("refused", delivery)
            self._say(f"a message is dropped: {error}")
        finally:
            self._is_taking, self._delivered_s = False, time.monotonic()
        self._delivered = delivery.sequence
        if delivery.pending == 0:
            self._catch_up()

    async def _push(self, delivery: Delivery) -> None:
        chunk = decode_chunk(delivery.data)
        if isinstance(chunk, str):
            self._drop(chunk, delivery)
            return
        if self._station is None:
            self._begin(chunk)
        bed = self._shared.ward[self.name]
        if (chunk.leads, chunk.rate_hz, chunk.mode) != self._signal:
            self._drop("signal", delivery)
            return
        begun = self._reading.begun(delivery.sequence)
        samples_mv, t_s = chunk.samples_mv[:, begun:], chunk.t_s + begun / chunk.rate_hz
        await self._make_room(bed, samples_mv.shape[1])
        if self._station is not None:
            self._replayed += not self._is_caught_up
            self._hear(bed, samples_mv.shape[1], t_s)
            end_s = t_s + samples_mv.shape[1] / chunk.rate_hz
            await self._station.push(Chunk(t_s, samples_mv, chunk.sequence), end_s=end_s)
            self._reading.came(delivery.sequence, samples_mv.shape[1], begun=begun)
            self._published_s = delivery.published_s
            if chunk.live:
                await self._watch(self._station, t_s, end_s, delivery.published_s)

    async def _watch(self, station: Station, t_s: float, end_s: float, published_s: float) -> None:
        """Tell whether samples come at their rate and in time, by the bus's clock: so a move changes nothing."""
        self._age.heard(t_s, end_s, published_s)
        await station.tell_of_delay(self._age)
        if self._pace is not None:
            self._pace.heard(end_s, published_s)
            await station.tell_of_rate(self._pace)
        self._flush()

    def _hear(self, bed: Bed, n: int, t_s: float) -> None:
        """Note that something came, unless it is all from the past: then time passes as though nothing did."""
        waiting = self._shared.ward.waiting(self.name)
        if not bed.started or bed.missing(t_s, waiting=waiting) + n > 0:
            self._heard_s = time.monotonic()

    def _drop(self, why: str, delivery: Delivery) -> None:
        self.dropped[why] += 1
        self._reading.came(delivery.sequence)

    async def _make_room(self, bed: Bed, n: int) -> None:
        """Wait until another n samples fit: the bus remembers, so nothing is lost to a full inbox."""
        ward = self._shared.ward
        while self._station is not None and ward.waiting(self.name) >= INBOX_S / 2.0 * bed.rate_hz:
            await asyncio.sleep(LOOK_S)
        if self._station is not None and ward.waiting(self.name) + n > INBOX_S * bed.rate_hz:
            await self.emit(ward.settle(self.name))

    def _catch_up(self) -> None:
        self._is_caught_up = True
        self.back.set()

    # --- commands ---

    async def _obey(self, delivery: Delivery) -> None:
        """Do what is asked, in its place among the samples: whoever restores the bed before it does it there again."""
        command = decode_command(delivery.data)
        if command is None:
            self._drop("command", delivery)
            return
        if self._station is not None:
            await self.emit(self._shared.ward.settle(self.name))
        # From here to the checkpoint nothing else may run: one in between would hold the place without the deed.
        self._reading.came(delivery.sequence)
        try:
            answer = command.answer(self.name, **await self._do(command, delivery.published_s))
        except (EcgedgeError, ValueError) as error:  # ValueError: a key of a wrong name, type or value
            answer = command.answer(self.name, error=str(error))
        if command.id is not None:
            self._said.say(answer)
        self._flush(keep=True)

    async def _do(self, command: BedCommand, at_s: float) -> dict[str, Any]:
        """Do what was asked at a time of the bus; return what else there is to answer."""
        if command.do == "status":
            return {"status": self.status()}
        if command.do not in (*BED_COMMANDS, "journal"):
            raise UsageError(f"unknown command {command.do!r}; known are status, {', '.join(BED_COMMANDS)}")
        if self._station is None:
            raise UsageError(f"bed {self.name} has heard nothing of its feed yet")
        bed = self._shared.ward[self.name]
        if command.do == "journal":
            await self._hear_of_journal(command.asked.get("why"))
        else:
            # The samples' time by the bus's clock, not by this machine's: the next owner must find the same.
            t_s = bed.due_s + max(0.0, at_s - self._published_s)
            await self._station.obey(read_command(command.do, command.asked, bed.policy), t_s)
        return {}

    async def _hear_of_journal(self, why: Any) -> None:
        """Take that the disk does not take the journal, or does again; it may still be behind for another reason."""
        if self._station is not None and self._said.entries is not None:
            self._said.entries.refused = None if why is None else str(why)
            await self._station.tell_of_journal(self._said.entries.why)

    # --- what it says ---

    async def emit(self, events: Sequence[Event]) -> None:
        """Tell what the ward said of this bed."""
        if self._station is not None and events:
            await self._station.emit(events)
            self._flush()

    async def look_after(self, now_s: float) -> None:
        """Notice what services do not do, and silence: not while the bus has more, unless it is stuck."""
        silent_s = now_s - self._heard_s
        if self._station is None or self._following is None:
            return
        if self._is_caught_up:
            await self._tell_of_services(self._station)
        if silent_s < (SILENT_S if self._is_caught_up else STUCK_S):
            return
        await self.emit(self._shared.ward.settle(self.name))
        await self._station.call("advance", t_s=self._shared.ward[self.name].due_s + silent_s)
        self._flush()

    async def _tell_of_services(self, station: Station) -> None:
        """Tell where events begin not to be delivered, or journals not to be written, as far as the node knows."""
        delivery, journals = self._shared.delivery, self._shared.journals
        if delivery.is_known:
            await station.tell_of_delivery(delivery.why)
        if journals.is_known and self._said.entries is not None:
            self._said.entries.behind = journals.why
            await station.tell_of_journal(self._said.entries.why)
        self._flush()

    def save(self, now_s: float) -> None:
        """Keep a checkpoint, unless one waits to be kept."""
        self.saved_s = now_s
        if self._outbox is not None and not self._outbox.keeping:
            self._flush(keep=True)

    def _flush(self, *, keep: bool = False) -> None:
        """Send what was said; behind a checkpoint where it is urgent."""
        if self._outbox is None:
            return
        if self._station is not None and (keep or self._said.urgent):
            self.saved_s = time.monotonic()
            messages, data = self._checkpoint(self._outbox.unsent)
            self._outbox.put(messages, checkpoint=data)
        elif messages := self._said.take():
            self._outbox.put(messages)

    def _checkpoint(self, unsent: tuple[Message, ...]) -> tuple[tuple[Message, ...], bytes]:
        """Return what is to be told now, and the checkpoint that knows it and what was not told yet."""
        messages, journal = self._said.take_all()
        checkpoint = Checkpoint(
            self._up_to(),
            (*unsent, *messages),
            self._shared.ward[self.name].snapshot(),
            self._owner,
            journal,
            self._age.quickest,
            self._published_s,
        )
        return messages, checkpoint.to_bytes()

    def _up_to(self) -> Position:
        waiting = 0 if self._station is None else self._shared.ward.waiting(self.name)
        return self._reading.up_to(waiting=waiting)

    def _say(self, text: str) -> None:
        with suppress(OSError):
            self._shared.say(f"bed {self.name}: {text}")
