"""One of several nodes is killed: how long its beds are away, and whether anything that they should say is missing.

A NATS server and a Ray cluster of several nodes on this machine, on loopback; beds of two leads at 250 Hz of a
SIMULATED patient on the embedded bundle. II falls off and returns at another time for each tenth of the beds, so at
any moment alarms come and go. In the midst a user acknowledges at all beds of one node, which is killed at that moment
(raylet and ward at once); later one of its name comes. Meanwhile the journals are written. Afterwards every line that
each bed has told, and every entry of its journal, is held against what a bed alone says of the same samples and
commands. A bed whose samples this machine published late has lines at times of the wall clock: it is counted, and not
held to that.

    python benchmarks/cluster.py [--beds 300] [--seconds 60] [--speed 1] [--out benchmarks/results/cluster.json]

Needs nats-server and the extra cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import typer

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.cluster.bus import JOURNAL, Bus, BusError, BusSettings, Delivery, open_bus
from ecgedge.cluster.command import decode_command
from ecgedge.cluster.journal_keeper import JournalKeeper
from ecgedge.cluster.message import BedChunk, decode_chunk, encode_chunk
from ecgedge.cluster.placement import place_beds
from ecgedge.cluster.ray_ward import WardSpec
from ecgedge.cluster.ray_wards import NAMESPACE, RayWards
from ecgedge.cluster.tell import tell_bed
from ecgedge.events import Event, event_to_dict
from ecgedge.inputs import apply, from_command
from ecgedge.journal import read_journal, verify_journal
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants
from ecgedge.wards.commands import BED_COMMANDS, read_command

RATE_HZ = 250.0
LEADS = ("I", "II")
KINDS = 10
POLICY = AlarmPolicy(persistence_s=20.0, recovery_window_s=20.0)
PATIENCE_S = 120.0
REPLAY_S = 900.0
"""Longer than the story, whose samples and commands are read again at its end."""

ACKNOWLEDGE = {"condition": "LEAD_OFF", "user": "Nurse Seven"}


# --- what is played, and what must be told ---


def samples_of(kind: int, seconds: int) -> np.ndarray:
    """Return a patient whose II is off for an eighth of the time, at a time of its own."""
    samples_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(seconds * RATE_HZ))[:2].copy()
    begin = round((0.15 + 0.06 * kind) * seconds * RATE_HZ)
    samples_mv[1, begin : begin + round(seconds * RATE_HZ / 8)] = np.nan
    return samples_mv


def messages(samples_mv: np.ndarray) -> list[bytes]:
    """Return one message a second."""
    n = round(RATE_HZ)
    return [
        encode_chunk(BedChunk(LEADS, RATE_HZ, "demo", k / RATE_HZ, i, samples_mv[:, k : k + n]))
        for i, k in enumerate(range(0, samples_mv.shape[1], n))
    ]


def facts(lines: list[dict[str, Any]], seconds: int) -> list[str]:
    """Return lines without the bed, what the wall clock brings, and what a restart tells again as off."""
    return [
        json.dumps({k: v for k, v in line.items() if k not in ("bed", "latency_ms")}, sort_keys=True)
        for line in lines
        if line["type"] not in ("moved", "answer")
        and line["t_s"] <= seconds
        and line.get("condition") != "MODEL_LATE"
        and "as told again after a restart" not in line.get("text", "")
    ]


def is_of_the_wall_clock(line: dict[str, Any], seconds: int) -> bool:
    """Tell whether samples were not there when the wall clock said that they should be."""
    if line["type"] not in ("feed", "alarm") or line["t_s"] > seconds:
        return False
    at_sample = line["t_s"] * RATE_HZ
    return line.get("state") == "lost" or abs(at_sample - round(at_sample)) > 1e-3


def expected(bundle: Bundle, kind: int, seconds: int) -> list[dict[str, Any]]:
    """Return what an uninterrupted bed tells, in its order."""
    with Variants(bundle) as variants:
        bed = Bed(bundle, leads=LEADS, rate_hz=RATE_HZ, variants=variants, policy=POLICY, mode="demo")
        return [event_to_dict(event) for event in bed.push(samples_of(kind, seconds), t_s=0.0)]


def expected_of(bundle: Bundle, deliveries: list[Delivery]) -> list[dict[str, Any]]:
    """Return what an uninterrupted bed tells that is given samples and commands in the bus's order."""
    with Variants(bundle) as variants:
        bed = Bed(bundle, leads=LEADS, rate_hz=RATE_HZ, variants=variants, policy=POLICY, mode="demo")
        events: list[Event] = []
        came_s = 0.0
        for delivery in deliveries:
            command, chunk = decode_command(delivery.data), decode_chunk(delivery.data)
            if command is not None and command.do in BED_COMMANDS:
                t_s = bed.due_s + (delivery.published_s - came_s)
                asked = read_command(command.do, command.asked, POLICY)
                events += apply(bed, from_command(asked, samples=0, t_s=t_s))
            elif not isinstance(chunk, str):
                events += bed.push(chunk.samples_mv, t_s=chunk.t_s)
                came_s = delivery.published_s
        return [event_to_dict(event) for event in events]


def journaled(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal in their order, without what another owner tells anew when it begins."""
    found: list[dict[str, Any]] = []
    is_telling_again = False
    for entry in read_journal(path):
        event = dict(entry.event)
        if event["type"] == "reopened":
            is_telling_again = True
        elif event.get("call") == "model_late":  # the last thing that an owner does before samples come
            is_telling_again = False
        elif event["type"] not in ("journal", "part", "input") and not is_telling_again:
            found.append(event)
    return found


# --- servers ---


@asynccontextmanager
async def new_bus(folder: Path) -> AsyncIterator[tuple[str, Bus, int]]:
    """Run a NATS server of our own; give its address, a connection, and its process."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None:
        raise SystemExit("needs nats-server: apt-get install nats-server")
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [program, "-a", "127.0.0.1", "-p", str(port), "--jetstream", "--store_dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        uri = f"nats://127.0.0.1:{port}"
        bus = await patiently(lambda: open_bus(uri, settings=BusSettings(replay_s=REPLAY_S)))
        yield uri, bus, server.pid
        await bus.close()
    finally:
        server.terminate()
        server.wait()


async def patiently(work: Callable[[], Any]) -> Any:
    """Try until the bus does it."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await work()
        except BusError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(0.05)


@contextmanager
def ray_cluster(n: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Start a Ray cluster of n nodes on loopback; give what kills the last one, and what starts it anew."""
    import ray
    from ray.cluster_utils import Cluster

    cluster, renewed = Cluster(), []
    facts_of_all = {"include_dashboard": False, "num_cpus": 1, "object_store_memory": 80 * 2**20}
    try:
        nodes = [
            cluster.add_node(node_name=f"n{k}", node_ip_address=address(k), **facts_of_all) for k in range(n)
        ]
        ray.init(cluster.address, namespace=NAMESPACE, _node_ip_address=address(0), log_to_driver=False)
        yield (
            lambda: cluster.remove_node(nodes[-1], allow_graceful=False),
            lambda: renewed.append(start_node(cluster.address, n - 1)),
        )
    finally:
        for process in renewed:
            process.terminate()
            process.wait()
        ray.shutdown()
        cluster.shutdown()


def address(k: int) -> str:
    """Return the loopback address of a node: Ray would take 127.0.0.1 for the machine's own."""
    return f"127.0.0.{k + 2}"


def start_node(head: str, k: int) -> subprocess.Popen[bytes]:
    """Start a node as a person would; Ray's own helper for tests needs the main thread for seconds."""
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    where = ["--address", head, "--node-ip-address", address(k), "--node-name", f"n{k}", "--num-cpus", "1"]
    return subprocess.Popen([*program, *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# --- the story ---


class Told:
    """All that is told on the bus, with the server's time."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self.reached_s: dict[str, float] = {}

    async def take(self, delivery: Delivery) -> None:
        """Take a line."""
        line = json.loads(delivery.data)
        self.lines.append((delivery.published_s, line))
        if line["type"] == "estimate":
            self.reached_s[line["bed"]] = max(self.reached_s.get(line["bed"], 0.0), line["t_s"])

    def of(self, bed: str) -> list[dict[str, Any]]:
        """Return a bed's lines."""
        return [line for _, line in self.lines if line["bed"] == bed]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something, not for ever."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end_s:
            raise SystemExit("what was waited for has not come")
        await asyncio.sleep(0.02)


async def play(bus: Bus, beds: list[str], seconds: int, speed: float) -> None:
    """Publish the messages of all beds, each when it is due."""
    sent = [messages(samples_of(kind, seconds)) for kind in range(KINDS)]
    began_s = time.monotonic()
    for k in range(seconds):
        await asyncio.sleep(max(0.0, began_s + (k + 1) / speed - time.monotonic()))
        await asyncio.gather(
            *(
                patiently(partial(bus.publish, bed, sent[i % KINDS][k], number=k))
                for i, bed in enumerate(beds)
            )
        )


async def story(n_beds: int, n_nodes: int, seconds: int, speed: float, folder: Path) -> dict[str, Any]:
    """Play, kill a node in the midst, and return what came of it."""
    bundle = load_bundle("embedded")
    beds = [f"bed-{k:03}" for k in range(n_beds)]
    said: list[str] = []
    async with new_bus(folder) as (uri, bus, _):
        told = Told()
        await bus.follow_events(told.take)
        keeper = JournalKeeper(bus, folder, say=said.append)
        keeping = asyncio.create_task(keeper.run())
        spec = WardSpec(uri, "embedded", bundle.id, policies=dict.fromkeys(beds, POLICY))
        with ray_cluster(n_nodes) as (kill, renew):
            wards = RayWards(spec, beds, bus, say=said.append)
            running = asyncio.create_task(wards.run())
            await until(lambda: len(wards.places) == n_nodes and wards.is_whole)
            before = wards.places
            wards.moves.clear()
            playing = asyncio.create_task(play(bus, beds, seconds, speed))
            await until(
                lambda: len(told.reached_s) == n_beds and min(told.reached_s.values()) >= 0.45 * seconds
            )
            victim = f"n{n_nodes - 1}"
            killed_s = time.time()
            asking = [
                asyncio.create_task(tell_bed(bus, bed, "acknowledge", ACKNOWLEDGE, wait_s=PATIENCE_S))
                for bed in before[victim]
            ]
            await asyncio.to_thread(kill)
            answers = await asyncio.gather(*asking)
            await until(lambda: len(wards.moves) >= len(before[victim]) and wards.is_whole)
            after = wards.places
            renew()
            await until(lambda: len(wards.places) == n_nodes and wards.is_whole)
            again = wards.places
            await playing
            await until(lambda: min(told.reached_s.values()) >= seconds - 1)
            wards.stop()
            await running
        last = await bus.last(JOURNAL)
        await until(lambda: keeper.read_up_to >= last)
        keeper.stop()
        await keeping
        of_the_told = {bed: await stream_of(bus, bed) for bed in before[victim]}
    left = [f"n{k}" for k in range(n_nodes - 1)]
    places = {"before": as_sets(before) == as_sets(place_beds(beds, [*left, victim])),
              "after": as_sets(after) == as_sets(place_beds(beds, left)),
              "and with a node of the same name": as_sets(again) == as_sets(before)}  # fmt: skip
    moves = [(at_s, line) for at_s, line in told.lines if line["type"] == "moved" and at_s >= killed_s]
    first = {line["bed"]: (at_s, line) for at_s, line in reversed(moves) if line["from"] == victim}
    lost = [first[bed] for bed in before[victim] if bed in first]
    return {
        "beds": n_beds,
        "nodes": n_nodes,
        "beds of the node that was killed": len(before[victim]),
        "placed as hashing says": places,
        "said": said,
        "moved": len(lost),
        **away("killed", [line["away_s"] for _, line in lost]),
        **away("killed, by the bus", [at_s - killed_s for at_s, _ in lost]),
        **away("renewed", [line["away_s"] for _, line in moves if line["to"] == victim]),
        "beds that were told to acknowledge": len(answers),
        "that answered yes": sum(answer["ok"] for answer in answers),
        **held_against(bundle, beds, told, of_the_told, seconds, folder),
    }


def as_sets(places: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Return places without an order."""
    return {node: set(beds) for node, beds in places.items()}


def away(why: str, times_s: list[float]) -> dict[str, float]:
    """Return for how long beds were away."""
    if not times_s:
        return {}
    return {f"s away, {why}, p50": float(np.median(times_s)), f"s away, {why}, max": float(np.max(times_s))}


def held_against(
    bundle: Bundle,
    beds: list[str],
    told: Told,
    of_the_told: dict[str, list[Delivery]],
    seconds: int,
    folder: Path,
) -> dict[str, Any]:
    """Return how many lines are missing, or other than those of a bed alone; and of the journals' entries."""
    by_kind = [facts(expected(bundle, kind, seconds), seconds) for kind in range(KINDS)]
    by_bed: dict[str, list[dict[str, Any]]] = {bed: [] for bed in beds}
    for _, line in told.lines:
        by_bed[line["bed"]].append(line)
    late = {bed for bed, lines in by_bed.items() if any(is_of_the_wall_clock(x, seconds) for x in lines)}
    late -= set(of_the_told)  # a command has the wall clock's time
    wanted = {bed: by_kind[i % KINDS] for i, bed in enumerate(beds) if bed not in late}
    for bed, deliveries in of_the_told.items():
        wanted[bed] = facts(expected_of(bundle, deliveries), seconds)
    pairs = [(set(expects), set(facts(by_bed[bed], seconds))) for bed, expects in wanted.items()]
    missing = [line for expects, found in pairs for line in expects - found]
    other = [line for expects, found in pairs for line in found - expects]
    journals = {bed: facts(journaled(folder / f"{bed}.jsonl"), seconds) for bed in wanted}
    return {
        "beds whose samples came late": len(late),
        "lines expected": sum(len(expects) for expects, _ in pairs),
        "alarm lines expected": sum('"type": "alarm"' in line for expects, _ in pairs for line in expects),
        "lines missing": len(missing),
        "lines that are other": len(other),
        "journals": len(journals),
        "journals that are other, in any entry or its order": sum(
            journals[bed] != wanted[bed] for bed in wanted
        ),
        "journals whose chain is broken": sum(not verify_journal(folder / f"{bed}.jsonl").ok for bed in beds),
        "examples": [*missing[:2], *other[:2]],
    }


async def stream_of(bus: Bus, bed: str) -> list[Delivery]:
    """Return all messages of a bed, in the bus's order."""
    found: list[Delivery] = []

    async def take(delivery: Delivery) -> None:
        found.append(delivery)

    following = await bus.follow(bed, take, after=0)
    await until(lambda: len(found) >= following.pending)
    await following.close()
    return found


def main(
    beds: int = 300,
    nodes: int = 3,
    seconds: int = 60,
    speed: float = 1.0,
    out: Path = Path(__file__).parent / "results" / "cluster.json",
) -> None:
    """Run the story, and write what came of it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(story(beds, nodes, seconds, speed, Path(folder)))
    facts_of_run = {"benchmark": "cluster", **common.machine("numpy", "onnxruntime", "ray", "nats-py")}
    common.write_json(out, {**facts_of_run, "simulated": True, "seconds": seconds, "speed": speed, **found})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
