"""A ward node as a Ray actor: what runs on each machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.cluster.bus import Bus, BusSettings, open_bus
from ecgedge.cluster.journal_watch import PATIENCE_S
from ecgedge.cluster.ward_node import STATE_S, WardNode
from ecgedge.errors import EcgedgeError
from ecgedge.policy import AlarmPolicy
from ecgedge.signal import COMPILED
from ecgedge.stream import Variants


@dataclass(frozen=True)
class WardSpec:
    """What every node serves with; the bundle must lie under the same path on each.

    Attributes
    ----------
    bundle_id
        Of the bundle that whoever starts the wards has seen; another one under the path is refused.
    policies
        Of beds that have one of their own.
    """

    bus: str
    bundle: str
    bundle_id: str
    runtime: str = "auto"
    streaming: bool = False
    state_s: float = STATE_S
    settings: BusSettings = field(default_factory=BusSettings)
    policies: Mapping[str, AlarmPolicy] = field(default_factory=dict)
    journal_patience_s: float = PATIENCE_S

    def node(self, bundle: Bundle, variants: Variants, bus: Bus, *, say: Callable[[str], None]) -> WardNode:
        """Return a node that serves so; `say` takes what people must know and no event tells."""
        return WardNode(
            bundle,
            variants,
            bus,
            policies=self.policies,
            state_s=self.state_s,
            journal_patience_s=self.journal_patience_s,
            say=say,
        )


class RayWard:
    """The actor's class. Each method answers at once, but for those that wait for beds."""

    def __init__(self, name: str, spec: WardSpec) -> None:
        self._name, self._spec = name, spec
        self._node: WardNode | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open bundle and bus, and serve; no bed yet."""
        spec = self._spec
        bundle = load_bundle(spec.bundle)
        if bundle.id != spec.bundle_id:
            raise EcgedgeError(
                f"node {self._name} has bundle {bundle.id[:12]} as {spec.bundle}, expected {spec.bundle_id[:12]}; "
                "copy the same bundle to every node"
            )
        COMPILED.on()
        bus = await open_bus(spec.bus, settings=spec.settings, say=self._say)
        variants = Variants(bundle, runtime=spec.runtime, form="stream" if spec.streaming else "window")
        self._node = spec.node(bundle, variants, bus, say=self._say)
        self._running = asyncio.create_task(self._node.run())

    async def take(self, names: Sequence[str]) -> dict[str, float]:
        """See `WardNode.take`."""
        return await self._served().take(names)

    async def release(self, names: Sequence[str]) -> None:
        """See `WardNode.release`."""
        await self._served().release(names)

    async def beds(self) -> tuple[str, ...]:
        """Return who is served here; raises where the node has failed."""
        return self._served().beds

    async def status(self) -> dict[str, Any]:
        """See `WardNode.status`."""
        return self._served().status()

    async def stop(self) -> None:
        """Let every bed go, and end."""
        self._served().stop()
        if self._running is not None:
            await self._running

    def _served(self) -> WardNode:
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()  # raises what it failed of
        if self._node is None:
            raise EcgedgeError(f"node {self._name} has not started")
        return self._node

    def _say(self, text: str) -> None:
        sys.stderr.write(f"ecgedge: node {self._name}: {text}\n")
        sys.stderr.flush()
