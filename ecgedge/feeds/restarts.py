"""Devices that start anew, told from frames that lost their way; and where their samples belong. No clock, no I/O.

A device counts its samples, and its clock runs, since its start: where both begin anew, nothing in a frame says how
long it was away. Two things are known: the order on the wire, and when frames came. One frame from the past may have
lost its way; two that follow each other have not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ecgedge.feeds.eeb import MODULUS
from ecgedge.pace import DRIFT
from ecgedge_bridge import Data

FOLLOWS_S: Final = 5.0
"""Of a device that started anew, the second frame that came may be so much later than the first: some are lost."""

LEAST_HOLE_S: Final = 0.25
"""No device starts anew in less. Where samples are played faster than time, arrival says nothing, and this is taken."""

LOOK_S: Final = 10.0
"""For so long after a restart it is looked whether the first frame was held up; later, drift would look the same."""


@dataclass(frozen=True)
class HeardData:
    """A DATA frame and when it came; `anew`: it is the first since the device started anew."""

    data: Data
    arrived_s: float
    anew: bool = False


class Restarts:
    """Tells of each DATA frame of a wire that keeps the order whether the device started anew before it."""

    def __init__(self, rate_hz: float) -> None:
        self._most = round(FOLLOWS_S * rate_hz)
        self._newest: Data | None = None
        self._suspect: HeardData | None = None

    def take(self, data: Data, *, arrived_s: float) -> list[HeardData]:
        """Take a frame and return those of which it is sure now; a frame from the past waits for the next."""
        frame = HeardData(data, arrived_s)
        suspect, self._suspect = self._suspect, None
        before = [] if suspect is None else [suspect]
        follows = suspect is not None and self._follows(suspect.data, data)
        # A device that starts anew at once comes to the newest index again: behind one from the past it is no repeat.
        repeats = self._newest is not None and data.sample_index == self._newest.sample_index
        if self._newest is None or (_goes_on(self._newest, data) and not (follows and repeats)):
            self._newest = data
            return [*before, frame]
        if suspect is not None and follows:
            self._newest = data
            return [replace(suspect, anew=True), frame]
        self._suspect = frame
        return before

    def _follows(self, first: Data, second: Data) -> bool:
        ahead = (second.sample_index - first.sample_index - first.n_samples) % MODULUS
        return ahead <= self._most and second.t_us >= first.t_us


def _goes_on(newest: Data, data: Data) -> bool:
    ahead = (data.sample_index - newest.sample_index) % MODULUS
    return ahead < MODULUS // 2 and data.t_us >= newest.t_us


class Arrivals:
    """Knows by arrival when samples belong that a device sends after it started anew.

    What came quickest says how far the stream's time is from ours; the first frame after a restart is placed as though
    it came as quickly. It may have been held up: then all that follows stands too late by as much, which the frames
    after it show.

    Attributes
    ----------
    misplaced_s
        By how much the samples since the last restart stand too late, as far as is known by now.
    """

    def __init__(self) -> None:
        self._least_s: float | None = None
        self._heard_s = 0.0
        self._before: tuple[float, float] | None = None  # the least lag before the restart, and when that was
        self.misplaced_s = 0.0

    def heard(self, end_s: float, *, arrived_s: float) -> None:
        """Take that samples up to `end_s` of the stream's time came at `arrived_s`."""
        lag_s = arrived_s - end_s
        if self._least_s is None:
            self._least_s = lag_s
        else:
            # The device's clock may be slow: what came quickest once is not so for ever.
            self._least_s = min(self._least_s + DRIFT * (arrived_s - self._heard_s), lag_s)
        self._heard_s = arrived_s
        if self._before is not None and arrived_s - self._before[1] <= LOOK_S:
            self.misplaced_s = max(self.misplaced_s, self._before[0] - lag_s)

    def place(self, length_s: float, *, arrived_s: float, newest_s: float) -> float:
        """Return when samples of this length began that came at `arrived_s`, the first since the device's start."""
        least_s = arrived_s - newest_s if self._least_s is None else self._least_s
        by_arrival_s = arrived_s - least_s - length_s
        begin_s = max(by_arrival_s, newest_s + LEAST_HOLE_S)
        self._before, self._least_s = (least_s, arrived_s), arrived_s - begin_s - length_s
        self._heard_s = arrived_s
        self.misplaced_s = begin_s - by_arrival_s
        return begin_s
