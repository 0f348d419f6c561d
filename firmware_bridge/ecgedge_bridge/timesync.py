"""The other side's clock from PING and PONG (PROTOCOL.md section 5.9): pure functions, no clock is read.

Offset and round trip as in NTP (D. L. Mills, RFC 5905 section 8): the offset of one exchange is wrong by at most
half its round trip, however unequal the two ways are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One PING and its PONG; microseconds. t1 and t4 on our clock, t2 and t3 on the other side's."""

    t1_us: int
    t2_us: int
    t3_us: int
    t4_us: int

    @property
    def offset_us(self) -> float:
        """How far the other side's clock is ahead of ours."""
        return ((self.t2_us - self.t1_us) + (self.t3_us - self.t4_us)) / 2

    @property
    def round_trip_us(self) -> int:
        """Time on the way, there and back; below 0 if the clocks contradict each other."""
        return (self.t4_us - self.t1_us) - (self.t3_us - self.t2_us)

    @property
    def is_possible(self) -> bool:
        """Whether no clock went back and nothing came before it was sent."""
        return self.t3_us >= self.t2_us and self.t4_us >= self.t1_us and self.round_trip_us >= 0


@dataclass(frozen=True, kw_only=True)
class ClockFit:
    """A line through the offsets of several exchanges.

    Attributes
    ----------
    at_us
        The time on our clock to which `offset_us` belongs: the middle of the exchanges used.
    offset_us
        How far the other side's clock is ahead of ours at `at_us`.
    drift_ppm
        How much faster it runs, in millionths; 0 where one exchange alone was used.
    bound_us
        Half the longest round trip used: were the drift as fitted, the offset is wrong by no more.
    n_used, n_impossible, n_slow
        Exchanges that the line rests on; that contradict themselves; whose round trip was too long.
    """

    at_us: float
    offset_us: float
    drift_ppm: float
    bound_us: float
    n_used: int
    n_impossible: int
    n_slow: int

    def offset_at_us(self, own_us: float) -> float:
        """Return how far the other side's clock is ahead at `own_us` of our clock, by the line."""
        return self.offset_us + self.drift_ppm * 1e-6 * (own_us - self.at_us)


def fit_clock(exchanges: Sequence[Exchange], *, slow_factor: float = 2.0) -> ClockFit | None:
    """Fit a least-squares line through the offsets of recent exchanges, in any order.

    An exchange that was held up on one of its ways has a false offset and a long round trip: those that took
    more than `slow_factor` times the median are left out and counted.

    Parameters
    ----------
    exchanges
        The recent ones; the caller says how many. Sixty at one a second are a good start.
    slow_factor
        At least 1.

    Returns
    -------
    ClockFit or None
        None where no exchange is possible.

    Raises
    ------
    ValueError
        When `slow_factor` is below 1: every exchange could be too slow.
    """
    if slow_factor < 1:
        raise ValueError(f"slow_factor is {slow_factor}; expected at least 1")
    possible = [e for e in exchanges if e.is_possible]
    if not possible:
        return None
    limit_us = slow_factor * median(e.round_trip_us for e in possible)
    used = [e for e in possible if e.round_trip_us <= limit_us]
    at_us, offset_us, slope = _line([((e.t1_us + e.t4_us), _twice_offset(e)) for e in used])
    return ClockFit(
        at_us=float(at_us / 2),
        offset_us=float(offset_us / 2),
        drift_ppm=float(slope * 10**6),
        bound_us=max(e.round_trip_us for e in used) / 2,
        n_used=len(used),
        n_impossible=len(exchanges) - len(possible),
        n_slow=len(possible) - len(used),
    )


def _twice_offset(exchange: Exchange) -> int:
    return (exchange.t2_us - exchange.t1_us) + (exchange.t3_us - exchange.t4_us)


def _line(points: Sequence[tuple[int, int]]) -> tuple[Fraction, Fraction, Fraction]:
    """Return mean x, mean y and the slope. In whole numbers: the clocks may stand anywhere within 64 bits."""
    n = len(points)
    sum_x, sum_y = sum(x for x, _ in points), sum(y for _, y in points)
    spread = n * sum(x * x for x, _ in points) - sum_x * sum_x
    shared = n * sum(x * y for x, y in points) - sum_x * sum_y
    slope = Fraction(shared, spread) if spread else Fraction(0)
    return Fraction(sum_x, n), Fraction(sum_y, n), slope
