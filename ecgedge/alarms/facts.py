"""Facts that are a condition of their own (`DELAYS`): told once they have held for their time, gone with them.

Which wait, which come by a window only and which recover slowly stands in `ecgedge.alarms.table`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import get_args

from ecgedge.alarms.rules import SLACK_S
from ecgedge.alarms.signals import Due, Signals
from ecgedge.alarms.state import Waiting
from ecgedge.alarms.table import BY_WINDOW, DELAYS, RANKS, RECOVERIES, Fact
from ecgedge.events import AlarmEvent
from ecgedge.policy import AlarmPolicy


class Facts:
    """The facts that hold in one stream.

    Parameters
    ----------
    policy
        How long each must hold, or not hold any more.
    signals
        Where the conditions are told.
    waiting, recovering_s
        Where to go on; no fact holds by default.

    Attributes
    ----------
    waiting
        Facts that hold but not yet for long enough, by condition.
    due_s
        When time alone brings one of their conditions next.
    """

    __slots__ = (
        "_policy",
        "_recovering_s",
        "_signals",
        "due_s",
        "waiting",
    )

    def __init__(
        self,
        policy: AlarmPolicy,
        signals: Signals,
        *,
        waiting: Mapping[str, Waiting] | None = None,
        recovering_s: Mapping[str, float] | None = None,
    ) -> None:
        self._policy, self._signals = policy, signals
        self._recovering_s = dict(recovering_s or {})
        self._wait(waiting or {})

    @property
    def recovering_s(self) -> Mapping[str, float]:
        """Facts that do not hold any more, but not yet for long enough for their conditions to go: since when."""
        return self._recovering_s

    def holds(self, name: Fact) -> bool:
        """Tell whether a fact holds, or its condition is still present."""
        return name in self.waiting or self._signals.present(name)

    def failing(self, name: Fact) -> bool:
        """Tell whether a fact's condition is present, and not on the way to go."""
        return self._signals.present(name) and name not in self._recovering_s

    def held(self) -> dict[Fact, str]:
        """Return the facts that hold, told already or not, with what their conditions say."""
        names: tuple[Fact, ...] = get_args(Fact)
        waiting, conditions = self.waiting, self._signals.conditions
        held = [name for name in names if self.holds(name)]
        return {n: waiting[n].text if n in waiting else conditions[n].cause for n in held}

    def dues(self) -> Iterator[Due]:
        """Yield the conditions that time alone will bring."""
        for name in DELAYS:
            if name in self.waiting and name not in BY_WINDOW:
                yield Due(self._due_s(name), RANKS[name], partial(self._tell, name))

    def begin(self, name: Fact, t_s: float, text: str) -> list[AlarmEvent]:
        """Take that a fact holds; one of `BY_WINDOW` comes with the first call that says so when its time is over."""
        if self._signals.present(name):
            self._recovering_s.pop(name, None)
            return []
        if name not in self.waiting:
            self._wait({**self.waiting, name: Waiting(t_s, text)})
            at_once = name not in BY_WINDOW and self._due_s(name) <= t_s
            return self._tell(name, t_s) if at_once else []
        over = name in BY_WINDOW and t_s >= self._due_s(name) - SLACK_S
        return self._tell(name, t_s) if over else []

    def cease(self, name: Fact, t_s: float, text: str) -> list[AlarmEvent]:
        """Take that a fact does not hold; one of `RECOVERIES` lets its condition wait until that may be believed."""
        if name in self.waiting:
            self._wait({n: w for n, w in self.waiting.items() if n != name})
        key = RECOVERIES.get(name)
        if key is not None and self._signals.present(name):
            since_s = self._recovering_s.setdefault(name, t_s)
            if t_s < since_s + float(getattr(self._policy, key)) - SLACK_S:
                return []
            del self._recovering_s[name]
        return self._signals.set_presence(name, t_s, on=False, text=text)

    def _wait(self, waiting: Mapping[str, Waiting]) -> None:
        self.waiting = waiting
        self.due_s = min((due.t_s for due in self.dues()), default=math.inf)

    def _due_s(self, name: str) -> float:
        """Return when a fact that holds will have held for its time."""
        key, since_s = DELAYS[name], self.waiting[name].since_s
        return since_s if key is None else since_s + float(getattr(self._policy, key))

    def _tell(self, name: str, t_s: float) -> list[AlarmEvent]:
        text = self.waiting[name].text
        self._wait({n: w for n, w in self.waiting.items() if n != name})
        cut_off = name in ("MODEL_FAILED", "DELIVERY_FAILED") and self._signals.cuts_off
        return self._signals.set_presence(
            name, t_s, on=True, text=text, priority="medium" if cut_off else "low"
        )
