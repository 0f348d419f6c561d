"""Places for samples that come in their order, each with a time stamp of software: no clock and no I/O.

Lab Streaming Layer runs over TCP, so nothing comes twice or out of order, and there is no sequence number: only a stamp
tells of a hole. But stamps are of software, too: a sender that was held up stamps late, and then catches up. So a stamp
that is off is believed only where those that follow are off as well, for `SURE_S` of samples; meanwhile they wait.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError

TOLERANCE_S: Final = 0.005
"""A stamp that is off by less still means the sample that is due (or by 0.6 of a sample, where that is more)."""

SURE_S: Final = 0.25
"""Stamps that are off for so long are believed."""

FOLLOW_S: Final = 2.0
"""How fast a clock that drifts is followed: 200 ppm are 0.4 ms behind."""

SET_BACK_S: Final = 5.0
"""Stamps that are earlier by more were given by another clock."""


LATEST_S: Final = 1e10
"""A stamp beyond is none."""


class StampGrid:
    """Numbers the samples of one stream by the clock that stamps them, `t_s` x `rate_hz`.

    Parameters
    ----------
    rate_hz
        Of the samples.
    """

    def __init__(self, *, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._tolerance_s = max(TOLERANCE_S, 0.6 / rate_hz)
        self._sure = max(1, round(SURE_S * rate_hz))
        self._next: int | None = None
        self._off_s = 0.0
        self._waiting: list[float] = []  # stamps; the first is beyond the tolerance

    @property
    def n_waiting(self) -> int:
        """How many samples have come and have no number yet."""
        return len(self._waiting)

    def push(self, stamps_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Take the stamps of samples, (n,) seconds, not finite where there is none.

        Returns
        -------
        NDArray[np.int64]
            (m,) numbers of the samples that have waited longest; a step of more than one is a hole.

        Raises
        ------
        FeedError
            When the clock has been set back.
        """
        numbers: list[int] = []
        for stamp_s in stamps_s.tolist():
            self._take(stamp_s, numbers)
        return np.array(numbers, np.int64)

    def flush(self) -> NDArray[np.int64]:
        """Return the numbers of those that wait: nothing comes any more, and stamps that are off are believed.

        Raises
        ------
        FeedError
            As `push`.
        """
        numbers: list[int] = []
        while self._waiting:  # each time one at least is given: the earliest of them is in its place then
            self._believe(numbers)
        return np.array(numbers, np.int64)

    def _take(self, stamp_s: float, numbers: list[int]) -> None:
        if not abs(stamp_s) < LATEST_S:
            stamp_s = math.nan
        if self._next is None:
            self._next = 0 if math.isnan(stamp_s) else round(stamp_s * self._rate_hz)
            self._off_s = 0.0 if math.isnan(stamp_s) else stamp_s - self._next / self._rate_hz
        late_s = self._late_s(len(self._waiting), stamp_s)
        if not self._waiting and not abs(late_s) > self._tolerance_s:
            self._follow(late_s)
            self._give(numbers, more=1)
            return
        self._waiting.append(stamp_s)
        if abs(late_s) <= self._tolerance_s:
            self._give(numbers)
        elif len(self._waiting) >= self._sure:
            self._believe(numbers)

    def _late_s(self, place: int, stamp_s: float) -> float:
        """Return by how much the stamp of the one at this place in the queue is later than due."""
        return stamp_s - self._off_s - ((self._next or 0) + place) / self._rate_hz

    def _follow(self, late_s: float) -> None:
        """Take over some of a deviation: an earlier stamp at once, for none is given before its sample."""
        if late_s < 0.0:
            self._off_s += late_s
        elif late_s > 0.0:
            self._off_s += late_s / (FOLLOW_S * self._rate_hz)

    def _give(self, numbers: list[int], *, more: int = 0) -> None:
        first = self._next or 0
        self._next = first + len(self._waiting) + more
        self._waiting.clear()
        numbers.extend(range(first, self._next))

    def _believe(self, numbers: list[int]) -> None:
        """All that wait are off: leave a hole, or follow a clock that is earlier than it seemed."""
        off_s = [self._late_s(place, stamp_s) for place, stamp_s in enumerate(self._waiting)]
        ahead_s = [late_s for late_s in off_s if late_s > self._tolerance_s]
        if 2 * len(ahead_s) < len(off_s):
            self._go_back(max((late_s for late_s in off_s if late_s < -self._tolerance_s), default=0.0))
            self._give(numbers)
            return
        self._next = (self._next or 0) + round(min(ahead_s) * self._rate_hz)
        waited, self._waiting = self._waiting, []
        for stamp_s in waited:
            self._take(stamp_s, numbers)

    def _go_back(self, late_s: float) -> None:
        if late_s < -SET_BACK_S:
            raise FeedError(
                f"the stream's clock went back by {-late_s:.1f} s: other stamps than before. Open the feed again"
            )
        self._off_s += late_s
