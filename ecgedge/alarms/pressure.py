"""MPCWP_ELEVATED and MPCWP_RISING: what valid windows bring and clear, by the rules of `rules` and `trend`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ecgedge.alarms.rules import Elevation, ValidWindow
from ecgedge.alarms.signals import Signals
from ecgedge.alarms.trend import Trend, TrendState
from ecgedge.events import AlarmEvent, Priority
from ecgedge.policy import AlarmPolicy

ELEVATED, RISING = "MPCWP_ELEVATED", "MPCWP_RISING"


class Pressure:
    """The physiological conditions of one stream.

    Parameters
    ----------
    policy
        The rules' limits.
    signals
        Where the conditions are told.
    hop_s
        Time from window to window.
    windows, trend, rising_line_mmhg
        Where to go on; no window has come by default.

    Attributes
    ----------
    rising_line_mmhg
        Under it MPCWP_RISING goes; None while that is absent.

    Raises
    ------
    ValueError
        If a span of the policy is shorter than a hop, so that its rule could never fire.
    """

    __slots__ = (
        "_elevation",
        "_hop_s",
        "_policy",
        "_signals",
        "_trend",
        "rising_line_mmhg",
    )

    def __init__(
        self,
        policy: AlarmPolicy,
        signals: Signals,
        *,
        hop_s: float,
        windows: Iterable[ValidWindow] = (),
        trend: TrendState | None = None,
        rising_line_mmhg: float | None = None,
    ) -> None:
        self._policy, self._signals, self._hop_s = policy, signals, hop_s
        self._elevation = Elevation(policy, hop_s=hop_s, windows=windows)
        self._trend = Trend(policy, hop_s=hop_s, saved=trend)
        self.rising_line_mmhg = rising_line_mmhg

    @property
    def windows(self) -> tuple[ValidWindow, ...]:
        """The valid windows that the elevation rules still see, oldest first."""
        return self._elevation.windows

    @property
    def trend(self) -> TrendState:
        """All that the rule of rising remembers."""
        return self._trend.state

    @property
    def due_s(self) -> float:
        """When `escalate` is due."""
        if not self._signals.present(ELEVATED):
            return math.inf
        elevated = self._signals.conditions[ELEVATED]
        return elevated.onsets_s[-1] + self._policy.medium_after_s if elevated.priority == "low" else math.inf

    def begin_anew(self) -> None:
        """Forget the windows of the elevation rules; what is present stays."""
        self._elevation = Elevation(self._policy, hop_s=self._hop_s)

    def push(
        self, window: ValidWindow, *, now_s: float, age_s: float, offset_mmhg: float
    ) -> list[AlarmEvent]:
        """Apply the rules at a valid window of a stream `age_s` old, heard at `now_s`.

        `offset_mmhg` is what a calibration took off: rising is judged by what the model said, since a calibration
        is no change of the patient.
        """
        self._elevation.push(window)
        events = self._check_elevation(now_s, age_s)
        return events + self._check_rising(window, now_s, offset_mmhg) if self._policy.rising else events

    def escalate(self, due_s: float) -> list[AlarmEvent]:
        """Make an elevation medium that has lasted for the policy's `medium_after_s`."""
        text = (
            f"mPCWP estimate elevated for {self._policy.medium_after_s:g} s; an estimate, not a measurement"
        )
        return self._signals.change(ELEVATED, due_s, worse=True, text=text, priority="medium")

    def _check_elevation(self, now_s: float, age_s: float) -> list[AlarmEvent]:
        signals, rules = self._signals, self._elevation
        present = signals.any_present and signals.present(ELEVATED)
        if not present and not rules.onset(age_s=age_s):
            return []
        priority: Priority = "medium" if rules.medium(age_s=age_s) else "low"
        if present and rules.recovered(age_s=age_s):
            return signals.set_presence(ELEVATED, now_s, on=False, text="mPCWP estimate no longer elevated")
        text = f"mPCWP estimate elevated: {rules.describe()}; an estimate, not a measurement"
        if not present:
            return signals.set_presence(ELEVATED, now_s, on=True, text=text, priority=priority)
        if priority == "medium" and signals.conditions[ELEVATED].priority == "low":
            far = f"lower bound at least {self._policy.medium_lower_bound_mmhg:g} mmHg"
            return signals.change(ELEVATED, now_s, worse=True, text=f"{text} ({far})", priority=priority)
        return []

    def _check_rising(self, window: ValidWindow, now_s: float, offset_mmhg: float) -> list[AlarmEvent]:
        line_mmhg, policy, signals = self.rising_line_mmhg, self._policy, self._signals
        if window.mpcwp_mmhg is None:
            return []
        self._trend.push(window.t_s, window.mpcwp_mmhg + offset_mmhg)
        if line_mmhg is not None:
            if not self._trend.fell_below(line_mmhg):
                return []
            self.rising_line_mmhg = None
            text = "mPCWP estimate no longer above its baseline"
            return signals.set_presence(RISING, now_s, on=False, text=text)
        if (found := self._trend.rising()) is None:
            return []
        now, baseline = found
        self.rising_line_mmhg = baseline + policy.rising_mmhg - policy.recovery_margin_mmhg
        text = (
            f"mPCWP estimate rising: median {now - offset_mmhg:.1f} mmHg in {policy.rising_span_s:g} s, "
            f"{now - baseline:.1f} above this patient's baseline of {baseline - offset_mmhg:.1f}; an estimate, not a "
            "measurement"
        )
        return signals.set_presence(RISING, now_s, on=True, text=text)
