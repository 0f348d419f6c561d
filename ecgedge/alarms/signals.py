"""The conditions and their signals: what a user is shown and hears, and what users do about it.

Every alarm event is made here. Time brings two things of its own: an acknowledgement runs out, and a pause of the
sound ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from ecgedge.alarms.state import AudioPause, ConditionState
from ecgedge.alarms.table import COME_ON, CONDITIONS, PRIORITIES, RANKS, Input, step
from ecgedge.events import Alarm, AlarmEvent, AudioEvent, Presence, Priority
from ecgedge.policy import AlarmPolicy


class Due(NamedTuple):
    """What time alone will bring: when, in which order among what is due at one instant, and what happens then.

    `happens` is called with that time.
    """

    t_s: float
    rank: int
    happens: Callable[[float], list[AlarmEvent]]


class Signals:
    """All conditions of one stream, each with its signal, and the pause of the sound.

    Parameters
    ----------
    policy
        How long acknowledgements hold, what latches, and what chatters.
    conditions, pause
        Where to go on; nothing is present by default.

    Attributes
    ----------
    any_present
        Whether a condition is present; of a calm bed, nothing else need be asked.
    pause
        The pause of the sound in force.
    due_s
        When time brings something next.
    """

    __slots__ = (
        "_conditions",
        "_policy",
        "_present",
        "any_present",
        "due_s",
        "pause",
    )

    def __init__(
        self,
        policy: AlarmPolicy,
        conditions: Mapping[str, ConditionState] | None = None,
        pause: AudioPause | None = None,
    ) -> None:
        self._policy = policy
        self._conditions = dict(conditions or {name: ConditionState() for name in CONDITIONS})
        self._present = {name for name, c in self._conditions.items() if c.presence == "on"}
        self.any_present = bool(self._present)
        self.pause = pause
        self._find_due()

    @property
    def conditions(self) -> Mapping[str, ConditionState]:
        """Each condition now, by name; all of `CONDITIONS`."""
        return self._conditions

    @property
    def cuts_off(self) -> bool:
        """Whether a physiological alarm is on, which nobody watches once feed, model or delivery fail."""
        return any(CONDITIONS[name].kind == "physiological" for name in self._present)

    def present(self, name: str) -> bool:
        """Tell whether a condition is present."""
        return name in self._present

    def active(self) -> list[Alarm]:
        """Return, in order of rank, the latest event of each condition whose signal is not off."""
        return [self._alarm(name) for name in CONDITIONS if self._conditions[name].signal != "off"]

    def dues(self) -> Iterator[Due]:
        """Yield all that time alone will bring; first the pause, so that what follows sounds."""
        if self.pause is not None:
            yield Due(self.pause.ends_s, -1, self._pause_over)
        for name, state in self._conditions.items():
            if state.acknowledged_s is not None:
                again_s = state.acknowledged_s + self._timeout_s(state.priority)
                yield Due(again_s, RANKS[name], partial(self._ring_again, name))

    # --- conditions ---

    def set_presence(
        self, name: str, t_s: float, *, on: bool, text: str, priority: Priority = "low"
    ) -> list[AlarmEvent]:
        """Make a condition present or absent; no event if it is so already."""
        if self.present(name) == on:
            return []
        latch = CONDITIONS[name].latches and self._policy.latching
        leave: Input = "condition_off_latch" if latch else "condition_off"
        if not on:
            return self._emit(name, t_s, leave, text=text, presence="off")
        text += self._count_onset(name, t_s)
        return self._emit(name, t_s, "condition_on", text=text, priority=priority, presence="on")

    def change(
        self, name: str, t_s: float, *, worse: bool, text: str | None = None, priority: Priority | None = None
    ) -> list[AlarmEvent]:
        """Change what a present condition says, or its priority; `worse` breaks through an acknowledgement."""
        return self._emit(name, t_s, "escalate" if worse else None, text=text, priority=priority)

    def _count_onset(self, name: str, t_s: float) -> str:
        """Note an onset; return what its text must say if it is one too many."""
        most, window_s = self._policy.chatter_onsets, self._policy.chatter_window_s
        onsets_s = (*self._conditions[name].onsets_s, t_s)[-most - 1 :]
        self._keep(name, onsets_s=onsets_s)
        if len(onsets_s) <= most or t_s - onsets_s[0] >= window_s:
            return ""
        return f"; chattering: more than {most} onsets in {window_s / 3600:g} h, review its limits"

    # --- users ---

    def acknowledge(self, name: str, t_s: float, *, user: str) -> list[AlarmEvent]:
        """Take that `user` has seen a condition; where there is nothing (left) to see, nothing happens."""
        if self._conditions[name].signal not in ("on", "latched"):
            return []
        return self._emit(name, t_s, "acknowledge", note=f"; acknowledged by {user}", user=user)

    def begin_pause(self, t_s: float, *, duration_s: float, user: str) -> AudioEvent:
        """Keep all alarms silent for `duration_s`; a pause in force gives way to this one."""
        on: list[Priority] = [c.priority for c in self._conditions.values() if c.signal == "on"]
        ends_s = t_s + duration_s
        self.pause = AudioPause(user, ends_s, max(["low", *on], key=PRIORITIES.index))
        self._find_due()
        return AudioEvent(t_s, "paused", ends_s, f"audio paused for {duration_s:g} s by {user}", user)

    def end_pause(self, t_s: float, text: str, *, user: str | None = None) -> AudioEvent:
        """End the pause in force; `text` says why."""
        self.pause = None
        self._find_due()
        return AudioEvent(t_s, "on", None, text, user)

    def _pause_over(self, due_s: float) -> list[AlarmEvent]:
        return [self.end_pause(due_s, "audio on again: the pause is over")]

    def _break_pause(self, name: str, t_s: float) -> list[AlarmEvent]:
        """End the pause if it does not cover the priority of a signal that comes on."""
        pause, priority = self.pause, self._conditions[name].priority
        if pause is None or PRIORITIES.index(priority) <= PRIORITIES.index(pause.covers):
            return []
        return [self.end_pause(t_s, f"audio on again: {name} of {priority} priority ends the pause")]

    def _timeout_s(self, priority: Priority) -> float:
        """Return how long an acknowledgement holds."""
        policy = self._policy
        return policy.acknowledge_timeout_low_s if priority == "low" else policy.acknowledge_timeout_medium_s

    def _ring_again(self, name: str, due_s: float) -> list[AlarmEvent]:
        waited_s = self._timeout_s(self._conditions[name].priority)
        note = f"; acknowledged {waited_s:g} s ago and still present"
        return self._emit(name, due_s, "acknowledge_timeout", note=note)

    # --- signals ---

    def _emit(
        self,
        name: str,
        t_s: float,
        given: Input | None,
        *,
        text: str | None = None,
        note: str = "",
        presence: Presence | None = None,
        priority: Priority | None = None,
        user: str | None = None,
    ) -> list[AlarmEvent]:
        """Move a condition's signal by the table and return the event; what is None stays as it was.

        `text` is what the condition says, `note` what users and time add in this event. Where the signal comes
        on at a priority that the pause does not cover, the end of the pause goes before.
        """
        old = self._conditions[name]
        signal = step(old.signal, given) if given else old.signal
        cause = old.cause if text is None else text
        since_s = t_s if given == "acknowledge" else old.acknowledged_s
        self._keep(
            name,
            signal=signal,
            presence=presence or old.presence,
            priority=priority or old.priority,
            changed_s=t_s,
            text=cause + note,
            cause=cause,
            acknowledged_s=since_s if signal == "acknowledged" else None,
            user=user,
        )
        broken = self._break_pause(name, t_s) if given in COME_ON else []
        return [*broken, self._alarm(name)]

    def _keep(self, name: str, **changes: Any) -> None:
        state = self._conditions[name] = replace(self._conditions[name], **changes)
        if state.presence == "on":
            self._present.add(name)
        else:
            self._present.discard(name)
        self.any_present = bool(self._present)
        self._find_due()

    def _find_due(self) -> None:
        self.due_s = min((due.t_s for due in self.dues()), default=math.inf)

    def _alarm(self, name: str) -> Alarm:
        state, paused = self._conditions[name], self.pause is not None
        return Alarm(
            state.changed_s,
            name,
            CONDITIONS[name].kind,
            state.priority,
            state.presence,
            state.signal,
            state.text,
            audible="paused" if paused and state.signal == "on" else None,
            user=state.user,
        )
