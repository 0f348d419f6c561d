"""What tests of the loop around a bed share: a sink that keeps, chunks of a simulated patient, a run."""

import asyncio
import math

from own_time import run_in_own_time

from ecgedge.feeds import Chunk
from ecgedge.service import run_stream
from ecgedge.sim import Simulator

RATE_HZ = 250.0


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.events = []

    async def send(self, event):
        self.events.append(event)

    async def close(self):
        pass

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def chunks_of(seconds, *, chunk_s, t0_s=0.0, scenario="stable"):
    samples_mv = Simulator(scenario, seed=1, rate_hz=RATE_HZ).read(round(seconds * RATE_HZ))
    n = round(chunk_s * RATE_HZ)
    starts = range(0, samples_mv.shape[1], n)
    return [Chunk(t0_s + k / RATE_HZ, samples_mv[:, k : k + n], i) for i, k in enumerate(starts)]


def run_bed(bed, feed, *sinks, **options):
    """Run the loop in a time of its own; in true time where a user types, whom a thread hears."""
    options = {"speed": math.inf, "read_clock": lambda: None, **options}
    running = run_stream(bed, feed, sinks=sinks, **options)
    if options.get("control") is not None:
        return asyncio.run(running)
    return run_in_own_time(running, "ecgedge.service", "ecgedge.station")
