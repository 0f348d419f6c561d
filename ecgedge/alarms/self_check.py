"""When a bed says that it is alive: the heartbeat without which silence would have to mean health (notes R11)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ecgedge.policy import AlarmPolicy

LEAP_S = 60.0
"""Of a longer step in time, in which nobody called, only the newest check is made: the others were not."""


@dataclass(frozen=True)
class ChecksState:
    """All that SelfChecks remembers: when the stream began, the latest time heard of, and the checks made."""

    begin_s: float = 0.0
    heard_s: float = 0.0
    made: int = 0


class SelfChecks:
    """Counts the self-checks of one stream: check n is due at its begin + n periods.

    Which checks come does not depend on how often `due` is called, but for leaps. A number that is left out is
    a check that was not made.
    """

    __slots__ = (
        "_begin_s",
        "_heard_s",
        "_made",
        "_next_s",
        "_period_s",
    )

    def __init__(self, policy: AlarmPolicy, state: ChecksState | None = None) -> None:
        self._period_s = policy.self_check_s
        saved = state or ChecksState()
        self._begin_s, self._heard_s, self._made = saved.begin_s, saved.heard_s, saved.made
        self._find_next()

    @property
    def state(self) -> ChecksState:
        """All that it remembers."""
        return ChecksState(self._begin_s, self._heard_s, self._made)

    def begin(self, t_s: float) -> None:
        """Count anew from `t_s`."""
        self._begin_s = self._heard_s = t_s
        self._made = 0
        self._find_next()

    def _find_next(self) -> None:
        self._next_s = self._begin_s + (self._made + 1) * self._period_s

    def due(self, t_s: float) -> list[tuple[int, float]]:
        """Make each check that is due by `t_s` and not made yet; return their numbers and times."""
        made: list[tuple[int, float]] = []
        while self._next_s <= t_s:
            self._made += 1
            made.append((self._made, self._next_s))
            self._find_next()
        if t_s > self._heard_s:
            self._heard_s = t_s
        return made

    def leap(self, t_s: float) -> None:
        """Give up the checks, all but the newest, of a leap in time from the latest call to `t_s`."""
        if t_s - self._heard_s > LEAP_S:
            newest = math.floor((t_s - self._begin_s) / self._period_s)
            self._made = max(self._made, newest - 1)
            self._find_next()
