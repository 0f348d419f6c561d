"""Whether a live feed's samples come at the rate that it declares, and when they should.

A device that is set to 250 Hz and declared with 500 delivers every beat at twice its speed, and nothing in its samples
says so: windows look like an ECG, and every estimate is wrong. Only time tells. Samples come late by what the way
takes, never early, so the least lag in each stretch of time hardly moves; where the rate is wrong, it grows or shrinks,
and goes on to. One step (another way through a network, a backlog that is sent at once, a device's clock that is set)
moves it once, in two stretches at most.

Old samples look like new ones, too: what waited somewhere on the way (a gateway, a buffer that nobody read, a network
that was gone for a while) comes in good order, at the right rate, and minutes late.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Final, NamedTuple

STEP_S: Final = 10.0
"""Lags are compared from stretch to stretch of so long."""

SPANS: Final = ((6, 0.05), (60, 0.01))
"""Over so many stretches each third must be wrong by more than this share: 250 for 500 Hz is told after a minute, 250
for 256 after ten. Crystals differ by a ten-thousandth."""


LATE_S: Final = 2.0
"""Samples are late that come so much later than the quickest did ..."""

SURE_S: Final = 5.0
"""... for so long: what is made up for sooner was a stall ..."""

SOON_S: Final = 1.0
"""... and until they come no later than this."""

DRIFT: Final = 200e-6
"""So much a second the quickest is taken to be later: the device's clock may be slow, and crystals are better."""


class _Lag(NamedTuple):
    """The least lag of a stretch, and when it was."""

    lag_s: float
    now_s: float


class PaceWatch:
    """Watches one feed from its opening on.

    Parameters
    ----------
    rate_hz
        As declared.

    Attributes
    ----------
    steady
        Whether samples come at that rate; None while nobody can know.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._lags: deque[_Lag] = deque(maxlen=SPANS[-1][0] + 1)
        self._begin_s = self._heard_s = 0.0
        self._least: _Lag | None = None
        self._found_hz: float | None = None
        self.steady: bool | None = None

    def heard(self, t_s: float, now_s: float) -> None:
        """Take that the feed has come to `t_s`, of its own time, at `now_s`, of a clock that is never set."""
        if self._least is None or now_s - self._heard_s > STEP_S:
            self._lags.clear()  # after a silence nobody knows what was lost
            self._begin_s, self._least = now_s, None
        self._heard_s = now_s
        if now_s - self._begin_s >= STEP_S and self._least is not None:
            self._lags.append(self._least)
            self._begin_s, self._least = now_s, None
            self._look()
        lag_s = now_s - t_s
        if self._least is None or lag_s < self._least.lag_s:
            self._least = _Lag(lag_s, now_s)

    @property
    def why(self) -> str | None:
        """Say what is wrong, if anything is."""
        if self._found_hz is None:
            return None
        return (
            f"samples come at {self._found_hz:.4g} per second, and the feed declares {self._rate_hz:g}: its rate is "
            "wrong, or they cannot come as fast"
        )

    def _look(self) -> None:
        """Compare the newest stretch with those before it."""
        for span, most in SPANS:
            if len(self._lags) <= span:
                return
            edges = [self._lags[-1 - span * k // 3] for k in (3, 2, 1, 0)]
            thirds = [_growth(a, b) for a, b in pairwise(edges)]
            if min(thirds) > most or max(thirds) < -most:
                self._found_hz, self.steady = self._rate_hz * (1.0 - _growth(edges[0], edges[-1])), False
                return
            if span == SPANS[0][0]:
                self._found_hz, self.steady = None, True


class Quickest(NamedTuple):
    """By how much the clock was ahead of the feed's time when the quickest samples came, as it stood at `now_s`."""

    lag_s: float
    now_s: float


class AgeWatch:
    """Watches how much later than they could samples of one feed come, from its opening on.

    Nobody knows how far a device's clock is from ours, so age is counted from the quickest that ever came.

    Parameters
    ----------
    quickest, delayed
        What an earlier watch of the same opening, by the same clock, knew.

    Attributes
    ----------
    age_s
        Of the newest sample when it came, beyond that of the quickest.
    delayed
        Whether samples come late, and have for a while.
    """

    def __init__(self, quickest: Quickest | None = None, *, delayed: bool = False) -> None:
        self._quickest = quickest
        self._end_s = -math.inf
        self._late_since_s: float | None = None
        self.age_s = 0.0
        self.delayed = delayed

    @property
    def quickest(self) -> Quickest | None:
        """What a later watch must know to go on; None before the first sample."""
        return self._quickest

    def heard(self, begin_s: float, end_s: float, now_s: float) -> None:
        """Take samples of `begin_s` to `end_s`, of the feed's time, at `now_s`, of a clock that is never set."""
        lag_s = least_s = now_s - end_s
        if self._quickest is not None:
            least_s = self._quickest.lag_s + DRIFT * (now_s - self._quickest.now_s)
            if begin_s < self._end_s - SOON_S:
                least_s += self._end_s - begin_s  # a device's clock that was set back makes samples no older
        self._quickest = Quickest(min(least_s, lag_s), now_s)
        self._end_s = end_s
        self.age_s = lag_s - self._quickest.lag_s
        self._judge(now_s)

    def _judge(self, now_s: float) -> None:
        if self.age_s < LATE_S:
            self._late_since_s = None
            self.delayed = self.delayed and self.age_s >= SOON_S
            return
        if self._late_since_s is None:
            self._late_since_s = now_s
        self.delayed = self.delayed or now_s - self._late_since_s >= SURE_S

    @property
    def why(self) -> str | None:
        """Say how late they are, if they are."""
        if not self.delayed:
            return None
        return f"samples come {self.age_s:.1f} s later than they could: they waited on their way, or it is too slow"


def _growth(earlier: _Lag, later: _Lag) -> float:
    """Return by how many seconds a second the lag grows."""
    return (later.lag_s - earlier.lag_s) / (later.now_s - earlier.now_s)
