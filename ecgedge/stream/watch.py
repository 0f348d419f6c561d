"""The watch over one bed: its alarms and its self-checks, as the events of its stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ecgedge.alarms import DELAYS, AlarmEngine, ChecksState, Fact, SelfChecks
from ecgedge.events import Alarm, AlarmEvent, Event, SelfCheck
from ecgedge.policy import AlarmPolicy
from ecgedge.signal import Quality, Reason

_SIGNAL_FAULTS: Final[tuple[tuple[Fact, Reason], ...]] = (("SATURATED", "clipped"), ("FLAT", "flat"))
_FEED_DOUBTS: Final[tuple[tuple[Fact, str], ...]] = (
    ("FEED_RATE", "samples do not come at the declared rate"),
    ("FEED_DELAYED", "samples come late"),
)
_GONE: Final[dict[Fact, str]] = {
    "MODEL_FAILED": "the model answers again",
    "FEED_STALE": "samples come in time again",
    "FEED_RATE": "samples come at the rate that the feed declares",
    "FEED_DELAYED": "samples come as soon as they can again",
    "SATURATED": "no lead is clipped any more",
    "FLAT": "no lead is flat any more",
    "GAP": "windows are whole again",
    "OUT_OF_ENVELOPE": "windows are within the training envelope again",
    "SIGNAL_DOUBTFUL": "no doubt about the signal any more",
    "MODEL_LATE": "estimates come in time again",
    "JOURNAL_FAILED": "the journal is written again",
    "DELIVERY_FAILED": "alarms are confirmed by their receiver again",
    "CLOCK_UNSYNC": "the wall clock is synchronised again",
}


ALL_WELL: Final[tuple[tuple[Fact, str | None], ...]] = (
    ("MODEL_FAILED", None),
    ("OUT_OF_ENVELOPE", None),
    ("SIGNAL_DOUBTFUL", None),
)
"""What an answer tells that nothing is wrong with."""


class Watch:
    """Tells the alarm engine what happens, and counts what it says.

    Parameters
    ----------
    policy
        Of the alarms.
    hop_s
        Time from window to window.
    leads
        Of the bed.

    Attributes
    ----------
    engine
        Decides which alarms are on. What it returns goes through `counted`.
    counts
        How often each condition's signal came on.
    """

    __slots__ = (
        "_checks",
        "_hop_s",
        "_leads",
        "_policy",
        "counts",
        "engine",
    )

    def __init__(self, policy: AlarmPolicy, *, hop_s: float, leads: Sequence[str]) -> None:
        self._policy, self._hop_s, self._leads = policy, hop_s, tuple(leads)
        self._checks = SelfChecks(policy)
        self.engine = AlarmEngine(policy, hop_s=hop_s, leads=leads)
        self.counts: Counter[str] = Counter()

    @property
    def checks(self) -> ChecksState:
        """All that the self-checks remember."""
        return self._checks.state

    @property
    def doubt(self) -> str | None:
        """What is wrong with the feed, so that no estimate may be valid."""
        if self.engine.quiet:
            return None
        return next((why for fact, why in _FEED_DOUBTS if self.engine.holds(fact)), None)

    def take_up(self, alarms: Mapping[str, Any], *, checks: ChecksState, counts: Mapping[str, int]) -> None:
        """Go on where a watch under the same policy was saved.

        Raises
        ------
        ValueError
            If the engine's snapshot does not fit.
        """
        self.engine = AlarmEngine.restore(self._policy, hop_s=self._hop_s, snapshot=alarms, leads=self._leads)
        self._checks = SelfChecks(self._policy, checks)
        self.counts = Counter(counts)

    def begin(self, t_s: float, *, waited_s: float, lost: bool) -> list[Event]:
        """Begin the stream's own time at `t_s`: the wait for its first sample was told in seconds waited."""
        before, events = self.engine, list[Event]()
        if lost:
            events += self.counted(before.on_feed(waited_s, connected=True))
        pause, held = before.pause, before.facts()
        for fact in held:
            if DELAYS[fact] is not None:  # its time begins anew
                text = "told anew in the stream's time"
                events += self.counted(before.on_fact(waited_s, fact, on=False, text=text))
        self.engine = AlarmEngine(self._policy, hop_s=self._hop_s, leads=self._leads)
        for fact, text in held.items():
            events += self.fact(fact, t_s, text)
        if pause is not None:
            left_s = min(pause.ends_s - waited_s, self._policy.audio_pause_max_s)  # rounding
            events += self.counted(self.engine.pause_audio(t_s, duration_s=left_s, user=pause.user))
        self._checks.begin(t_s)
        return events

    def leap(self, t_s: float) -> list[Event]:
        """Let time pass that no sample tells of, so that it may leap."""
        self._checks.leap(t_s)
        return self.pass_time(t_s)

    def pass_time(self, t_s: float) -> list[Event]:
        """Say all that time alone brings, up to and including `t_s`."""
        events: list[Event] = []
        for count, due_s in self._checks.due(t_s):
            events += self.counted(self.engine.advance(due_s))
            pause = self.engine.pause
            left_s = None if pause is None else pause.ends_s - due_s
            events.append(SelfCheck(due_s, count, self._policy.self_check_s, left_s))
        said = self.engine.advance(t_s)
        return events + self.counted(said) if said or events else []

    def fact(self, fact: Fact, t_s: float, text: str | None, *, gone: str | None = None) -> list[Event]:
        """Tell the engine of a fact that holds, or (None) does not; `gone` says why not, where more than one can be."""
        if text is not None:
            return self.counted(self.engine.on_fact(t_s, fact, on=True, text=text))
        if not self.engine.quiet and self.engine.holds(fact):
            return self.counted(self.engine.on_fact(t_s, fact, on=False, text=gone or _GONE[fact]))
        return []

    def window(self, facts: Sequence[tuple[Fact, str | None]], quality: Quality, t_s: float) -> list[Event]:
        """Tell the facts that a window's answer brought, and what is wrong with its signal."""
        calm = quality.lost == 0.0 and not any(quality.reasons)
        if calm and facts == ALL_WELL and self.engine.quiet:
            return []
        events: list[Event] = []
        for fact, text in facts:
            events += self.fact(fact, t_s, text)
        return events + self._faults(quality, t_s)

    def _faults(self, quality: Quality, t_s: float) -> list[Event]:
        """Tell what is wrong with the signal of a window; leads that are off, and noise, are told otherwise."""
        lost = f"{100.0 * quality.lost:.1f} % of a window's samples lost"
        events = self.fact("GAP", t_s, lost if quality.lost > self._policy.gap_fraction else None)
        for fact, reason in _SIGNAL_FAULTS:
            bad = [x for x, why in zip(self._leads, quality.reasons, strict=True) if why == reason]
            events += self.fact(fact, t_s, f"{reason}: {','.join(bad)}" if bad else None)
        return events

    def counted(self, said: Sequence[AlarmEvent]) -> list[Event]:
        """Return what the engine said, counted."""
        for alarm in said:
            if isinstance(alarm, Alarm):
                self.counts[alarm.condition] += alarm.presence == "on" and alarm.signal == "on"
        return list(said)
