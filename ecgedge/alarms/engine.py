"""The alarm engine: facts and time in, alarm events out. It reads no clock and does no I/O.

Facts come by `on_estimate`, `on_lead`, `on_feed` and `acknowledge`; what only the passing of time brings
(a lead off for too long, no usable window, elevated for too long, an acknowledgement that has run out) comes
out of whichever call first reaches its due time, stamped with that due time. So the events of a stream do not
depend on how often `advance` is called, as long as all calls come in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ecgedge.alarms.rules import Elevation, ValidWindow, valid_window
from ecgedge.alarms.table import CONDITIONS, Input, step
from ecgedge.events import Alarm, Estimate, Presence, Priority, Signal
from ecgedge.leads import STANDARD_LEADS, canonical_lead
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import from_plain, to_plain

SNAPSHOT_FORMAT = 2

_Due = tuple[float, Callable[[float], list[Alarm]]]
"""A time, and what happens then (called with that time)."""


@dataclass(frozen=True)
class ConditionState:
    """A condition now.

    Attributes
    ----------
    since_s, changed_s
        Times of its latest onset and of its latest event.
    text
        What the latest event said.
    cause
        What the condition itself said last: `text` without the users' part.
    acknowledged_s
        When its signal was acknowledged; None unless that still holds.
    """

    presence: Presence = "off"
    signal: Signal = "off"
    priority: Priority = "none"
    since_s: float = 0.0
    changed_s: float = 0.0
    text: str = ""
    cause: str = ""
    acknowledged_s: float | None = None


@dataclass(frozen=True)
class EngineState:
    """All that the engine remembers between two calls.

    Attributes
    ----------
    now_s
        Latest time heard of; None before the first call.
    origin_s
        Time of the first fact: the stream's age counts from here.
    window_s
        End of the newest window, valid or not.
    connected
        Whether the feed delivers.
    poor_due_s
        When POOR_SIGNAL comes unless a usable window does; None while it cannot come.
    off_since_s
        Leads that are off and not yet told, and since when.
    leads_off
        Leads that LEAD_OFF tells of, in standard order.
    conditions
        By name; all of `CONDITIONS`.
    """

    now_s: float | None = None
    origin_s: float | None = None
    window_s: float | None = None
    connected: bool = True
    poor_due_s: float | None = None
    off_since_s: Mapping[str, float] = field(default_factory=dict)
    leads_off: tuple[str, ...] = ()
    conditions: Mapping[str, ConditionState] = field(
        default_factory=lambda: {name: ConditionState() for name in CONDITIONS}
    )


@dataclass(frozen=True)
class _Snapshot:
    format: int
    hop_s: float
    policy: AlarmPolicy
    state: EngineState
    windows: tuple[ValidWindow, ...]


class AlarmEngine:
    """Decides which alarms are on, for one stream.

    Times are stream times in seconds and must not run backwards; a fact that comes late (network delay) takes
    effect at the latest time heard of. When stream time starts over, start a new engine.

    Parameters
    ----------
    policy
        When the conditions come and go.
    hop_s
        Time from window to window.

    Raises
    ------
    ValueError
        If a span of the policy is shorter than a hop, so that its rule could never fire. Every method with a
        time raises it for a time that is not finite.
    """

    def __init__(self, policy: AlarmPolicy, *, hop_s: float) -> None:
        self._policy = policy
        self._hop_s = hop_s
        self._elevation = Elevation(policy, hop_s=hop_s)
        self._state = EngineState()

    @classmethod
    def restore(cls, policy: AlarmPolicy, *, hop_s: float, snapshot: Mapping[str, Any]) -> AlarmEngine:
        """Build an engine that goes on exactly where `snapshot` was taken.

        Raises
        ------
        ValueError
            If the snapshot is damaged, or was taken under another policy or hop.
        """
        found = snapshot.get("format", SNAPSHOT_FORMAT)
        if found != SNAPSHOT_FORMAT:
            raise ValueError(
                f"snapshot format {found} is of another version; this one reads {SNAPSHOT_FORMAT}: start a new "
                "engine (what was on or latched must then be looked at by hand)"
            )
        saved = from_plain(_Snapshot, snapshot, where="snapshot")
        if (saved.policy, saved.hop_s) != (policy, hop_s):
            raise ValueError(
                "the snapshot was taken under another alarm policy or hop; restore it with the same, "
                "or start a new engine (what was on or latched must then be looked at by hand)"
            )
        if saved.state.conditions.keys() != CONDITIONS.keys():
            raise ValueError(f"snapshot: expected the conditions {', '.join(CONDITIONS)}")
        engine = cls(policy, hop_s=hop_s)
        engine._state = saved.state
        engine._elevation = Elevation(policy, hop_s=hop_s, windows=saved.windows)
        return engine

    def snapshot(self) -> dict[str, Any]:
        """Return all state as plain JSON types, for `restore`."""
        windows = self._elevation.windows
        plain = to_plain(_Snapshot(SNAPSHOT_FORMAT, self._hop_s, self._policy, self._state, windows))
        return dict(plain)

    def active(self) -> list[Alarm]:
        """Return, in order of rank, the latest event of each condition whose signal is not off."""
        shown = {n: c for n, c in self._state.conditions.items() if c.signal != "off"}
        return [_alarm(name, shown[name]) for name in CONDITIONS if name in shown]

    def advance(self, t_s: float) -> list[Alarm]:
        """Let time pass to `t_s`; return all that is due by then (at `t_s` included), in order."""
        if not math.isfinite(t_s):
            raise ValueError(f"time must be finite, found {t_s}")
        now_s = t_s if self._state.now_s is None else max(t_s, self._state.now_s)
        self._set(now_s=now_s)
        alarms: list[Alarm] = []
        while (due := min(self._dues(), default=None, key=lambda d: d[0])) and due[0] <= now_s:
            due_s, happens = due
            alarms += happens(due_s)
        return alarms

    def on_estimate(self, estimate: Estimate) -> list[Alarm]:
        """Take one window's answer, whatever its validity.

        An "invalid" window without a variant says that no variant of the bundle fits the leads that are on.

        Raises
        ------
        ValueError
            If the window does not end after the one before it: windows would count twice.
        """
        last_s = self._state.window_s
        if last_s is not None and not estimate.t_s > last_s:
            raise ValueError(f"a window ending at {estimate.t_s} s came after one ending at {last_s} s")
        alarms = self._enter(estimate.t_s)
        self._set(window_s=estimate.t_s)
        alarms += self._check_variant(estimate)
        if estimate.validity != "invalid":
            alarms += self._set_presence("POOR_SIGNAL", on=False, text="usable signal again")
            self._rearm_poor()
        window = valid_window(estimate)
        if window is not None:
            self._elevation.push(window)
            alarms += self._check_elevation(window.t_s)
        return alarms

    def on_lead(self, t_s: float, lead: str, *, on: bool) -> list[Alarm]:
        """Take that a lead has come on or gone off; saying it twice changes nothing.

        Raises
        ------
        ValueError
            If `lead` is no standard lead.
        """
        lead = canonical_lead(lead)
        alarms = self._enter(t_s)
        waiting = dict(self._state.off_since_s)
        if not on:
            if lead not in waiting and lead not in self._state.leads_off:
                self._set(off_since_s={**waiting, lead: self._now()})
            return alarms
        waiting.pop(lead, None)
        self._set(off_since_s=waiting)
        if lead in self._state.leads_off:
            alarms += self._set_leads_off(self._now(), tuple(x for x in self._state.leads_off if x != lead))
        return alarms

    def on_feed(self, t_s: float, *, connected: bool) -> list[Alarm]:
        """Take that the feed was lost (no chunk for `feed_lost_s`, as its owner saw) or delivers (again).

        FEED_LOST is medium if it cuts off a physiological alarm, else low.
        """
        alarms = self._enter(t_s)
        self._set(connected=connected)
        cut_off = any(c.kind == "physiological" and self._present(n) for n, c in CONDITIONS.items())
        text = "the feed delivers again" if connected else "the feed was lost: no monitoring"
        changed = self._set_presence(
            "FEED_LOST", on=not connected, text=text, priority="medium" if cut_off else "low"
        )
        if changed:
            self._rearm_poor()
        return alarms + changed

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[Alarm]:
        """Take that `user` has seen `condition`; where there is nothing (left) to see, nothing happens.

        A second acknowledgement is such a case: it does not put off the time-out of the first.

        Raises
        ------
        ValueError
            If there is no such condition, or `user` is empty or unprintable: someone must answer for it.
        """
        if condition not in CONDITIONS:
            raise ValueError(f"unknown condition {condition!r}; known are {', '.join(CONDITIONS)}")
        if not user.strip() or not user.isprintable():
            raise ValueError(f"who acknowledges {condition}? user is {user!r}; expected a name on one line")
        alarms = self.advance(t_s)
        state = self._state.conditions[condition]
        if state.signal in ("on", "latched"):
            note = f"; acknowledged by {user.strip()}"
            alarms.append(self._emit(condition, self._now(), "acknowledge", note=note))
        return alarms

    # --- time-driven transitions ---

    def _dues(self) -> Iterator[_Due]:
        """Yield all that time alone will bring, in order of rank."""
        for name in CONDITIONS:
            yield from self._own_dues(name)
            state = self._state.conditions[name]
            if state.acknowledged_s is not None:
                yield state.acknowledged_s + self._timeout_s(state.priority), partial(self._ring_again, name)

    def _own_dues(self, name: str) -> Iterator[_Due]:
        """Yield what time brings to this condition only."""
        policy, state = self._policy, self._state
        if name == "MPCWP_ELEVATED":
            elevated = state.conditions[name]
            if elevated.presence == "on" and elevated.priority == "low":
                yield elevated.since_s + policy.medium_after_s, self._elevated_for_long
        elif name == "LEAD_OFF" and state.off_since_s:
            yield min(state.off_since_s.values()) + policy.lead_off_s, self._tell_leads_off
        elif name == "POOR_SIGNAL" and state.poor_due_s is not None:
            yield state.poor_due_s, self._nothing_usable

    def _timeout_s(self, priority: Priority) -> float:
        """Return how long an acknowledgement holds."""
        policy = self._policy
        return policy.acknowledge_timeout_low_s if priority == "low" else policy.acknowledge_timeout_medium_s

    def _elevated_for_long(self, due_s: float) -> list[Alarm]:
        text = (
            f"mPCWP estimate elevated for {self._policy.medium_after_s:g} s; an estimate, not a measurement"
        )
        return [self._emit("MPCWP_ELEVATED", due_s, "escalate", text=text, priority="medium")]

    def _nothing_usable(self, due_s: float) -> list[Alarm]:
        self._set(poor_due_s=None)
        text = f"no usable window for {self._policy.poor_signal_s:g} s"
        return self._set_presence("POOR_SIGNAL", on=True, text=text, at_s=due_s)

    def _ring_again(self, name: str, due_s: float) -> list[Alarm]:
        waited_s = self._timeout_s(self._state.conditions[name].priority)
        note = f"; acknowledged {waited_s:g} s ago and still present"
        return [self._emit(name, due_s, "acknowledge_timeout", note=note)]

    def _tell_leads_off(self, due_s: float) -> list[Alarm]:
        """Move all leads that are due together (an electrode carries several leads) into LEAD_OFF."""
        waiting = self._state.off_since_s
        told = {lead for lead, since_s in waiting.items() if since_s + self._policy.lead_off_s <= due_s}
        self._set(off_since_s={lead: s for lead, s in waiting.items() if lead not in told})
        told |= set(self._state.leads_off)
        return self._set_leads_off(due_s, tuple(lead for lead in STANDARD_LEADS if lead in told))

    def _rearm_poor(self) -> None:
        """Start the wait for a usable window; while feed or leads are missing, they are told of instead."""
        waits = self._state.connected and not self._present("NO_VARIANT")
        self._set(poor_due_s=self._now() + self._policy.poor_signal_s if waits else None)

    # --- facts ---

    def _enter(self, t_s: float) -> list[Alarm]:
        """Let time pass to a fact's time; the first fact starts the stream."""
        alarms = self.advance(t_s)
        if self._state.origin_s is None:
            self._set(origin_s=self._now())
            self._rearm_poor()
        return alarms

    def _check_variant(self, estimate: Estimate) -> list[Alarm]:
        missing = estimate.variant is None and estimate.validity == "invalid"
        on = ",".join(estimate.leads) or "none"
        text = (
            f"too few leads for any model variant (on: {on})"
            if missing
            else "enough leads for the model again"
        )
        changed = self._set_presence("NO_VARIANT", on=missing, text=text)
        if changed:
            self._rearm_poor()
        return changed

    def _check_elevation(self, t_s: float) -> list[Alarm]:
        """Apply the rules at the valid window that ends at `t_s`."""
        name, rules = "MPCWP_ELEVATED", self._elevation
        age_s = t_s - (self._state.origin_s or 0.0)
        priority: Priority = "medium" if rules.medium(age_s=age_s) else "low"
        text = f"mPCWP estimate elevated: {rules.describe()}; an estimate, not a measurement"
        if not self._present(name):
            come = rules.onset(age_s=age_s)
            return self._set_presence(name, on=True, text=text, priority=priority) if come else []
        if rules.recovered(age_s=age_s):
            return self._set_presence(name, on=False, text="mPCWP estimate no longer elevated")
        if priority == "medium" and self._state.conditions[name].priority == "low":
            far = f"lower bound at least {self._policy.medium_lower_bound_mmhg:g} mmHg"
            return [self._emit(name, self._now(), "escalate", text=f"{text} ({far})", priority=priority)]
        return []

    def _set_leads_off(self, t_s: float, leads: tuple[str, ...]) -> list[Alarm]:
        """Change the set of leads that LEAD_OFF tells of: one event a change; more leads off is worse."""
        worse = len(leads) > len(self._state.leads_off)
        self._set(leads_off=leads)
        text = f"leads off: {','.join(leads)}" if leads else "all leads on again"
        if not leads or not self._present("LEAD_OFF"):
            return self._set_presence("LEAD_OFF", on=bool(leads), text=text, at_s=t_s)
        return [self._emit("LEAD_OFF", t_s, "escalate" if worse else None, text=text)]

    # --- conditions and signals ---

    def _set_presence(
        self, name: str, *, on: bool, text: str, priority: Priority = "low", at_s: float | None = None
    ) -> list[Alarm]:
        """Make a condition present or absent, now or `at_s`; no event if it is so already."""
        if self._present(name) == on:
            return []
        t_s = self._now() if at_s is None else at_s
        latch = CONDITIONS[name].latches and self._policy.latching
        leave: Input = "condition_off_latch" if latch else "condition_off"
        if not on:
            return [self._emit(name, t_s, leave, text=text, presence="off")]
        self._keep(name, since_s=t_s)
        return [self._emit(name, t_s, "condition_on", text=text, priority=priority, presence="on")]

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
    ) -> Alarm:
        """Move a condition's signal by the table and return the event; what is None stays as it was.

        `text` is what the condition says, `note` what users and time add in this event.
        """
        old = self._state.conditions[name]
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
        )
        return _alarm(name, self._state.conditions[name])

    def _keep(self, name: str, **changes: Any) -> None:
        conditions = self._state.conditions
        self._set(conditions={**conditions, name: replace(conditions[name], **changes)})

    def _present(self, name: str) -> bool:
        return self._state.conditions[name].presence == "on"

    def _now(self) -> float:
        return self._state.now_s or 0.0

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)


def _alarm(name: str, state: ConditionState) -> Alarm:
    kind = CONDITIONS[name].kind
    return Alarm(state.changed_s, name, kind, state.priority, state.presence, state.signal, state.text)
