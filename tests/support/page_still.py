"""A page's server that stands still, so that a state looks the same each time: one moment, and samples that end."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import datetime, timezone

import numpy as np
import page_rig
import page_scenes
from page_rig import MISSING, RATE_HZ, PageRig, block

AT = datetime(2026, 3, 1, 9, 41, 20, tzinfo=timezone.utc)
AT_MS = AT.timestamp() * 1000
FIRST_SAMPLES = 4600  # as much as the widest page shows, and a little more
LATER_SAMPLES = 400
MESSAGE_SAMPLES = 200
BEAT_S = 0.2

STAND_STILL = """(() => {
  const {sweep} = m.page;
  sweep.drawn = () => { sweep.drawnMs = performance.now(); };
  sweep.stats.latencyMs.splice(0, Infinity, 12);
})()"""
"""In main.js: what the page measures by itself is a constant from now on."""


@contextmanager
def stopped_clock():
    """The world's time stands for all that a rig and its scenes say."""
    kept = page_rig.now_ms, page_rig.BEAT_S
    page_rig.now_ms, page_rig.BEAT_S = (lambda: AT_MS), BEAT_S
    page_scenes.now_ms = page_rig.now_ms
    yield
    page_rig.now_ms, page_rig.BEAT_S = kept
    page_scenes.now_ms = page_rig.now_ms


class StillRig(PageRig):
    """Sends a page its samples at once when it begins to watch, and then none: its feed is alive all the same."""

    def play_on(self):
        """Send what comes after, as leads that are off and leaps of time have it."""
        if self.playing:
            asyncio.run_coroutine_threadsafe(self._send(LATER_SAMPLES), self._loop).result(5)

    async def _take(self, socket, said):
        await super()._take(socket, said)
        if said["do"] == "watch":
            self._sample = self._seq = 0
            await self._send(FIRST_SAMPLES)

    async def _send(self, n):
        self._sample += self.leap_samples
        for _ in range(0, n, MESSAGE_SAMPLES):
            await self._broadcast(self._block(MESSAGE_SAMPLES))
            self._sample += MESSAGE_SAMPLES
            self._seq += 1

    def _block(self, n):
        counts = self.ecg[:, np.arange(self._sample, self._sample + n) % self.ecg.shape[1]]
        counts[[lead in self.off for lead in self.leads]] = MISSING
        return block(counts, t_s=self._sample / RATE_HZ, seq=self._seq)

    async def _play(self):
        while True:  # messages of no samples: the feed has not ended
            if self.playing and self._seq:
                await self._broadcast(self._block(0))
            await asyncio.sleep(0.1)

    async def _broadcast(self, message):
        if isinstance(message, dict) and message["type"] == "health":
            message = {**message, "heartbeat": 77}
        await super()._broadcast(message)
