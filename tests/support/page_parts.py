"""What tests of the page share: a hub whose clocks are set by hand, and viewers that keep what they take."""

import json

import numpy as np

from ecgedge.feeds import Chunk
from ecgedge.monitor.beds import BedFacts
from ecgedge.monitor.frames import decode
from ecgedge.monitor.hub import Hub
from ecgedge.monitor.viewer import Viewer
from ecgedge.policy import AlarmPolicy

EPOCH_MS = 1_800_000_000_000.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, s=0.0):
        self.s = s

    def now_s(self):
        return self.s

    def now_ms(self):
        return EPOCH_MS + self.s * 1e3


class Watcher:
    """A viewer that counts how often it was woken and cut off."""

    def __init__(self, hub=None):
        self.woken = self.cut = 0
        self.viewer = Viewer(wake=self._woken, overflow=self._cut)
        if hub is not None:
            hub.join(self.viewer, {"type": "hello"})

    def _woken(self):
        self.woken += 1

    def _cut(self):
        self.cut += 1

    def taken(self):
        """Take all that waits: texts as JSON, samples as they are read."""
        found = []
        while (message := self.viewer.take()) is not None:
            found.append(json.loads(message) if isinstance(message, str) else decode(message))
        return found

    def texts(self, kind=None):
        return [m for m in self.taken() if isinstance(m, dict) and kind in (None, m["type"])]


def facts(leads=("I", "II"), rate_hz=500.0):
    return BedFacts(leads, rate_hz, "sim:stable", "demo", AlarmPolicy())


def make_hub(clock=None, *, beds=("a",), speed=1.0):
    clock = clock or Clock()
    hub = Hub(now_ms=clock.now_ms, now_s=clock.now_s, speed=speed)
    for name in beds:
        hub.add(name)
        hub.describe(name, facts())
    return hub


def chunk(n=10, t_s=0.0, value=None, leads=2):
    samples_mv = np.arange(leads * n, dtype=np.float32).reshape(leads, n) / 1000.0
    return Chunk(t_s, samples_mv if value is None else np.full_like(samples_mv, value), 0)
