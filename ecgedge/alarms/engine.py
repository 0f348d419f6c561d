"""The alarm engine: facts and time in, alarm events out. It reads no clock and does no I/O.

Facts come by `on_estimate`, `on_lead` and `on_feed`, and a user's by `acknowledge`, `pause_audio` and
`resume_audio`; what only the passing of time brings (a lead off for too long, no usable window, elevated for
too long, an acknowledgement or a pause that has run out) comes out of whichever call first reaches its due
time, stamped with that due time. So the events of a stream do not depend on how often `advance` is called, as
long as all calls come in the order of time.

The engine owns time and its order, and what spans several conditions. What each part decides, and remembers, is the
part's own: `signals` (what is shown, heard and acknowledged), `pressure`, `leads_off` and `facts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ecgedge.alarms.facts import Facts
from ecgedge.alarms.leads_off import LeadsOff
from ecgedge.alarms.pressure import Pressure
from ecgedge.alarms.rules import valid_window
from ecgedge.alarms.signals import Due, Signals
from ecgedge.alarms.state import SNAPSHOT_FORMAT, AudioPause, EngineState, Snapshot, read_snapshot
from ecgedge.alarms.table import RANKS, Fact
from ecgedge.alarms.users import check_acknowledge, check_pause, check_resume
from ecgedge.events import Alarm, AlarmEvent, Estimate, Expired, Priority
from ecgedge.leads import canonical_lead
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import to_plain


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

    __slots__ = (
        "_calm_until_s",
        "_connected",
        "_facts",
        "_hop_s",
        "_leads_off",
        "_now_s",
        "_number_s",
        "_origin_s",
        "_policy",
        "_poor_due_s",
        "_pressure",
        "_signals",
        "_window_s",
    )

    def __init__(self, policy: AlarmPolicy, *, hop_s: float, leads: Sequence[str] = ()) -> None:
        self._policy, self._hop_s = policy, hop_s
        self._now_s: float | None = None
        self._origin_s: float | None = None
        self._window_s: float | None = None
        self._number_s: float | None = None
        self._poor_due_s: float | None = None
        self._connected = True
        # Before then time alone brings nothing; who brings it forward says so.
        self._calm_until_s = -math.inf
        self._signals = Signals(policy)
        self._pressure = Pressure(policy, self._signals, hop_s=hop_s)
        self._leads_off = LeadsOff(policy, leads, self._signals)
        self._facts = Facts(policy, self._signals)

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
        engine, state = cls(policy, hop_s=hop_s, leads=leads), saved.state
        engine._now_s, engine._origin_s, engine._window_s = state.now_s, state.origin_s, state.window_s
        engine._number_s, engine._poor_due_s = state.number_s, state.poor_due_s
        engine._connected = state.connected
        engine._signals = signals = Signals(policy, state.conditions, state.pause)
        engine._pressure = Pressure(
            policy,
            signals,
            hop_s=hop_s,
            windows=saved.windows,
            trend=saved.trend,
            rising_line_mmhg=state.rising_line_mmhg,
        )
        engine._leads_off = LeadsOff(policy, leads, signals, since_s=state.off_since_s, told=state.leads_off)
        engine._facts = Facts(policy, signals, waiting=state.waiting, recovering_s=state.recovering_s)
        return engine

    def snapshot(self) -> dict[str, Any]:
        """Return all state as plain JSON types, for `restore`."""
        state = EngineState(
            now_s=self._now_s,
            origin_s=self._origin_s,
            window_s=self._window_s,
            connected=self._connected,
            poor_due_s=self._poor_due_s,
            off_since_s=self._leads_off.since_s,
            leads_off=self._leads_off.told,
            waiting=self._facts.waiting,
            recovering_s=self._facts.recovering_s,
            number_s=self._number_s,
            rising_line_mmhg=self._pressure.rising_line_mmhg,
            pause=self._signals.pause,
            conditions=self._signals.conditions,
        )
        past = self._pressure.windows, self._pressure.trend
        return dict(to_plain(Snapshot(SNAPSHOT_FORMAT, self._hop_s, self._policy, state, *past)))

    def active(self) -> list[Alarm]:
        """Return, in order of rank, the latest event of each condition whose signal is not off.

        Whether it is audible is told as it stands now, also where a pause began or ended since.
        """
        return self._signals.active()

    @property
    def quiet(self) -> bool:
        """Whether no condition is present and no fact of `on_fact` holds."""
        return not (self._signals.any_present or self._facts.waiting)

    @property
    def now_s(self) -> float:
        """The latest time heard of; 0 before the first."""
        return self._now_s or 0.0

    @property
    def pause(self) -> AudioPause | None:
        """The pause of the sound in force at the latest time heard of."""
        return self._signals.pause

    def advance(self, t_s: float) -> list[AlarmEvent]:
        """Let time pass to `t_s`; return all that is due by then (at `t_s` included), in order."""
        if not math.isfinite(t_s):
            raise ValueError(f"time must be finite, found {t_s}")
        now_s = self._now_s
        if now_s is None or t_s > now_s:
            now_s = self._now_s = t_s
        events: list[AlarmEvent] = []
        if now_s < self._calm_until_s:
            return events
        while (due_s := self._next_due_s()) <= now_s:
            due = min(self._dues(), key=lambda due: (due.t_s, due.rank))
            events += due.happens(due.t_s)
        self._calm_until_s = due_s
        return events

    def _change(self, t_s: float) -> list[AlarmEvent]:
        """Let time pass to `t_s`, where something changes: what time brings from there on must be looked up anew."""
        events = self.advance(t_s)
        self._calm_until_s = -math.inf
        return events

    def on_estimate(self, estimate: Estimate) -> list[AlarmEvent]:
        """Take one window's answer, whatever its validity.

        An "invalid" window without a variant says that no variant of the bundle fits the leads that are on.

        Raises
        ------
        ValueError
            If the window does not end after the one before it: windows would count twice.
        """
        last_s = self._window_s
        if last_s is not None and not estimate.t_s > last_s:
            raise ValueError(f"a window ending at {estimate.t_s} s came after one ending at {last_s} s")
        events = self.advance(estimate.t_s)
        self._begin()
        now_s, self._window_s = self.now_s, estimate.t_s
        if self._signals.any_present or estimate.variant is None:
            events += self._check_variant(estimate)
        if estimate.validity != "invalid":
            self._number_s = estimate.t_s
            if self._signals.any_present:
                events += self._signals.set_presence(
                    "POOR_SIGNAL", now_s, on=False, text="usable signal again"
                )
            self._rearm_poor()
        window = valid_window(estimate)
        if window is not None:
            age_s = window.t_s - (self._origin_s or 0.0)
            offset_mmhg = 0.0 if estimate.calibration is None else estimate.calibration.offset_mmhg
            events += self._pressure.push(window, now_s=now_s, age_s=age_s, offset_mmhg=offset_mmhg)
            if self._signals.any_present:
                events += self._check_delivery()
        # Where no condition came or went, only what was put off above can have become due earlier.
        self._calm_until_s = -math.inf if events else min(self._calm_until_s, self._own_due_s())
        return events

    def begin_rules_anew(self) -> None:
        """Take that estimates mean something else from here on: earlier ones bring and clear nothing any more."""
        self._pressure.begin_anew()
        self._calm_until_s = -math.inf

    def on_lead(self, t_s: float, lead: str, *, on: bool) -> list[AlarmEvent]:
        """Take that a lead has come on or gone off; saying it twice changes nothing.

        Raises
        ------
        ValueError
            If `lead` is no standard lead.
        """
        lead = canonical_lead(lead)
        events = self._enter(t_s)
        if on:
            return events + self._leads_off.come_on(lead, self.now_s)
        self._leads_off.go_off(lead, self.now_s)
        return events

    def on_feed(self, t_s: float, *, connected: bool) -> list[AlarmEvent]:
        """Take that the feed was lost (no chunk for `feed_lost_s`, as its owner saw) or delivers (again).

        FEED_LOST is medium if it cuts off a physiological alarm, else low.
        """
        events = self._enter(t_s)
        self._connected = connected
        text = "the feed delivers again" if connected else "the feed was lost: no monitoring"
        priority: Priority = "medium" if self._signals.cuts_off else "low"
        changed = self._signals.set_presence(
            "FEED_LOST", self.now_s, on=not connected, text=text, priority=priority
        )
        if changed:
            self._rearm_poor()
        return events + changed

    def on_fact(self, t_s: float, condition: Fact, *, on: bool, text: str) -> list[AlarmEvent]:
        """Take that what a condition of `DELAYS` tells of holds, or does not; saying it twice changes nothing.

        `text` is what the condition says when it comes (the first since the fact holds), or when it goes. One of
        `RECOVERIES` goes with the first call that says so when its time is over.
        """
        events = self._change(t_s)
        was_present = self._signals.present(condition)
        take = self._facts.begin if on else self._facts.cease
        events += take(condition, self.now_s, text)
        if condition == "MODEL_FAILED":
            # A failed model is told of instead of a poor signal; one that answers on trial is not.
            on_trial = was_present and self._poor_due_s is None
            if on_trial or self._facts.failing(condition):
                self._rearm_poor()
        return events

    def holds(self, condition: Fact) -> bool:
        """Tell whether a fact holds, or its condition is still present."""
        return self._facts.holds(condition)

    def facts(self) -> dict[Fact, str]:
        """Return the facts that hold, told already or not, with what their conditions say."""
        return self._facts.held()

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[AlarmEvent]:
        """Take that `user` has seen `condition`; where there is nothing (left) to see, nothing happens.

        A second acknowledgement is such a case: it does not put off the time-out of the first.

        Raises
        ------
        ValueError
            If there is no such condition, or `user` is empty or unprintable: someone must answer for it.
        """
        user = check_acknowledge(condition, user)
        events = self._change(t_s)
        return events + self._signals.acknowledge(condition, self.now_s, user=user)

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
        events = self._change(t_s)
        return [*events, self._signals.begin_pause(self.now_s, duration_s=duration_s, user=user)]

    def resume_audio(self, t_s: float, *, user: str) -> list[AlarmEvent]:
        """End a pause before its time, in the name of `user`; without a pause nothing happens.

        Raises
        ------
        ValueError
            If `user` is empty or unprintable.
        """
        user = check_resume(user)
        events = self._change(t_s)
        if self._signals.pause is not None:
            events.append(self._signals.end_pause(self.now_s, f"audio on again, by {user}", user=user))
        return events

    # --- what time alone brings ---

    def _next_due_s(self) -> float:
        """Return when the first of `_dues` is due, without making them: it is asked at every step of time."""
        parts_s = min(self._signals.due_s, self._pressure.due_s, self._leads_off.due_s, self._facts.due_s)
        return min(parts_s, self._own_due_s())

    def _own_due_s(self) -> float:
        """Return when a number expires or the signal has been poor for too long, whichever is first."""
        due_s = math.inf if self._poor_due_s is None else self._poor_due_s
        return (
            due_s if self._number_s is None else min(due_s, self._number_s + self._policy.estimate_lifetime_s)
        )

    def _dues(self) -> Iterator[Due]:
        """Yield all that time alone will bring; of equal time and rank, what comes first here happens first."""
        if self._number_s is not None:
            yield Due(self._number_s + self._policy.estimate_lifetime_s, -1, self._expire)
        yield Due(self._pressure.due_s, RANKS["MPCWP_ELEVATED"], self._pressure.escalate)
        yield Due(self._leads_off.due_s, RANKS["LEAD_OFF"], self._leads_off.tell)
        if self._poor_due_s is not None:
            yield Due(self._poor_due_s, RANKS["POOR_SIGNAL"], self._nothing_usable)
        yield from self._facts.dues()
        yield from self._signals.dues()

    def _expire(self, due_s: float) -> list[AlarmEvent]:
        since_s, self._number_s = self._number_s or 0.0, None
        reason = f"no estimate for {self._policy.estimate_lifetime_s:g} s"
        return [Expired(due_s, since_s, reason)]

    def _nothing_usable(self, due_s: float) -> list[AlarmEvent]:
        self._poor_due_s = None
        text = f"no usable window for {self._policy.poor_signal_s:g} s"
        return self._signals.set_presence("POOR_SIGNAL", due_s, on=True, text=text)

    def _rearm_poor(self) -> None:
        """Start the wait for a usable window; while feed, leads or model are missing, they are told of instead."""
        signals = self._signals
        missing = signals.any_present and (
            signals.present("NO_VARIANT") or self._facts.failing("MODEL_FAILED")
        )
        waits = self._connected and not missing
        self._poor_due_s = self.now_s + self._policy.poor_signal_s if waits else None

    # --- what facts bring ---

    def _enter(self, t_s: float) -> list[AlarmEvent]:
        """Let time pass to a fact's time; the first fact starts the stream."""
        events = self._change(t_s)
        self._begin()
        return events

    def _begin(self) -> None:
        if self._origin_s is None:
            self._origin_s = self.now_s
            self._rearm_poor()

    def _check_variant(self, estimate: Estimate) -> list[AlarmEvent]:
        missing = estimate.variant is None and estimate.validity == "invalid"
        if missing == self._signals.present("NO_VARIANT"):
            return []
        on = ",".join(estimate.leads) or "none"
        text = (
            f"too few leads for any model variant (on: {on})"
            if missing
            else "enough leads for the model again"
        )
        changed = self._signals.set_presence("NO_VARIANT", self.now_s, on=missing, text=text)
        self._rearm_poor()
        return changed

    def _check_delivery(self) -> list[AlarmEvent]:
        """Make DELIVERY_FAILED medium once it keeps a physiological alarm from someone."""
        name, signals = "DELIVERY_FAILED", self._signals
        if not signals.present(name) or not signals.cuts_off or signals.conditions[name].priority == "medium":
            return []
        return signals.change(name, self.now_s, worse=True, priority="medium")
