"""How a patient's estimates stand to that patient's own day: medians of minutes, and of those minutes the medians.

It brings no alarm by itself (notes R5: a change from the patient's own baseline tells more than a number). One median
a minute is kept, so a day costs 12 kB at ten windows a second as at one a minute.
"""

from __future__ import annotations

import math
from array import array
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.events import Estimate, TrendEvent

MINUTE_S: Final = 60.0
NOW_MINUTES: Final = 10
DAY_MINUTES: Final = 1440
EVERY_MINUTES: Final = 5
"""How often it is told."""

LEAST_NOW, LEAST_BEFORE = 5, 30
"""Minutes with a valid estimate that either side needs."""


class Baseline:
    """The minutes of a day of valid estimates, as the model said them.

    A minute is told of with the first valid window after it, so no event depends on how samples are cut.
    """

    __slots__ = (
        "_estimates",
        "_medians",
        "_minute",
    )

    def __init__(self, medians_mmhg: NDArray[np.float64] | None = None) -> None:
        # Minute m of stream time at m modulo their number, NaN where it had no valid window; then the number of the
        # minute that is being counted, NaN before the first, and the estimates in it.
        saved = np.full(DAY_MINUTES + 1, math.nan) if medians_mmhg is None else medians_mmhg
        self._medians = saved[:DAY_MINUTES].copy()
        self._minute = None if math.isnan(saved[DAY_MINUTES]) else int(saved[DAY_MINUTES])
        self._estimates = array("d", saved[DAY_MINUTES + 1 :].tolist())

    @property
    def state(self) -> NDArray[np.float64]:
        """All that is remembered."""
        minute = math.nan if self._minute is None else float(self._minute)
        return np.concatenate([self._medians, [minute], self._estimates])

    def push(self, estimate: Estimate) -> list[TrendEvent]:
        """Take an estimate; return what it ends."""
        if estimate.validity != "valid" or estimate.mpcwp_mmhg is None:
            return []
        offset_mmhg = 0.0 if estimate.calibration is None else estimate.calibration.offset_mmhg
        minute = math.floor(estimate.t_s / MINUTE_S)
        events: list[TrendEvent] = []
        if minute != self._minute:
            events = self._begin(minute, estimate.t_s, offset_mmhg)
        self._estimates.append(estimate.mpcwp_mmhg + offset_mmhg)
        return events

    def _begin(self, minute: int, t_s: float, offset_mmhg: float) -> list[TrendEvent]:
        last, self._minute = self._minute, minute
        if last is None:
            return []
        self._medians[last % DAY_MINUTES] = float(np.median(self._estimates))
        del self._estimates[:]
        passed = min(minute - last - 1, DAY_MINUTES)
        self._medians[[(last + 1 + k) % DAY_MINUTES for k in range(passed)]] = math.nan
        if last // EVERY_MINUTES == minute // EVERY_MINUTES:
            return []
        return self._told(minute, t_s, offset_mmhg)

    def _told(self, minute: int, t_s: float, offset_mmhg: float) -> list[TrendEvent]:
        """Compare the minutes before `minute` with the day before them."""
        by_age = self._medians[[(minute - 1 - k) % DAY_MINUTES for k in range(DAY_MINUTES)]]
        now, before = by_age[:NOW_MINUTES], by_age[NOW_MINUTES:]
        now, before = now[~np.isnan(now)], before[~np.isnan(before)]
        if len(now) < LEAST_NOW or len(before) < LEAST_BEFORE:
            return []
        now_mmhg, baseline_mmhg = float(np.median(now)), float(np.median(before))
        return [
            TrendEvent(
                t_s=t_s,
                now_mmhg=now_mmhg - offset_mmhg,
                baseline_mmhg=baseline_mmhg - offset_mmhg,
                change_mmhg=now_mmhg - baseline_mmhg,
                baseline_minutes=len(before),
            )
        ]
