"""Samples onto a bus, and what is told there; what a bed alone would say of the same samples."""

import asyncio
import json
from contextlib import asynccontextmanager

from ecgedge.cluster.bus import BusError, open_bus
from ecgedge.cluster.command import decode_command
from ecgedge.cluster.journal_keeper import JournalKeeper
from ecgedge.cluster.message import BedChunk, decode_chunk, encode_chunk
from ecgedge.events import event_to_dict
from ecgedge.inputs import apply, from_command
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.stream import Bed
from ecgedge.wards.commands import BED_COMMANDS, read_command

RATE_HZ = 250.0
QUICK = AlarmPolicy(persistence_s=20.0, recovery_window_s=20.0)
TOLD_AGAIN = "as told again after a restart"


def messages(samples_mv, *, t0_s=0.0, chunk_s=0.4, leads=STANDARD_LEADS, live=False):
    """One message a chunk."""
    n = round(chunk_s * RATE_HZ)
    return [
        encode_chunk(BedChunk(leads, RATE_HZ, "demo", t0_s + k / RATE_HZ, i, samples_mv[:, k : k + n], live))
        for i, k in enumerate(range(0, samples_mv.shape[1], n))
    ]


async def put(bus, bed, message, number):
    """Publish until the bus has it."""
    while True:
        try:
            return await bus.publish(bed, message, number=number)
        except BusError:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def keeping(uri, folder, said):
    """Have the journals written meanwhile; give who writes them."""
    bus = await open_bus(uri)
    keeper = JournalKeeper(bus, folder, say=said.append)
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        keeper.stop()
        await running
        await bus.close()


class Told:
    """Every line that is told on the bus, as it comes."""

    def __init__(self):
        self.lines = []

    @classmethod
    async def follow(cls, bus):
        told = cls()
        await bus.follow_events(told._take)
        return told

    async def _take(self, delivery):
        self.lines.append((delivery.published_s, json.loads(delivery.data)))

    def of(self, bed):
        return [line for _, line in self.lines if line["bed"] == bed]

    async def until(self, is_so, *, timeout_s=60.0):
        async def wait():
            while not is_so(self):
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), timeout_s)


def facts(lines, *, until_s):
    """Lines as a set, without what the wall clock brings and what a restart tells again."""
    return {
        json.dumps({k: v for k, v in line.items() if k != "latency_ms"}, sort_keys=True)
        for line in lines
        if line.get("t_s", 0.0) <= until_s
        and line["type"] not in ("moved", "summary", "answer")
        and line.get("condition") != "MODEL_LATE"
        and TOLD_AGAIN not in line.get("text", "")
    }


def alone(bundle, variants, bed, samples_mv, *, leads=STANDARD_LEADS, policy=QUICK):
    """What an uninterrupted bed says, as lines."""
    straight = Bed(bundle, leads=leads, rate_hz=RATE_HZ, variants=variants, policy=policy, mode="demo")
    return [{"bed": bed, **event_to_dict(event)} for event in straight.push(samples_mv, t_s=0.0)]


async def stream_of(bus, bed, last):
    """All messages of a bed up to a sequence."""
    found, whole = [], asyncio.Event()

    async def take(delivery):
        found.append(delivery)
        if delivery.sequence >= last:
            whole.set()

    following = await bus.follow(bed, take, after=0)
    await asyncio.wait_for(whole.wait(), 20.0)
    await following.close()
    return found


def obeyed_alone(bundle, variants, bed, deliveries, *, policy=QUICK):
    """What an uninterrupted bed says that is given the messages of a stream in their order, commands and all."""
    straight = Bed(
        bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=policy, mode="demo"
    )
    events, came_s = [], 0.0
    for delivery in deliveries:
        command = decode_command(delivery.data)
        if command is None:
            chunk = decode_chunk(delivery.data)
            events += straight.push(chunk.samples_mv, t_s=chunk.t_s)
            came_s = delivery.published_s
        elif command.do in BED_COMMANDS:
            asked = from_command(
                read_command(command.do, command.asked, policy),
                samples=0,
                t_s=straight.due_s + (delivery.published_s - came_s),
            )
            events += apply(straight, asked)
    return [{"bed": bed, **event_to_dict(event)} for event in events]
