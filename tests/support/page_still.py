"""A page's server that stands still, so that a state looks the same each time: one moment, and samples that end."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import datetime, timezone

import numpy as np
import page_rig
import page_scenes
from page_rig import LSB_NV, MISSING, RATE_HZ, PageRig, block

AT = datetime(2026, 3, 1, 9, 41, 20, tzinfo=timezone.utc)
AT_MS = AT.timestamp() * 1000
FIRST_SAMPLES = 4600  # as much as the widest page shows, and a little more
LATER_SAMPLES = 400
MESSAGE_SAMPLES = 200
HEALTH_S = 0.2

STAND_STILL = """(() => {
  const {sweep} = m.page;
  sweep.drawn = () => { sweep.drawnMs = performance.now(); };
  sweep.stats.latencyMs.splice(0, Infinity, 12);
})()"""
"""In main.js: what the page measures by itself is a constant from now on."""


WAVES = (
    (0.16, 0.025, 0.12),
    (0.27, 0.010, -0.10),
    (0.30, 0.011, 1.05),
    (0.33, 0.012, -0.22),
    (0.52, 0.045, 0.28),
)
"""P, Q, R, S and T of a made-up beat: its place in s, width in s and height in mV."""

LEAD_GAINS = (0.7, 1.0, 0.4, -0.8, 0.3, 0.7, -0.6, -0.9, 0.4, 1.2, 1.1, 0.8)
BEAT_S = 0.8


def made_up_ecg():
    """Ten seconds of beats that are no patient's, and the same on every machine: int16 counts [12][5000]."""
    t_s = np.arange(10 * RATE_HZ) / RATE_HZ % BEAT_S
    beat_mv = sum(height * np.exp(-0.5 * ((t_s - at) / width) ** 2) for at, width, height in WAVES)
    return np.round(np.outer(LEAD_GAINS, beat_mv) * 1e6 / LSB_NV).astype(np.int16)


@contextmanager
def stopped_clock():
    """The world's time stands for all that a rig and its scenes say."""
    kept = page_rig.now_ms, page_rig.BEAT_S
    page_rig.now_ms, page_rig.BEAT_S = (lambda: AT_MS), HEALTH_S
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
