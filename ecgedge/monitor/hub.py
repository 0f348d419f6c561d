"""The page without its server: beds say what they have, viewers take it; no I/O, and no clock but those handed in.

A viewer loses whole messages of samples where it is slow, never an event: where it cannot take these it is closed.
Nobody who looks can hold up a bed, and a bed that nobody looks at is not drawn: its samples are not even converted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecgedge.events import Event
from ecgedge.feeds import Chunk
from ecgedge.monitor.beds import BedFacts, BedState, Health, no_health, to_json
from ecgedge.monitor.frames import MOST_SAMPLES, encode
from ecgedge.monitor.viewer import Viewer

_TILE_EVENTS: Final = frozenset({"estimate", "alarm", "expired", "feed", "audio", "summary"})


class Hub:
    """Beds, and who looks at them.

    Parameters
    ----------
    now_ms
        The world's time in milliseconds of the epoch.
    now_s
        A clock that is never set.
    speed
        How many times faster than the world the feeds play; what is not 1 puts the trend on the stream's time.
    """

    def __init__(
        self, *, now_ms: Callable[[], float], now_s: Callable[[], float], speed: float = 1.0
    ) -> None:
        self._now_ms, self._now_s, self._speed = now_ms, now_s, speed
        self.beds: dict[str, BedState] = {}
        self._viewers: dict[Viewer, None] = {}
        self._at: dict[str, dict[Viewer, None]] = {}
        self._ward: dict[Viewer, None] = {}
        self.dropped: Counter[str] = Counter()
        self.heartbeat = 0

    # --- what beds say ---

    def add(self, name: str, health: Health = no_health) -> None:
        """Have a bed of this name, with nothing known of it yet; `health` says how its feed does."""
        self.beds[name] = BedState(name, health=health)
        self._tell_beds()

    def remove(self, name: str) -> None:
        """Forget a bed."""
        if self.beds.pop(name, None) is not None:
            self._at.pop(name, None)
            self._tell_beds()

    def describe(self, name: str, facts: BedFacts) -> None:
        """Take what a bed's feed has."""
        bed = self.beds[name]
        changed = bed.facts != facts
        bed.facts = facts
        said = bed.described()
        if changed and said is not None:
            for viewer in self._at.get(name, ()):
                viewer.tell(to_json(said))

    def is_watched(self, name: str) -> bool:
        """Whether anybody looks at this bed."""
        return bool(self._at.get(name))

    def take_samples(self, name: str, chunk: Chunk) -> None:
        """Show a chunk to whoever looks."""
        bed = self.beds[name]
        bed.heard_s = self._now_s()
        viewers = self._at.get(name)
        if not viewers or bed.facts is None:
            return
        sent_ms = self._now_ms()
        for first in range(0, chunk.samples_mv.shape[1], MOST_SAMPLES):
            part = chunk.samples_mv[:, first : first + MOST_SAMPLES]
            t_s = chunk.t_s + first / bed.facts.rate_hz
            message = encode(part, t_s=t_s, sent_ms=sent_ms, seq=bed.seq)
            bed.seq += 1
            for viewer in viewers:
                viewer.show(message)

    def take_event(self, name: str, event: Event) -> None:
        """Keep an event, and tell it to whoever looks."""
        bed = self.beds[name]
        wall_ms = self._now_ms()
        plain = bed.take(event, wall_ms=wall_ms, at_ms=self._at_ms(bed, event, wall_ms))
        viewers = self._at.get(name)
        if viewers:
            text = to_json(plain)
            for viewer in list(viewers):
                viewer.tell(text)
        if self._ward and event.type in _TILE_EVENTS:
            tile = to_json(bed.tile())
            for viewer in self._ward:
                viewer.tell_newest(f"tile {name}", tile)

    def _at_ms(self, bed: BedState, event: Event, wall_ms: float) -> float:
        """Return where on the trend's axis an event belongs."""
        t_s: float | None = getattr(event, "t_s", None)
        if self._speed == 1.0 or t_s is None:
            return wall_ms
        if bed.began is None:
            bed.began = (wall_ms, t_s)
        began_ms, began_s = bed.began
        return began_ms + (t_s - began_s) * 1e3

    # --- who looks ---

    def join(self, viewer: Viewer, hello: Mapping[str, Any]) -> None:
        """Let a viewer in; `hello` is the first that it is told."""
        self._viewers[viewer] = None
        viewer.tell(to_json({**hello, "beds": list(self.beds), **self._speed_plain()}))

    def leave(self, viewer: Viewer) -> None:
        """Let a viewer go; safe to call twice."""
        self._unwatch(viewer)
        if self._viewers.pop(viewer, viewer) is None:
            self.dropped.update(viewer.dropped)
        viewer.close()

    def watch(self, viewer: Viewer, name: str) -> None:
        """Let a viewer look at one bed, and at no other thing; KeyError if there is none of this name."""
        bed = self.beds[name]
        self._unwatch(viewer)
        viewer.bed = name
        said = bed.described()
        if said is not None:
            viewer.tell(to_json(said))
        viewer.tell(to_json(bed.history()))
        self._at.setdefault(name, {})[viewer] = None

    def watch_ward(self, viewer: Viewer) -> None:
        """Let a viewer look at the tiles of all beds, and at no single one."""
        self._unwatch(viewer)
        viewer.sees_ward = True
        self._ward[viewer] = None
        for bed in self.beds.values():
            viewer.tell_newest(f"tile {bed.name}", to_json(bed.tile()))

    def _unwatch(self, viewer: Viewer) -> None:
        if viewer.bed is not None:
            self._at.get(viewer.bed, {}).pop(viewer, None)
            viewer.forget_samples()
        viewer.bed, viewer.sees_ward = None, False
        self._ward.pop(viewer, None)

    @property
    def n_viewers(self) -> int:
        """How many are there."""
        return len(self._viewers)

    def lost(self) -> Counter[str]:
        """Return what viewers were too slow for, those who have left among them, by name."""
        found = Counter(self.dropped)
        for viewer in self._viewers:
            found.update({str(name): n for name, n in viewer.dropped.items()})
        return found

    def tell_all(self, message: Mapping[str, Any]) -> None:
        """Tell all viewers something that may not be lost."""
        text = to_json(message)
        for viewer in list(self._viewers):
            viewer.tell(text)

    def beat(self, machine: Mapping[str, Any]) -> None:
        """Tell all viewers how beds and machine do; the newest is enough for a slow one."""
        self.heartbeat += 1
        if not self._viewers:
            return
        now_s = self._now_s()
        message = {
            "type": "health",
            "heartbeat": self.heartbeat,
            "server_ms": round(self._now_ms(), 1),
            "beds": {name: bed.health_now(now_s) for name, bed in self.beds.items()},
            **machine,
            "viewers": self.n_viewers,
        }
        text = to_json(message)
        for viewer in self._viewers:
            viewer.tell_newest("health", text)

    def _tell_beds(self) -> None:
        self.tell_all({"type": "beds", "beds": list(self.beds)})

    def _speed_plain(self) -> dict[str, float | None]:
        return {"speed": self._speed if math.isfinite(self._speed) else None}
