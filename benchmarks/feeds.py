"""What a live feed costs: latency, processor time and bytes of each transport, both ends in one process over loopback.

12 leads of a SIMULATED patient at 500 Hz in chunks of 40 ms (MLLP: messages of a second, as monitors send; SDC: reports
of 100 ms; Vital Recorder: a second at the 100 Hz that it sends), for `--seconds` each, through the sender of
`ecgedge feed send` and the feed that a bed reads. Latency: from handing a message's last sample to the transport until
the feed delivers it. CPU: both ends together, of one core. Bytes: of the messages, without TCP's own (SDC: of the XML
that comes). MQTT needs Debian's mosquitto, which runs beside and is not counted; LSL is kept on this machine.

    python benchmarks/feeds.py [--seconds 20] [--out benchmarks/results/feeds.json]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import typer

from ecgedge.feeds import Chunk, Feed, open_feed
from ecgedge.feeds.sdc import SdcSource
from ecgedge.rig import Faults, FaultyLine, Sender, open_sender, play

SOURCE = "sim:stable?rate_hz=500&chunk_ms=40"
CHUNK = 20
"""Samples of a chunk of it."""

LSL = "[multicast]\nResolveScope=machine\n[lab]\nKnownPeers={127.0.0.1}\n[ports]\nIPv6=disable\n[log]\nlevel=-3\n"


NO_SAMPLES = 128
"""Bytes: a device of the bridge also sends INFO and PONG, which are shorter than any message of samples here."""


class Timed:
    """A sender that notes when samples went out, by the number of messages' samples so far, and how many bytes."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.sent_s: list[float] = []
        self.n_bytes = 0

    def encode(self, chunk: Chunk) -> list[bytes]:
        """As the sender does."""
        return self._sender.encode(chunk)

    async def send(self, message: bytes) -> None:
        """Send, and note when."""
        if len(message) > NO_SAMPLES:
            self.sent_s.append(time.perf_counter())
        self.n_bytes += len(message)
        await self._sender.send(message)

    async def close(self) -> None:
        """As the sender does."""
        await self._sender.close()


async def one(
    to: str, feed_uri: str | None, seconds: float, *, sender_first: bool, whole: int = 0
) -> dict[str, float]:
    """Play for some seconds; return what it cost. `whole`: samples of a message that may come in pieces."""
    told: asyncio.Queue[str] = asyncio.Queue()
    source = await open_feed(SOURCE)
    opening = None if sender_first else asyncio.create_task(open_feed(feed_uri or to))
    await asyncio.sleep(0.3)
    sending = asyncio.create_task(open_sender(to, source.info, say=told.put_nowait))
    said = await told.get()
    if opening is None:
        opening = asyncio.create_task(open_feed(said.split()[-1]))
    sender = Timed(await sending)
    cpu_s, began_s = time.process_time(), time.perf_counter()
    line = FaultyLine(Faults(), source.info.leads)
    playing = asyncio.create_task(play(source, sender, line, duration_s=seconds))
    got_s = await read(await opening, playing, whole=whole)
    wall_s = time.perf_counter() - began_s
    used_s = time.process_time() - cpu_s
    n = min(len(got_s), len(sender.sent_s))
    latency_ms = (np.array(got_s[:n]) - np.array(sender.sent_s[:n])) * 1e3
    await sender.close()
    await source.close()
    return {
        "messages": n,
        "latency ms, p50": round(float(np.percentile(latency_ms, 50)), 3),
        "latency ms, p99": round(float(np.percentile(latency_ms, 99)), 3),
        "CPU of a core, both ends": round(used_s / wall_s, 4),
        "bytes a second": round(sender.n_bytes / wall_s),
    }


async def read(feed: Feed, playing: asyncio.Task[int], *, whole: int) -> list[float]:
    """Return when each message's samples came, until the sender is done."""
    got_s: list[float] = []

    async def follow() -> None:
        n = 0
        async for chunk in feed:
            now_s = time.perf_counter()
            n += chunk.samples_mv.shape[1]
            complete = n // whole if whole else len(got_s) + 1
            got_s.extend([now_s] * (complete - len(got_s)))

    following = asyncio.create_task(follow())
    await playing
    await asyncio.sleep(0.5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await feed.close()
    return got_s


@contextlib.contextmanager
def counted_reports() -> Iterator[list[int]]:
    """Give the lengths of the reports that come from an SDC provider, meanwhile."""
    lengths: list[int] = []
    heard = SdcSource._heard  # noqa: SLF001 - nobody else sees the XML as it comes

    def counted(source: SdcSource, message: Any) -> None:
        lengths.append(len(message.p_msg.raw_data))
        heard(source, message)

    SdcSource._heard = counted  # noqa: SLF001 - as above
    try:
        yield lengths
    finally:
        SdcSource._heard = heard  # noqa: SLF001 - as above


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def all_transports(seconds: float, broker_port: int | None) -> dict[str, dict[str, float]]:
    """Measure one after the other."""
    found = {"tcp": await one("tcp://127.0.0.1:0", None, seconds, sender_first=True)}
    found["ws, binary"] = await one("ws://127.0.0.1:0/bed", None, seconds, sender_first=True)
    mllp = f"mllp://127.0.0.1:{free_port()}"
    with counted_reports() as report_bytes:
        found["sdc"] = await one("sdc://127.0.0.1", None, seconds, sender_first=True)
    found["sdc"]["bytes a second"] = round(sum(report_bytes) / seconds)
    found["mllp"] = await one(mllp, None, seconds, sender_first=False)
    vital = f"vital://127.0.0.1:{free_port()}?vr=bench"
    found["vital, 100 Hz"] = await one(vital, None, seconds, sender_first=False)
    if broker_port is not None:
        topic = f"mqtt://127.0.0.1:{broker_port}/bench"
        found["mqtt, binary"] = await one(topic, None, seconds, sender_first=False)
        found["mqtt, json"] = await one(f"{topic}/j?format=json", f"{topic}/j", seconds, sender_first=False)
    found["lsl"] = await one(f"lsl:bench-{os.getpid()}", None, seconds, sender_first=False, whole=CHUNK)
    return found


def main(seconds: float = 20.0, out: Path | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    broker, port = None, None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LSLAPICFG"] = str(Path(folder, "lsl_api.cfg"))
        Path(folder, "lsl_api.cfg").write_text(LSL)
        if program is not None:
            port = free_port()
            broker = subprocess.Popen([program, "-p", str(port)], cwd=folder, stderr=subprocess.DEVNULL)
            time.sleep(1.0)
        try:
            found = asyncio.run(all_transports(seconds, port))
        finally:
            if broker is not None:
                broker.terminate()
    result = {
        "benchmark": "feeds",
        **common.machine("numpy", "aiomqtt", "sdc11073", "pylsl", "ecgedge"),
        "simulated": True,
        "seconds": seconds,
        "transports": found,
    }
    print(json.dumps(result, indent=1))
    if out:
        common.write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
