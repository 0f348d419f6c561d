"""What the bedside page costs a bed: no page, a page that nobody watches, a page with one viewer.

12 leads at 500 Hz of a SIMULATED patient in chunks of 20 ms, the embedded bundle, played 25 times as fast as time, so
that the viewer (a process of its own that reads all) keeps up. CPU time of the process that serves, by the stream's
seconds; medians of interleaved rounds. Messages that the viewer lost are counted, and stand beside the figures.

    python benchmarks/page.py [--out benchmarks/results/page.json]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from common import machine, medians, ratio, take_turns, write_json
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.control import Command
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.leads import STANDARD_LEADS
from ecgedge.monitor.beds import BedFacts
from ecgedge.monitor.page import Page, Serving
from ecgedge.monitor.settings import PageSettings
from ecgedge.monitor.tap import PageTap
from ecgedge.service import run_stream
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants

RATE_HZ = 500.0
SECONDS = 50
CHUNK = 10
SPEED = 25.0
ROUNDS = 9

VIEWER = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession() as session, session.ws_connect(sys.argv[1] + "ws") as ws:
        await ws.send_json({"do": "watch", "bed": "bed"})
        n = 0
        async for message in ws:
            n += message.type == aiohttp.WSMsgType.BINARY
            if message.type == aiohttp.WSMsgType.TEXT and message.json()["type"] == "history":
                print("watching", flush=True)
        print(n, flush=True)
asyncio.run(main())
"""


class Played:
    """A feed that plays samples at `SPEED`."""

    def __init__(self, samples_mv: NDArray[np.float32]) -> None:
        self.info = FeedInfo("memory:", STANDARD_LEADS, RATE_HZ, "demo", CHUNK / RATE_HZ)
        self.dropped: dict[str, int] = {}
        self._samples_mv = samples_mv

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks when they are due."""
        began_s = time.monotonic()
        for seq, first in enumerate(range(0, self._samples_mv.shape[1], CHUNK)):
            t_s = first / RATE_HZ
            await asyncio.sleep(max(0.0, began_s + t_s / SPEED - time.monotonic()))
            yield Chunk(t_s, self._samples_mv[:, first : first + CHUNK], seq)

    async def close(self) -> None:
        """Nothing is held."""


class Sent:
    """Counts what a viewer got of what there was."""

    def __init__(self) -> None:
        self.shown = self.got = 0


async def nobody_obeys(bed: str, command: Command) -> None:
    """No command comes."""
    del bed, command


async def stream(
    samples_mv: NDArray[np.float32], bundle: Bundle, variants: Variants, case: str, sent: Sent
) -> float:
    """Stream once, and return CPU milliseconds a second of the stream."""
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    feed = Played(samples_mv)
    if case == "no_page":
        return await _timed(bed, feed, None)
    serving = Serving(bundle, bed.policy, "demo")
    page = Page(PageSettings("0"), serving, obey=nobody_obeys, speed=SPEED, say=lambda _: None)
    tap = PageTap(page.hub, "bed", dict)
    tap.describe(BedFacts(bed.leads, RATE_HZ, "memory:", "demo", bed.policy))
    await page.open()
    viewer = await _viewer(page.url) if case == "one_viewer" else None
    try:
        return await _timed(bed, feed, tap)
    finally:
        await page.close()
        if viewer is not None:
            out, _ = await asyncio.to_thread(viewer.communicate, timeout=30.0)
            sent.shown += page.hub.beds["bed"].seq
            sent.got += int(out.split()[-1])


async def _timed(bed: Bed, feed: Played, tap: PageTap | None) -> float:
    began = time.process_time()
    sinks = [] if tap is None else [tap]
    await run_stream(bed, feed, sinks=sinks, speed=SPEED, tap=None if tap is None else tap.samples)
    return (time.process_time() - began) * 1e3 / SECONDS


async def _viewer(url: str) -> subprocess.Popen[str]:
    viewer = subprocess.Popen([sys.executable, "-c", VIEWER, url], stdout=subprocess.PIPE, text=True)
    if viewer.stdout is None or not await asyncio.to_thread(viewer.stdout.readline):
        raise SystemExit("the viewer did not come")
    return viewer


def main(out: Path = Path("benchmarks/results/page.json"), rounds: int = ROUNDS) -> None:
    """Measure, and write the results."""
    bundle, sent = load_bundle("embedded"), Sent()
    samples_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    with Variants(bundle) as variants:

        def case(name: str) -> Any:
            return lambda: asyncio.run(stream(samples_mv, bundle, variants, name, sent))

        said = take_turns(
            {name: case(name) for name in ("no_page", "unwatched", "one_viewer")}, rounds=rounds
        )
    found = {
        **machine("ecgedge", "aiohttp", "numpy"),
        "what": "CPU ms of the serving process for a second of one bed's stream: 12 leads at 500 Hz, chunks of 20 ms",
        "rounds": rounds,
        "cpu_ms_per_bed_second": {name: round(ms, 3) for name, ms in medians(said).items()},
        "bed_seconds_per_cpu_second": {name: round(1e3 / ms, 1) for name, ms in medians(said).items()},
        "unwatched_over_no_page": round(ratio(said, "unwatched", "no_page"), 4),
        "one_viewer_over_no_page": round(ratio(said, "one_viewer", "no_page"), 4),
        "messages": {"shown": sent.shown, "got_by_the_viewer": sent.got},
    }
    write_json(out, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
