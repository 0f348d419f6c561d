"""Wards on all nodes of a Ray cluster: beds are placed by hashing, and moved when a node dies or comes.

Whoever runs this holds no state that matters: places follow from the nodes' names, and beds from their checkpoints.
While nobody runs it, no bed is moved.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ecgedge.cluster.bus import Bus, BusError
from ecgedge.cluster.placement import place_beds
from ecgedge.cluster.ray_ward import RayWard, WardSpec
from ecgedge.errors import UsageError, missing_extra

PING_S: Final = 0.5
"""How often each node is asked whether it is there."""

ANSWER_S: Final = 5.0
"""A node that has not answered for so long is dead: its beds are served elsewhere, and the bus tells it so. Of one that
was killed its connection tells at once; this is for one that hangs or is cut off, and more than a busy one needs."""

START_S: Final = 60.0
"""So long a node may take to open its bundle."""

AGAIN_S: Final = 10.0
"""A node whose ward died and that Ray still calls alive is given another one after so long."""

TAKE_S: Final = 90.0
"""Longer than `ecgedge.cluster.ward_node.BACK_S`."""

NAMESPACE: Final = "ecgedge"


@dataclass(frozen=True)
class Moved:
    """A bed is served by another node; it was away for `away_s`, and has read all that it missed."""

    bed: str
    left: str
    node: str
    away_s: float

    def line(self) -> str:
        """Return it as the bed's events have it."""
        plain = {"bed": self.bed, "type": "moved", "from": self.left, "to": self.node}
        return json.dumps({**plain, "away_s": round(self.away_s, 3)}, separators=(",", ":"))


@dataclass
class _Node:
    name: str
    actor: Any
    seen_s: float
    is_ready: bool = False


@dataclass
class _Away:
    left: str
    since_s: float


def node_names(nodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the living nodes' names by their ids; two of one name get a part of their ids with it.

    A name that its node keeps over restarts (`ray start --node-name`) keeps its beds, too.
    """
    alive = [(str(node["NodeID"]), str(node.get("NodeName") or "")) for node in nodes if node["Alive"]]
    how_often = Counter(name for _, name in alive)
    return {
        node: name if name and how_often[name] == 1 else f"{name or 'node'}/{node[:12]}"
        for node, name in alive
    }


def connect_ray(address: str) -> None:
    """Connect to a Ray cluster, or ("local") start one on this machine; what Ray would report is turned off.

    Raises
    ------
    UsageError
        If the extra is missing, or there is no cluster at the address.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing_extra(extra="cluster", package="ray", purpose="wards on many machines") from error
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": True, "configure_logging": False}
    if address == "local":
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init("local" if address == "local" else address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"there is no Ray cluster at {address} ({error}); start one with: ray start --head"
        ) from error


class RayWards:
    """Keeps every bed served by a living node; connect to Ray first.

    Parameters
    ----------
    spec
        What the nodes serve with.
    beds
        Names.
    bus
        Where moves are told.
    resource
        Nodes without this custom resource of Ray serve no beds; None: all do.
    say
        Takes what people must know.
    """

    def __init__(
        self,
        spec: WardSpec,
        beds: Sequence[str],
        bus: Bus,
        *,
        resource: str | None = None,
        say: Callable[[str], None],
    ) -> None:
        self._spec, self._beds, self._bus = spec, tuple(beds), bus
        self._resource, self._say = resource, say
        self._nodes: dict[str, _Node] = {}
        self._not_before_s: dict[str, float] = {}
        self._served: dict[str, str] = {}
        self._away: dict[str, _Away] = {}
        self._moving: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._head_trouble: str | None = None
        self.moves: list[Moved] = []

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """The beds that are served, by the names of the nodes that can."""
        return {
            node.name: tuple(bed for bed, where in self._served.items() if where == key)
            for key, node in self._nodes.items()
            if node.is_ready
        }

    @property
    def is_whole(self) -> bool:
        """Whether every bed is served where it belongs."""
        return not self._moving and len(self._served) == len(self._beds) and self._wanted() == self._served

    async def run(self) -> None:
        """Keep the beds served until `stop`; then let all of them go, each kept as it is."""
        try:
            while not self._stop.is_set():
                await self._look()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), PING_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*(self._end(node) for node in self._nodes.values()))

    def stop(self) -> None:
        """End `run` in good order."""
        self._stop.set()

    # --- nodes ---

    async def _look(self) -> None:
        """See who is there, and move what is not where it belongs."""
        import ray

        try:
            found = await asyncio.wait_for(asyncio.to_thread(ray.nodes), ANSWER_S)
        except Exception as error:  # noqa: BLE001 - without Ray's head no node comes; those that are there serve on
            self._tell_of_head(f"Ray's head does not answer ({type(error).__name__}): no new node is found")
        else:
            self._tell_of_head(None)
            for key, name in node_names(node for node in found if self._may_serve(node)).items():
                if key not in self._nodes:
                    self._add(key, name)
        await asyncio.gather(*(self._ping(key) for key, node in list(self._nodes.items()) if node.is_ready))
        self._move()

    def _tell_of_head(self, trouble: str | None) -> None:
        if trouble != self._head_trouble:
            self._say(trouble or "Ray's head answers again")
        self._head_trouble = trouble

    def _may_serve(self, node: Mapping[str, Any]) -> bool:
        if self._resource is not None and self._resource not in node.get("Resources", {}):
            return False
        # Ray may call a dead node alive for a while; one of its name that has come meanwhile takes its place.
        return time.monotonic() >= self._not_before_s.get(str(node["NodeID"]), 0.0)

    def _add(self, key: str, name: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        make = ray.remote(RayWard).options(
            name=f"ward {key}",  # two that would place the beds of one cluster would take them from each other
            num_cpus=0,
            max_restarts=0,
            max_concurrency=1000,
            scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False),
        )
        try:
            actor = make.remote(name, self._spec)
        except ValueError as error:
            if key in self._not_before_s:  # Ray has not done away yet with the one that was here before
                return
            raise UsageError(
                f"node {name} serves beds of another `ecgedge cluster serve`; end that one first"
            ) from error
        self._nodes[key] = _Node(name, actor, time.monotonic())
        self._spawn(self._start(key))

    async def _start(self, key: str) -> None:
        node = self._nodes[key]
        try:
            await _answer(node.actor.start.remote(), START_S)
        except Exception as error:  # noqa: BLE001 - whatever it is: the other nodes serve
            self._bury(key, f"has not started: {str(error).partition(chr(10))[0]}")
        else:
            node.is_ready, node.seen_s = True, time.monotonic()
            self._say(f"node {node.name} is there")

    async def _ping(self, key: str) -> None:
        node = self._nodes[key]
        try:
            beds = set(await _answer(node.actor.beds.remote(), ANSWER_S))
        except Exception as error:  # noqa: BLE001 - dead, hung or failed: its beds must be served
            self._bury(key, f"is dead: {type(error).__name__}")
            return
        node.seen_s = time.monotonic()
        for bed in [bed for bed, where in self._served.items() if where == key]:
            if bed not in beds and bed not in self._moving:
                self._lose(bed, node)

    def _bury(self, key: str, why: str) -> None:
        import ray

        node = self._nodes.pop(key, None)
        if node is None:
            return
        self._not_before_s[key] = time.monotonic() + AGAIN_S
        with suppress(Exception):  # who is dead needs no killing, who hangs does
            ray.kill(node.actor)
        lost = [bed for bed, where in self._served.items() if where == key]
        for bed in lost:
            self._lose(bed, node)
        self._say(f"node {node.name} {why}; {len(lost)} beds are moved")

    def _lose(self, bed: str, node: _Node) -> None:
        del self._served[bed]
        self._away.setdefault(bed, _Away(node.name, node.seen_s))

    async def _end(self, node: _Node) -> None:
        import ray

        with suppress(Exception):  # its beds have their checkpoints
            await _answer(node.actor.stop.remote(), ANSWER_S)
        with suppress(Exception):
            ray.kill(node.actor)

    # --- beds ---

    def _wanted(self) -> dict[str, str]:
        """Return the node of each bed."""
        ready = {node.name: key for key, node in self._nodes.items() if node.is_ready}
        if not ready:
            return {}
        return {bed: ready[name] for name, beds in place_beds(self._beds, ready).items() for bed in beds}

    def _move(self) -> None:
        """Move every bed that is not where it belongs, those with the same way together."""
        ways: dict[tuple[str | None, str], list[str]] = {}
        for bed, key in self._wanted().items():
            if bed not in self._moving and self._served.get(bed) != key:
                ways.setdefault((self._served.get(bed), key), []).append(bed)
        for (left, key), beds in ways.items():
            self._moving.update(beds)
            self._spawn(self._carry(left, key, beds))

    async def _carry(self, left: str | None, key: str, beds: list[str]) -> None:
        try:
            if left is not None:
                await self._release(left, beds)
            node = self._nodes.get(key)
            if node is not None:
                began_s = time.monotonic()
                back = await _answer(node.actor.take.remote(beds), TAKE_S)
                await self._settle(key, node, {bed: began_s + took_s for bed, took_s in back.items()})
        except Exception as error:  # noqa: BLE001 - the node has died meanwhile, or hangs: they are moved again
            self._say(f"{len(beds)} beds cannot be moved now: {type(error).__name__}; trying again")
        finally:
            self._moving.difference_update(beds)

    async def _release(self, key: str, beds: list[str]) -> None:
        node = self._nodes.get(key)
        if node is None:
            return
        for bed in beds:
            self._served.pop(bed, None)
            self._away[bed] = _Away(node.name, time.monotonic())
        await _answer(node.actor.release.remote(beds), TAKE_S)

    async def _settle(self, key: str, node: _Node, back_s: dict[str, float]) -> None:
        if self._nodes.get(key) is not node:  # it has died since
            return
        moves = []
        for bed, at_s in back_s.items():
            self._served[bed] = key
            away = self._away.pop(bed, None)
            if away is not None:
                moves.append(Moved(bed, away.left, node.name, at_s - away.since_s))
        self.moves += moves
        await asyncio.gather(*(self._tell(moved) for moved in moves))

    async def _tell(self, moved: Moved) -> None:
        try:
            await self._bus.tell(moved.bed, moved.line().encode())
        except BusError as error:
            self._say(f"{moved.line()} ({error})")

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _answer(asked: Any, timeout_s: float) -> Any:
    """Wait for an actor's answer."""
    answer: Awaitable[Any] = asyncio.wrap_future(asked.future())
    return await asyncio.wait_for(answer, timeout_s)
