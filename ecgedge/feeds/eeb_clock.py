"""A device's clock against ours, by PING and PONG (PROTOCOL.md, 5.8 and 5.9): no clock is read here.

It tells of delay and drift; it never moves a sample.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ecgedge_bridge import ClockFit, Exchange, Ping, Pong, fit_clock

PING_S: Final = 2.0
"""A question every so often; more than one a second is not allowed."""

EXCHANGES: Final = 60
"""The newest of them make the line."""

OPEN: Final = 16
"""Questions without an answer that are remembered."""

SURE: Final = 15
"""Below so many exchanges (half a minute) nothing is said of drift."""


class DeviceClock:
    """One device's clock since it started.

    Parameters
    ----------
    tolerance_ppm
        By how much its clock may run faster or slower than ours.

    Attributes
    ----------
    age_s
        How old the newest sample was when it came, by the device's clock; None before the first exchange.
    unasked
        PONGs to no open question.
    """

    def __init__(self, *, tolerance_ppm: float) -> None:
        self._tolerance_ppm = tolerance_ppm
        self._id = 0
        self._open: dict[int, int] = {}
        self._asked_s: float | None = None
        self._exchanges: deque[Exchange] = deque(maxlen=EXCHANGES)
        self.fit: ClockFit | None = None
        self.age_s: float | None = None
        self.unasked = 0

    def begin_anew(self) -> None:
        """Take that the device's clock has begun anew: what is known of it holds no more."""
        self._open.clear()
        self._exchanges.clear()
        self.fit = self.age_s = self._asked_s = None

    def ask(self, *, now_s: float) -> Ping | None:
        """Return a question if one is due."""
        if self._asked_s is not None and now_s - self._asked_s < PING_S:
            return None
        self._asked_s = now_s
        self._id = (self._id + 1) % 2**32
        self._open[self._id] = to_us(now_s)
        if len(self._open) > OPEN:
            del self._open[next(iter(self._open))]
        return Ping(seq=0, ping_id=self._id, t1_us=to_us(now_s))

    def heard(self, pong: Pong, *, now_s: float) -> None:
        """Take an answer that came at `now_s`."""
        if self._open.get(pong.ping_id) != pong.t1_us:
            self.unasked += 1
            return
        del self._open[pong.ping_id]
        self._exchanges.append(
            Exchange(t1_us=pong.t1_us, t2_us=pong.t2_us, t3_us=pong.t3_us, t4_us=to_us(now_s))
        )
        self.fit = fit_clock(tuple(self._exchanges))

    def sampled(self, end_us: float, *, arrived_s: float) -> None:
        """Take that samples up to `end_us` of the device's clock came at `arrived_s`."""
        if self.fit is not None:
            own_us = arrived_s * 1e6
            self.age_s = (own_us + self.fit.offset_at_us(own_us) - end_us) / 1e6

    @property
    def drifts(self) -> bool:
        """Whether the clock is surely out of tolerance: beyond what the exchanges' bounds may feign."""
        fit = self.fit
        if fit is None or fit.n_used < SURE:
            return False
        length_us = max(e.t4_us for e in self._exchanges) - min(e.t1_us for e in self._exchanges)
        return abs(fit.drift_ppm) - 2e6 * fit.bound_us / max(1.0, length_us) > self._tolerance_ppm

    def status(self) -> dict[str, Any]:
        """Return what is known, as plain JSON types; nothing before the first exchange."""
        fit = self.fit
        if fit is None:
            return {}
        return {
            "offset_ms": round(fit.offset_us / 1e3, 3),
            "bound_ms": round(fit.bound_us / 1e3, 3),
            "drift_ppm": round(fit.drift_ppm, 1),
            "drift_ok": not self.drifts if fit.n_used >= SURE else None,
            "exchanges": fit.n_used,
            "slow": fit.n_slow,
            "impossible": fit.n_impossible,
        }


def to_us(now_s: float) -> int:
    """Return a time of ours in microseconds, as it stands in frames."""
    return round(now_s * 1e6)
