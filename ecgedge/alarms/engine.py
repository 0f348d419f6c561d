"""The alarm engine: facts and time in, alarm events out. It reads no clock and does no I/O.

Facts come by `on_estimate`, `on_lead` and `on_feed`, and a user's by `acknowledge`, `pause_audio` and
`resume_audio`; what only the passing of time brings (a lead off for too long, no usable window, elevated for
too long, an acknowledgement or a pause that has run out) comes out of whichever call first reaches its due
time, stamped with that due time. So the events of a stream do not depend on how often `advance` is called, as
long as all calls come in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from ecgedge.alarms.rules import SLACK_S, Elevation, ValidWindow, valid_window
from ecgedge.alarms.state import SNAPSHOT_FORMAT, AudioPause, EngineState, Snapshot, Waiting, read_snapshot
from ecgedge.alarms.table import (
    BY_WINDOW,
    COME_ON,
    CONDITIONS,
    DELAYS,
    PRIORITIES,
    RECOVERIES,
    Fact,
    Input,
    step,
)
from ecgedge.alarms.trend import Trend
from ecgedge.alarms.users import check_acknowledge, check_pause, check_resume
from ecgedge.electrodes import describe_blame
from ecgedge.events import Alarm, AlarmEvent, AudioEvent, Estimate, Expired, Presence, Priority
from ecgedge.leads import STANDARD_LEADS, canonical_lead
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import to_plain

_Due = tuple[float, Callable[[float], list[AlarmEvent]]]
"""A time, and what happens then (called with that time)."""


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
    leads
        What the feed measures; with them LEAD_OFF says which electrode explains the leads that are off.

    Raises
    ------
    ValueError
        If a span of the policy is shorter than a hop, so that its rule could never fire. Every method with a
        time raises it for a time that is not finite.
    """

    def __init__(self, policy: AlarmPolicy, *, hop_s: float, leads: Sequence[str] = ()) -> None:
        self._policy, self._leads = policy, tuple(leads)
        self._hop_s = hop_s
        self._elevation = Elevation(policy, hop_s=hop_s)
        self._trend = Trend(policy, hop_s=hop_s)
        self._state = EngineState()
        self._later_due_s: float | None = None
        self._quiet: bool | None = None

    @classmethod
    def restore(
        cls, policy: AlarmPolicy, *, hop_s: float, snapshot: Mapping[str, Any], leads: Sequence[str] = ()
    ) -> AlarmEngine:
        """Build an engine that goes on exactly where `snapshot` was taken.

        Raises
        ------
        ValueError
            If the snapshot is damaged, of another format, or was taken under another policy or hop.
        """
        saved = read_snapshot(snapshot, policy=policy, hop_s=hop_s)
        engine = cls(policy, hop_s=hop_s, leads=leads)
        engine._state = saved.state
        engine._elevation = Elevation(policy, hop_s=hop_s, windows=saved.windows)
        engine._trend = Trend(policy, hop_s=hop_s, saved=saved.trend)
        return engine

    def snapshot(self) -> dict[str, Any]:
        """Return all state as plain JSON types, for `restore`."""
        past = self._elevation.windows, self._trend.state
        return dict(to_plain(Snapshot(SNAPSHOT_FORMAT, self._hop_s, self._policy, self._state, *past)))

    def active(self) -> list[Alarm]:
        """Return, in order of rank, the latest event of each condition whose signal is not off.

        Whether it is audible is told as it stands now, also where a pause began or ended since.
        """
        shown = {n: c for n, c in self._state.conditions.items() if c.signal != "off"}
        return [self._alarm(name) for name in CONDITIONS if name in shown]

    @property
    def quiet(self) -> bool:
        """Whether no condition is present and no fact of `on_fact` holds."""
        if self._quiet is None:
            present = any(c.presence == "on" for c in self._state.conditions.values())
            self._quiet = not (present or self._state.waiting)
        return self._quiet

    @property
    def now_s(self) -> float:
        """The latest time heard of; 0 before the first."""
        return self._now()

    @property
    def pause(self) -> AudioPause | None:
        """The pause of the sound in force at the latest time heard of."""
        return self._state.pause

    def advance(self, t_s: float) -> list[AlarmEvent]:
        """Let time pass to `t_s`; return all that is due by then (at `t_s` included), in order."""
        if not math.isfinite(t_s):
            raise ValueError(f"time must be finite, found {t_s}")
        state = self._state
        now_s = state.now_s = t_s if state.now_s is None else max(t_s, state.now_s)
        alarms: list[AlarmEvent] = []
        while self._next_due_s() <= now_s:
            due_s, happens = min(self._dues(), key=lambda due: due[0])
            alarms += happens(due_s)
        return alarms

    def on_estimate(self, estimate: Estimate) -> list[AlarmEvent]:
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
        self._state.window_s = estimate.t_s
        alarms += self._check_variant(estimate)
        if estimate.validity != "invalid":
            self._state.number_s = estimate.t_s
            if not self.quiet:
                alarms += self._set_presence("POOR_SIGNAL", on=False, text="usable signal again")
            self._rearm_poor()
        window = valid_window(estimate)
        if window is not None:
            self._elevation.push(window)
            alarms += self._check_elevation(window.t_s)
            offset_mmhg = 0.0 if estimate.calibration is None else estimate.calibration.offset_mmhg
            alarms += self._check_rising(window, offset_mmhg)
            alarms += self._check_delivery()
        return alarms

    def begin_rules_anew(self) -> None:
        """Take that estimates mean something else from here on: earlier ones bring and clear nothing any more."""
        self._elevation = Elevation(self._policy, hop_s=self._hop_s)

    def on_lead(self, t_s: float, lead: str, *, on: bool) -> list[AlarmEvent]:
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

    def on_feed(self, t_s: float, *, connected: bool) -> list[AlarmEvent]:
        """Take that the feed was lost (no chunk for `feed_lost_s`, as its owner saw) or delivers (again).

        FEED_LOST is medium if it cuts off a physiological alarm, else low.
        """
        alarms = self._enter(t_s)
        self._set(connected=connected)
        text = "the feed delivers again" if connected else "the feed was lost: no monitoring"
        changed = self._set_presence(
            "FEED_LOST", on=not connected, text=text, priority="medium" if self._cuts_off() else "low"
        )
        if changed:
            self._rearm_poor()
        return alarms + changed

    def on_fact(self, t_s: float, condition: Fact, *, on: bool, text: str) -> list[AlarmEvent]:
        """Take that what a condition of `DELAYS` tells of holds, or does not; saying it twice changes nothing.

        `text` is what the condition says when it comes (the first since the fact holds), or when it goes. One of
        `RECOVERIES` goes with the first call that says so when its time is over.
        """
        alarms = self.advance(t_s)
        waiting = self._state.waiting
        if not on:
            if condition in waiting:
                self._set(waiting={name: w for name, w in waiting.items() if name != condition})
            return alarms + self._fact_over(condition, text)
        if self._present(condition):
            self._relapse(condition)
            return alarms
        if condition in waiting:
            if condition in BY_WINDOW and self._now() >= self._fact_due_s(condition) - SLACK_S:
                alarms += self._tell_fact(condition, self._now())
            return alarms
        self._set(waiting={**waiting, condition: Waiting(self._now(), text)})
        return alarms + self.advance(self._now())

    def holds(self, condition: Fact) -> bool:
        """Tell whether a fact holds, or its condition is still present."""
        return not self.quiet and (condition in self._state.waiting or self._present(condition))

    def facts(self) -> dict[Fact, str]:
        """Return the facts that hold, told already or not, with what their conditions say."""
        names: tuple[Fact, ...] = get_args(Fact)
        waiting, conditions = self._state.waiting, self._state.conditions
        held = [name for name in names if self.holds(name)]
        return {n: waiting[n].text if n in waiting else conditions[n].cause for n in held}

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[AlarmEvent]:
        """Take that `user` has seen `condition`; where there is nothing (left) to see, nothing happens.

        A second acknowledgement is such a case: it does not put off the time-out of the first.

        Raises
        ------
        ValueError
            If there is no such condition, or `user` is empty or unprintable: someone must answer for it.
        """
        user = check_acknowledge(condition, user)
        alarms = self.advance(t_s)
        state = self._state.conditions[condition]
        if state.signal in ("on", "latched"):
            note = f"; acknowledged by {user}"
            alarms += self._emit(condition, self._now(), "acknowledge", note=note, user=user)
        return alarms

    def pause_audio(self, t_s: float, *, duration_s: float, user: str) -> list[AlarmEvent]:
        """Keep all alarms silent for `duration_s`, in the name of `user`; a pause in force gives way to this one.

        What it covers and what ends it early is written in `AlarmPolicy`.

        Raises
        ------
        ValueError
            If `duration_s` is not above 0 and at most the policy's `audio_pause_max_s`, or `user` is empty or
            unprintable.
        """
        user = check_pause(duration_s, user, self._policy)
        events = self.advance(t_s)
        on: list[Priority] = [c.priority for c in self._state.conditions.values() if c.signal == "on"]
        ends_s = self._now() + duration_s
        self._set(pause=AudioPause(user, ends_s, max(["low", *on], key=PRIORITIES.index)))
        text = f"audio paused for {duration_s:g} s by {user}"
        return [*events, AudioEvent(self._now(), "paused", ends_s, text, user)]

    def resume_audio(self, t_s: float, *, user: str) -> list[AlarmEvent]:
        """End a pause before its time, in the name of `user`; without a pause nothing happens.

        Raises
        ------
        ValueError
            If `user` is empty or unprintable.
        """
        user = check_resume(user)
        events = self.advance(t_s)
        if self._state.pause is not None:
            events.append(self._end_pause(self._now(), f"audio on again, by {user}", user=user))
        return events

    # --- time-driven transitions ---

    def _next_due_s(self) -> float:
        """Return when time brings something next; what each window moves is not among what is kept of it."""
        if self._later_due_s is None:
            self._later_due_s = min((due_s for due_s, _ in self._dues(each_window=False)), default=math.inf)
        due_s, state = self._later_due_s, self._state
        if state.poor_due_s is not None:
            due_s = min(due_s, state.poor_due_s)
        if state.number_s is not None:
            due_s = min(due_s, state.number_s + self._policy.estimate_lifetime_s)
        return due_s

    def _dues(self, *, each_window: bool = True) -> Iterator[_Due]:
        """Yield all that time alone will bring, in order of rank; first the pause, so that what follows sounds.

        Without what each window moves on, if asked: the wait for a usable one, and an estimate's end.
        """
        if each_window and self._state.number_s is not None:
            yield self._state.number_s + self._policy.estimate_lifetime_s, self._expire
        if self._state.pause is not None:
            yield self._state.pause.ends_s, self._pause_over
        for name in CONDITIONS:
            if each_window or name != "POOR_SIGNAL":
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
                yield elevated.onsets_s[-1] + policy.medium_after_s, self._elevated_for_long
        elif name == "LEAD_OFF" and state.off_since_s:
            yield min(state.off_since_s.values()) + policy.lead_off_s, self._tell_leads_off
        elif name == "POOR_SIGNAL" and state.poor_due_s is not None:
            yield state.poor_due_s, self._nothing_usable
        elif name in state.waiting and name not in BY_WINDOW:
            yield self._fact_due_s(name), partial(self._tell_fact, name)

    def _timeout_s(self, priority: Priority) -> float:
        """Return how long an acknowledgement holds."""
        policy = self._policy
        return policy.acknowledge_timeout_low_s if priority == "low" else policy.acknowledge_timeout_medium_s

    def _pause_over(self, due_s: float) -> list[AlarmEvent]:
        return [self._end_pause(due_s, "audio on again: the pause is over")]

    def _elevated_for_long(self, due_s: float) -> list[AlarmEvent]:
        text = (
            f"mPCWP estimate elevated for {self._policy.medium_after_s:g} s; an estimate, not a measurement"
        )
        return self._emit("MPCWP_ELEVATED", due_s, "escalate", text=text, priority="medium")

    def _nothing_usable(self, due_s: float) -> list[AlarmEvent]:
        self._state.poor_due_s = None
        text = f"no usable window for {self._policy.poor_signal_s:g} s"
        return self._set_presence("POOR_SIGNAL", on=True, text=text, at_s=due_s)

    def _fact_due_s(self, name: str) -> float:
        """Return when a fact that holds will have held for its time."""
        key, since_s = DELAYS[name], self._state.waiting[name].since_s
        return since_s if key is None else since_s + float(getattr(self._policy, key))

    def _tell_fact(self, name: str, due_s: float) -> list[AlarmEvent]:
        waiting = dict(self._state.waiting)
        text = waiting.pop(name).text
        self._set(waiting=waiting)
        cut_off = name in ("MODEL_FAILED", "DELIVERY_FAILED") and self._cuts_off()
        told = self._set_presence(
            name, on=True, text=text, priority="medium" if cut_off else "low", at_s=due_s
        )
        if name == "MODEL_FAILED":
            self._rearm_poor()
        return told

    def _fact_over(self, name: str, text: str) -> list[AlarmEvent]:
        """Let the condition of a fact that does not hold go, or wait until that may be believed."""
        key, recovering_s = RECOVERIES.get(name), self._state.recovering_s
        if key is not None and self._present(name):
            since_s = recovering_s.get(name, self._now())
            self._set(recovering_s={**recovering_s, name: since_s})
            if name == "MODEL_FAILED" and self._state.poor_due_s is None:
                self._rearm_poor()
            if self._now() < since_s + float(getattr(self._policy, key)) - SLACK_S:
                return []
            self._set(recovering_s={n: s for n, s in recovering_s.items() if n != name})
        return self._set_presence(name, on=False, text=text)

    def _relapse(self, name: str) -> None:
        """Take that a fact holds again before its condition has gone."""
        recovering_s = self._state.recovering_s
        if name in recovering_s:
            self._set(recovering_s={n: s for n, s in recovering_s.items() if n != name})
            if name == "MODEL_FAILED":
                self._rearm_poor()

    def _expire(self, due_s: float) -> list[AlarmEvent]:
        since_s, self._state.number_s = self._state.number_s or 0.0, None
        reason = f"no estimate for {self._policy.estimate_lifetime_s:g} s"
        return [Expired(due_s, since_s, reason)]

    def _cuts_off(self) -> bool:
        """Tell whether a physiological alarm is on, which nobody watches any more."""
        return any(c.kind == "physiological" and self._present(n) for n, c in CONDITIONS.items())

    def _ring_again(self, name: str, due_s: float) -> list[AlarmEvent]:
        waited_s = self._timeout_s(self._state.conditions[name].priority)
        note = f"; acknowledged {waited_s:g} s ago and still present"
        return self._emit(name, due_s, "acknowledge_timeout", note=note)

    def _tell_leads_off(self, due_s: float) -> list[AlarmEvent]:
        """Move all leads that are due together (an electrode carries several leads) into LEAD_OFF."""
        waiting = self._state.off_since_s
        told = {lead for lead, since_s in waiting.items() if since_s + self._policy.lead_off_s <= due_s}
        self._set(off_since_s={lead: s for lead, s in waiting.items() if lead not in told})
        told |= set(self._state.leads_off)
        return self._set_leads_off(due_s, tuple(lead for lead in STANDARD_LEADS if lead in told))

    def _rearm_poor(self) -> None:
        """Start the wait for a usable window; while feed, leads or model are missing, they are told of instead."""
        failing = self._present("MODEL_FAILED") and "MODEL_FAILED" not in self._state.recovering_s
        missing = not self.quiet and (self._present("NO_VARIANT") or failing)
        waits = self._state.connected and not missing
        self._state.poor_due_s = self._now() + self._policy.poor_signal_s if waits else None

    # --- facts ---

    def _enter(self, t_s: float) -> list[AlarmEvent]:
        """Let time pass to a fact's time; the first fact starts the stream."""
        alarms = self.advance(t_s)
        if self._state.origin_s is None:
            self._set(origin_s=self._now())
            self._rearm_poor()
        return alarms

    def _check_variant(self, estimate: Estimate) -> list[AlarmEvent]:
        missing = estimate.variant is None and estimate.validity == "invalid"
        if missing == self._present("NO_VARIANT"):
            return []
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

    def _check_elevation(self, t_s: float) -> list[AlarmEvent]:
        """Apply the rules at the valid window that ends at `t_s`."""
        name, rules = "MPCWP_ELEVATED", self._elevation
        age_s = t_s - (self._state.origin_s or 0.0)
        priority: Priority = "medium" if rules.medium(age_s=age_s) else "low"
        present = self._present(name)
        if not present and not rules.onset(age_s=age_s):
            return []
        if present and rules.recovered(age_s=age_s):
            return self._set_presence(name, on=False, text="mPCWP estimate no longer elevated")
        text = f"mPCWP estimate elevated: {rules.describe()}; an estimate, not a measurement"
        if not present:
            return self._set_presence(name, on=True, text=text, priority=priority)
        if priority == "medium" and self._state.conditions[name].priority == "low":
            far = f"lower bound at least {self._policy.medium_lower_bound_mmhg:g} mmHg"
            return self._emit(name, self._now(), "escalate", text=f"{text} ({far})", priority=priority)
        return []

    def _check_rising(self, window: ValidWindow, offset_mmhg: float) -> list[AlarmEvent]:
        """Apply the rule to what the model said: a calibration is no change of the patient."""
        name, line_mmhg, policy = "MPCWP_RISING", self._state.rising_line_mmhg, self._policy
        if not policy.rising or window.mpcwp_mmhg is None:
            return []
        self._trend.push(window.t_s, window.mpcwp_mmhg + offset_mmhg)
        if line_mmhg is not None:
            if not self._trend.fell_below(line_mmhg):
                return []
            self._set(rising_line_mmhg=None)
            return self._set_presence(name, on=False, text="mPCWP estimate no longer above its baseline")
        if (found := self._trend.rising()) is None:
            return []
        now, baseline = found
        self._set(rising_line_mmhg=baseline + policy.rising_mmhg - policy.recovery_margin_mmhg)
        text = (
            f"mPCWP estimate rising: median {now - offset_mmhg:.1f} mmHg in {policy.rising_span_s:g} s, "
            f"{now - baseline:.1f} above this patient's baseline of {baseline - offset_mmhg:.1f}; an estimate, not a "
            "measurement"
        )
        return self._set_presence(name, on=True, text=text)

    def _check_delivery(self) -> list[AlarmEvent]:
        """Make DELIVERY_FAILED medium once it keeps a physiological alarm from someone."""
        name = "DELIVERY_FAILED"
        if self.quiet or not self._present(name) or not self._cuts_off():
            return []
        if self._state.conditions[name].priority == "medium":
            return []
        return self._emit(name, self._now(), "escalate", priority="medium")

    def _set_leads_off(self, t_s: float, leads: tuple[str, ...]) -> list[AlarmEvent]:
        """Change the set of leads that LEAD_OFF tells of: one event a change; more leads off is worse."""
        worse = len(leads) > len(self._state.leads_off)
        self._set(leads_off=leads)
        blamed = describe_blame(leads, self._leads) if set(leads) <= set(self._leads) else None
        off = f"leads off: {','.join(leads)}" + (f" ({blamed})" if blamed else "")
        text = off if leads else "all leads on again"
        if not leads or not self._present("LEAD_OFF"):
            return self._set_presence("LEAD_OFF", on=bool(leads), text=text, at_s=t_s)
        return self._emit("LEAD_OFF", t_s, "escalate" if worse else None, text=text)

    # --- conditions and signals ---

    def _set_presence(
        self, name: str, *, on: bool, text: str, priority: Priority = "low", at_s: float | None = None
    ) -> list[AlarmEvent]:
        """Make a condition present or absent, now or `at_s`; no event if it is so already."""
        if self._present(name) == on:
            return []
        t_s = self._now() if at_s is None else at_s
        latch = CONDITIONS[name].latches and self._policy.latching
        leave: Input = "condition_off_latch" if latch else "condition_off"
        if not on:
            return self._emit(name, t_s, leave, text=text, presence="off")
        text += self._count_onset(name, t_s)
        return self._emit(name, t_s, "condition_on", text=text, priority=priority, presence="on")

    def _count_onset(self, name: str, t_s: float) -> str:
        """Note an onset; return what its text must say if it is one too many."""
        most, window_s = self._policy.chatter_onsets, self._policy.chatter_window_s
        onsets_s = (*self._state.conditions[name].onsets_s, t_s)[-most - 1 :]
        self._keep(name, onsets_s=onsets_s)
        if len(onsets_s) <= most or t_s - onsets_s[0] >= window_s:
            return ""
        return f"; chattering: more than {most} onsets in {window_s / 3600:g} h, review its limits"

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
            user=user,
        )
        broken = self._break_pause(name, t_s) if given in COME_ON else []
        return [*broken, self._alarm(name)]

    def _break_pause(self, name: str, t_s: float) -> list[AlarmEvent]:
        pause, priority = self._state.pause, self._state.conditions[name].priority
        if pause is None or PRIORITIES.index(priority) <= PRIORITIES.index(pause.covers):
            return []
        return [self._end_pause(t_s, f"audio on again: {name} of {priority} priority ends the pause")]

    def _end_pause(self, t_s: float, text: str, *, user: str | None = None) -> AudioEvent:
        self._set(pause=None)
        return AudioEvent(t_s, "on", None, text, user)

    def _keep(self, name: str, **changes: Any) -> None:
        conditions = self._state.conditions
        self._set(conditions={**conditions, name: replace(conditions[name], **changes)})

    def _alarm(self, name: str) -> Alarm:
        state, paused = self._state.conditions[name], self._state.pause is not None
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

    def _present(self, name: str) -> bool:
        return self._state.conditions[name].presence == "on"

    def _now(self) -> float:
        return self._state.now_s or 0.0

    def _set(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self._state, name, value)
        self._later_due_s = self._quiet = None
