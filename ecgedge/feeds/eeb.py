"""DATA frames (firmware_bridge/PROTOCOL.md), from whatever wire they came, as packets of millivolts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ecgedge.errors import FeedError
from ecgedge.feeds.declared import Declared
from ecgedge.feeds.dejitter import Packet
from ecgedge_bridge import Data, Frame

MODULUS = 2**32
"""A device's sample index begins anew there."""


class DataFrames:
    """Turns the frames of one device into packets.

    Attributes
    ----------
    dropped
        Frames by what was wrong with them: `not_data` (of a type that a device has no reason to send),
        `wrong_channels` (another number than declared), `gain_changed` (another gain setting than at the start, so
        `lsb_nv` is not theirs), `stale` (the sample index went on, and the device's clock went back).
    """

    def __init__(self, declared: Declared, *, uri: str) -> None:
        self._declared, self._uri = declared, uri
        self._rows = np.array(declared.rows)
        self._gain_id: int | None = None
        self._newest: tuple[int, int] | None = None  # sample index and clock of the frame that came last
        self.dropped: Counter[str] = Counter()

    def declare(self, declared: Declared, *, gain_id: int) -> None:
        """Take what the device says of the frames that follow; its leads must be the same, in any order."""
        self._declared, self._gain_id = declared, gain_id
        self._rows = np.array(declared.rows)

    def begin_anew(self) -> None:
        """Take that the device has started anew: its count and its clock have gone back, and so they may."""
        self._newest = None

    def packet(self, frame: Frame, *, arrived_s: float | None = None) -> Packet | None:
        """Return a frame's samples; None for one that is dropped and counted.

        Raises
        ------
        FeedError
            When the device sends simulated samples to a feed that was opened as real.
        """
        if not isinstance(frame, Data):
            self.dropped["not_data"] += 1
            return None
        if frame.simulated and self._declared.mode == "real":
            raise FeedError(
                f"{self._uri}: the device marks its samples as simulated; declare mode=demo (or mode=test)"
            )
        wrong = self._wrong(frame)
        if wrong is not None:
            self.dropped[wrong] += 1
            return None
        counts = np.array(frame.counts, np.float64).reshape(frame.n_samples, frame.n_channels).T
        samples_mv = (counts * (self._declared.lsb_nv * 1e-6)).astype(np.float32)
        either_off = (frame.lead_off | frame.lead_off >> 16) & 0xFFFF
        samples_mv[[bool(either_off >> i & 1) for i in range(frame.n_channels)]] = np.nan
        return Packet(np.ascontiguousarray(samples_mv[self._rows]), frame.sample_index, arrived_s=arrived_s)

    def _wrong(self, data: Data) -> str | None:
        if data.n_channels != len(self._declared.channels):
            return "wrong_channels"
        if self._gain_id is None:
            self._gain_id = data.gain_id
        if data.gain_id != self._gain_id:
            return "gain_changed"
        if self._newest is not None:
            went_on = 0 < (data.sample_index - self._newest[0]) % MODULUS < MODULUS // 2
            if went_on and data.t_us < self._newest[1]:
                return "stale"
        self._newest = data.sample_index, data.t_us
        return None
