"""What goes wrong between a device and a ward: what is told, how soon, and how long until estimates are valid again.

One ward with one bed a fault, all at once, over loopback: a real broker, providers and devices (`ecgedge feed send`),
and proxies that cut and delay. Each bed's SIMULATED patient is well; only the way to it is not. Seconds from the fault
until the event is told, and from its end until the next valid estimate (windows are 10 s long). Needs Debian's
mosquitto, openssl and the extras mqtt, sdc, lsl and vital.

    python benchmarks/faults.py [--out benchmarks/results/faults.json]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import numpy as np
import typer
from faults_rig import Broker, Device, Proxy, certificates, free_port, lsl_on_this_machine

import ecgedge
from ecgedge.feeds.declared import Declared
from ecgedge.feeds.messages import write_declared, write_json
from ecgedge.hl7 import frame
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge.stream import Variants
from ecgedge.wards.config import BedConfig, WardSettings
from ecgedge.wards.serve import WardService

LEADS = ("I", "II", "V2")
SOURCE = f"sim:stable?leads={','.join(LEADS)}&rate_hz=250&chunk_ms=100"
LONGEST_S = 120.0
"""A fault that is not told within this, or a bed that is not back, is a failure."""

CUT_S = 30.0


@dataclass
class Case:
    """A fault: whose bed it is, what is done, and which event tells of it.

    Attributes
    ----------
    tells
        Whether a line of the bed's tells of the fault; None where nothing is to be told but a count.
    counts
        The name under which the feed counts it, if it does.
    heals
        Whether estimates become valid again once `end` is done.
    from_start
        Whether the fault is there from the beginning: then no valid estimate is waited for before.
    """

    name: str
    transport: str
    feed: str
    tells: Callable[[dict[str, Any]], bool] | None
    event: str
    begin: Callable[[], Awaitable[None] | None] = lambda: None
    end: Callable[[], Awaitable[None] | None] = lambda: None
    lasts_s: float = 0.0
    counts: str | None = None
    heals: bool = True
    from_start: bool = False
    devices: list[Device] = field(default_factory=list)


class Heard:
    """Lines of all beds with the time at which they were told, as a ward's outlet."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self.dropped: dict[str, int] = {}
        self.failure = None

    def put(self, line: bytes, *, kind: str, urgent: bool) -> None:
        """Take a line."""
        del kind, urgent
        self.lines.append((time.monotonic(), json.loads(line)))

    def first(self, bed: str, tells: Callable[[dict[str, Any]], bool], since_s: float) -> float | None:
        """Return when a bed first told something since a time, if it did."""
        found = (t for t, line in self.lines if t >= since_s and line["bed"] == bed and tells(line))
        return next(found, None)


def alarm(condition: str) -> Callable[[dict[str, Any]], bool]:
    """Tell the onset of a condition."""
    return lambda line: line.get("condition") == condition and line["presence"] == "on"


def is_valid(line: dict[str, Any]) -> bool:
    """Tell a valid estimate."""
    return line["type"] == "estimate" and line["validity"] == "valid"


def is_gap(line: dict[str, Any]) -> bool:
    """Tell of samples that are missing."""
    return line["type"] == "feed" and line["state"] == "gap"


async def measure(case: Case, heard: Heard, service: WardService) -> dict[str, Any]:
    """Wait until the bed is well, do the fault, and see what comes of it."""
    for device in case.devices:
        device.start()
    if not case.from_start:
        await until(lambda: heard.first(case.name, is_valid, 0.0), f"{case.name}: no valid estimate at all")
    began_s = time.monotonic()
    await done(case.begin())
    told_s: float | None = None
    if case.tells is refused:
        told_s = await until(lambda: trouble(service, case.name), f"{case.name}: not refused")
    elif case.tells is not None:
        tells = case.tells
        told_s = await until(lambda: heard.first(case.name, tells, began_s), f"{case.name}: not told")
    await asyncio.sleep(max(0.0, began_s + case.lasts_s - time.monotonic()))
    counted = dropped(service, case.name)
    await done(case.end())
    ended_s, valid_s = time.monotonic(), None
    if case.heals:
        valid_s = await until(
            lambda: heard.first(case.name, is_valid, ended_s), f"{case.name}: never valid again"
        )
    counted = {**counted, **dropped(service, case.name)}
    typer.echo(f"{case.name} {case.event} ({case.transport}): done", err=True)
    return {
        "transport": case.transport,
        "event": case.event,
        "told after s": None if told_s is None else round(told_s - began_s, 1),
        "valid after s": None if valid_s is None else round(valid_s - ended_s, 1),
        "counted": counted.get(case.counts, 0) if case.counts else None,
        "counted as": case.counts,
    }


def refused(_: dict[str, Any]) -> bool:
    """Stand for a feed that never opens: the ward's status says why."""
    return False


def trouble(service: WardService, bed: str) -> float | None:
    """Return now, once the ward's status says why a bed's feed does not open."""
    return time.monotonic() if "trouble" in service.status()["beds"][bed] else None


def dropped(service: WardService, bed: str) -> dict[str, int]:
    """Return what the bed's feed has counted."""
    found: dict[str, int] = service.status()["beds"][bed].get("health", {}).get("dropped", {})
    return found


async def done(result: Awaitable[None] | None) -> None:
    """Wait for what may be waited for."""
    if result is not None:
        await result


async def until(found: Callable[[], float | None], why: str) -> float:
    """Wait for a time; RuntimeError if it never comes."""
    deadline_s = time.monotonic() + LONGEST_S
    while (value := found()) is None:
        if time.monotonic() > deadline_s:
            raise RuntimeError(why)
        await asyncio.sleep(0.05)
    return value


async def wrong_unit(port: int) -> None:
    """Be a device that says mV and sends uV, after a while of millivolts."""
    import aiomqtt

    simulator = Simulator("stable", seed=5, rate_hz=250.0)
    rows = [STANDARD_LEADS.index(lead) for lead in LEADS]
    declared = Declared(channels=LEADS, rate_hz=250.0, lsb_nv=1000.0, mode="demo", chunk_s=0.1)
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.publish("unit/info", write_declared(declared), qos=1, retain=True)
        index, began_s = 0, time.monotonic()
        while True:
            samples_mv = simulator.read(25)[rows]
            scale = 1000.0 if wrong_unit_on else 1.0
            await client.publish("unit/json", write_json(samples_mv * np.float32(scale), index=index))
            index += 25
            await asyncio.sleep(max(0.0, began_s + index / 250.0 - time.monotonic()))


wrong_unit_on: list[bool] = []
"""Holds something while the device sends microvolts."""


async def giant_field(port: int) -> None:
    """Send a message with a field of 10 MB to an HL7 feed."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):  # it may well hang up
        writer.write(frame(b"MSH|^~\\&|||||||ORU^R01|1|P|2.6\rOBX|1|NA|x||" + b"1^" * 5_000_000 + b"\r"))
        await writer.drain()
    writer.close()


def cases(folder: Path, brokers: tuple[Broker, Broker, Broker], proxies: dict[str, Proxy]) -> list[Case]:
    """Return the table's rows, still to be measured."""
    broker, fragile, secure = brokers
    mqtt = f"mqtt://127.0.0.1:{broker.port}"
    ports = {name: free_port() for name in ("ws", "lead", "tcp", "rate", "mllp", "vital")}
    epr, outlet = str(uuid.uuid4()), f"bed-{uuid.uuid4().hex[:12]}"
    vital = f"vital://127.0.0.1:{ports['vital']}?vr=OR1&bed=BED-1"
    made = {
        "killed": Device(SOURCE, f"ws://127.0.0.1:{ports['ws']}/bed"),
        "fragile": Device(SOURCE, f"mqtt://127.0.0.1:{fragile.port}/bed"),
        "provider": Device(SOURCE, f"sdc://127.0.0.1?epr={epr}"),
        "outlet": Device(SOURCE, f"lsl:{outlet}"),
        "recorder": Device(SOURCE, vital),
    }

    def again(name: str, restart: Callable[[], None] = lambda: None) -> Callable[[], None]:
        def begin_again() -> None:
            made[name].kill()
            restart()
            made[name].start()

        return begin_again

    bomb = folder / "bomb.xml"
    levels = "".join(f'<!ENTITY a{k + 1} "{f"&a{k};" * 10}">' for k in range(9))
    bomb.write_text(
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{levels}]><AnnotatedECG xmlns="urn:hl7-org:v3">&a9;</AnnotatedECG>'
    )
    cut, half, late = proxies["cut"], proxies["half"], proxies["late"]
    lost = alarm("FEED_LOST")
    return [
        Case("broker killed, restarted after 5 s", "mqtt", f"mqtt://127.0.0.1:{fragile.port}/bed", lost, "FEED_LOST",
             fragile.kill, again("fragile", fragile.start), 5.0, devices=[made["fragile"]]),
        Case("network cut for 30 s", "mqtt", f"mqtt://127.0.0.1:{cut.port}/cut", lost, "FEED_LOST",
             lambda: setattr(cut, "cut", True), lambda: setattr(cut, "cut", False), CUT_S,
             devices=[Device(SOURCE, f"{mqtt}/cut")]),
        Case("half-open TCP", "mqtt", f"mqtt://127.0.0.1:{half.port}/half", lost, "FEED_LOST", half.forget,
             devices=[Device(SOURCE, f"{mqtt}/half")]),
        Case("samples 8 s late for 20 s", "mqtt", f"mqtt://127.0.0.1:{late.port}/late", alarm("FEED_DELAYED"),
             "FEED_DELAYED", lambda: setattr(late, "delay_s", 8.0), lambda: setattr(late, "delay_s", 0.0), 20.0,
             devices=[Device(SOURCE, f"{mqtt}/late")]),
        Case("device killed, restarted after 5 s", "ws", f"ws://127.0.0.1:{ports['ws']}/bed", lost, "FEED_LOST",
             made["killed"].kill, again("killed"), 5.0, devices=[made["killed"]]),
        Case("provider killed, restarted after 5 s", "sdc", f"sdc://127.0.0.1?epr=urn:uuid:{epr}", lost, "FEED_LOST",
             made["provider"].kill, again("provider"), 5.0, devices=[made["provider"]]),
        Case("outlet killed, restarted after 5 s", "lsl", f"lsl:{outlet}", lost, "FEED_LOST",
             made["outlet"].kill, again("outlet"), 5.0, devices=[made["outlet"]]),
        Case("recorder killed, restarted after 5 s", "vital", vital, lost, "FEED_LOST",
             made["recorder"].kill, again("recorder"), 5.0, devices=[made["recorder"]]),
        Case("1 % of messages lost", "mqtt", f"{mqtt}/loss", is_gap, "gap", counts="lost_samples", heals=False,
             from_start=True, devices=[Device(SOURCE, f"{mqtt}/loss", "--drop", "0.01")]),
        Case("5 % of messages reordered", "mqtt", f"{mqtt}/order", None, "none: put in order", lasts_s=10.0,
             counts="reordered", devices=[Device(SOURCE, f"{mqtt}/order", "--reorder")]),
        Case("1 byte in 10,000 wrong", "tcp", f"tcp://127.0.0.1:{ports['tcp']}?leads={','.join(LEADS)}&rate_hz=250&"
             "lsb_nv=1000&mode=demo", is_gap, "gap", counts="bad_crc", heals=False, from_start=True,
             devices=[Device(SOURCE, f"tcp://127.0.0.1:{ports['tcp']}", "--corrupt", "1e-4")]),
        Case("HL7 field of 10 MB", "mllp", f"mllp://127.0.0.1:{ports['mllp']}?patient=TEST", None, "none: dropped",
             lambda: giant_field(ports["mllp"]), lasts_s=3.0, counts="oversized",
             devices=[Device(SOURCE, f"mllp://127.0.0.1:{ports['mllp']}")]),
        Case("lead off (electrode RA)", "ws", f"ws://127.0.0.1:{ports['lead']}/bed", alarm("LEAD_OFF"), "LEAD_OFF",
             heals=False, from_start=True,
             devices=[Device(SOURCE, f"ws://127.0.0.1:{ports['lead']}/bed", "--lead-off", "RA@20s")]),
        Case("microvolts that are called millivolts", "mqtt", f"{mqtt}/unit",
             alarm("LEAD_OFF"), "LEAD_OFF", lambda: wrong_unit_on.append(True), wrong_unit_on.clear, 10.0),
        Case("250 Hz declared as 500", "tcp", f"tcp://127.0.0.1:{ports['rate']}?leads={','.join(LEADS)}&rate_hz=500&"
             "lsb_nv=1000&mode=demo", alarm("FEED_RATE"), "FEED_RATE", heals=False, from_start=True,
             devices=[Device(SOURCE, f"tcp://127.0.0.1:{ports['rate']}?info=0")]),
        Case("wrong certificate", "mqtts", f"mqtts://127.0.0.1:{secure.port}/bed?ca={folder / 'other' / 'ca.pem'}",
             refused, "refused, in status", heals=False, from_start=True),
        Case("XML bomb", "file", f"file:{bomb}", refused, "refused, in status", heals=False, from_start=True),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def proxied(port: int) -> AsyncIterator[dict[str, Proxy]]:
    """Proxies before a broker."""
    proxies = {name: Proxy(port) for name in ("cut", "half", "late")}
    for proxy in proxies.values():
        await proxy.start()
    try:
        yield proxies
    finally:
        for proxy in proxies.values():
            await proxy.close()


async def end(service: WardService, serving: asyncio.Task[None]) -> None:
    """Have the ward end; RuntimeError if it does not."""
    service.stop()
    done, _ = await asyncio.wait([serving], timeout=LONGEST_S)
    if not done:
        raise RuntimeError("the ward does not end")
    serving.result()


async def table(folder: Path, only: str = "") -> dict[str, dict[str, Any]]:
    """Measure all rows whose name holds `only`, at once, on one ward."""
    lsl_on_this_machine(folder)
    ours = certificates(folder / "ours")
    certificates(folder / "other")
    brokers = (Broker(folder), Broker(folder), Broker(folder, tls=ours))
    for broker in brokers:
        broker.start()
    bundle = ecgedge.load_bundle("embedded")
    heard, said = Heard(), []
    rows: list[Case] = []
    async with proxied(brokers[0].port) as proxies:
        service = WardService(
            bundle,
            Variants(bundle),
            WardSettings(),
            outlet=heard,
            say=said.append,
            read_clock=lambda: None,
        )
        serving = asyncio.create_task(service.run())
        unit = asyncio.create_task(wrong_unit(brokers[0].port))
        try:
            rows = [case for case in cases(folder, brokers, proxies) if only in case.name]
            for number, case in enumerate(rows):
                service.add(BedConfig(f"bed-{number}", case.feed))
            names = {case.name: f"bed-{number}" for number, case in enumerate(rows)}
            for case in rows:
                case.name = names[case.name]
            measured = [asyncio.create_task(measure(case, heard, service)) for case in rows]
            try:
                found = await asyncio.gather(*measured)
            finally:
                for task in measured:
                    task.cancel()
        finally:
            unit.cancel()
            for case in rows:
                for device in case.devices:
                    device.kill()
            await end(service, serving)
            for broker in brokers:
                broker.kill()
    return dict(zip(names, found, strict=True))


def main(out: Path | None = None, only: str = "") -> None:
    """Measure, print, and write JSON if asked."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(table(Path(folder), only))
    result = {
        "benchmark": "faults",
        **common.machine("numpy", "aiomqtt", "sdc11073", "ecgedge"),
        "simulated": True,
        "faults": found,
    }
    print(json.dumps(result, indent=1))
    if out:
        common.write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
