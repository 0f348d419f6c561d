"""What a bed costs when a bus feeds it: CPU time of the ward and of the NATS server, bytes on the wire.

Beds of 12 leads at 500 Hz of a SIMULATED patient on the embedded bundle, in messages of 250 ms. All of it is put onto
a bus on this machine first (that is the server's cost of taking it), then a node reads it as fast as it goes, which is
also how fast a node catches up. One process, one thread, beside the server.

    python benchmarks/bus_cost.py [--beds 64] [--seconds 60] [--out benchmarks/results/bus_cost.json]
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import cluster
import common
import typer

from ecgedge.bundle import load_bundle
from ecgedge.cluster.bus import Bus, open_bus
from ecgedge.cluster.message import BedChunk, encode_chunk
from ecgedge.cluster.ward_node import WardNode
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime.memory import keep_freed_memory
from ecgedge.signal import COMPILED
from ecgedge.sim import Simulator
from ecgedge.stream import Variants

RATE_HZ = 500.0
CHUNK = 125
STATE_S = 1.0
"""A node that catches up plays some ten seconds in one: so there are as many checkpoints as in life."""


def messages(seconds: int) -> list[bytes]:
    """Return a patient's messages."""
    samples_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(seconds * RATE_HZ))
    return [
        encode_chunk(
            BedChunk(STANDARD_LEADS, RATE_HZ, "demo", k / RATE_HZ, k // CHUNK, samples_mv[:, k : k + CHUNK])
        )
        for k in range(0, samples_mv.shape[1], CHUNK)
    ]


def cpu_s_of(process: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def publish(bus: Bus, beds: list[str], sent: list[bytes]) -> None:
    """Put the messages of all beds on the bus."""
    for k, message in enumerate(sent):
        await asyncio.gather(*(bus.publish(bed, message, number=k) for bed in beds))


async def cost(n_beds: int, seconds: int, folder: Path) -> dict[str, float]:
    """Publish, then read, and return what each took."""
    beds, sent = [f"bed-{k:03}" for k in range(n_beds)], messages(seconds)
    bundle = load_bundle("embedded")
    async with cluster.new_bus(folder) as (uri, bus, server):
        await publish(bus, beds, sent)
        taken_s = cpu_s_of(server)
        own = await open_bus(uri)
        # Nobody writes journals here.
        node = WardNode(bundle, Variants(bundle), own, state_s=STATE_S, journal_patience_s=0.0, say=print)
        running = asyncio.create_task(node.run())
        began_s, cpu_s = time.monotonic(), time.process_time()
        await node.take(beds)
        while any(bed.get("t_s", 0.0) < seconds - 1.0 for bed in node.status().values()):
            await asyncio.sleep(0.1)
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        given_s = cpu_s_of(server) - taken_s
        node.stop()
        await running
    bed_seconds = n_beds * seconds
    return {
        "beds": n_beds,
        "seconds": seconds,
        "us of a core a bed-second, ward with its bus client": 1e6 * cpu_s / bed_seconds,
        "us of a core a bed-second, server": 1e6 * (taken_s + given_s) / bed_seconds,
        "bytes a bed-second, onto the bus": sum(map(len, sent)) / seconds,
        "bed-seconds a second, catching up": bed_seconds / took_s,
    }


def main(
    beds: int = 64, seconds: int = 60, out: Path = Path(__file__).parent / "results" / "bus_cost.json"
) -> None:
    """Measure, and write it."""
    keep_freed_memory()
    COMPILED.on()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(cost(beds, seconds, Path(folder)))
    facts = {"benchmark": "bus_cost", **common.machine("numpy", "onnxruntime", "nats-py"), "simulated": True}
    common.write_json(out, {**facts, **found})
    for name, value in found.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    typer.run(main)
