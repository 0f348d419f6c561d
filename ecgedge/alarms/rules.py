"""When mPCWP counts as elevated: the onset, medium and recovery rules over the valid windows.

The rules are written out in the docstring of `ecgedge.policy.AlarmPolicy` (notes R1 to R4). This module
knows nothing of signals, priorities or what was decided before.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from ecgedge.events import Estimate
from ecgedge.policy import AlarmPolicy

SLACK_S: Final = 1e-6
"""Stream time has a resolution of 1 us; sums of floats must not move a window over an edge."""
_SLACK: Final = 1e-9
"""A fraction of a count (0.7 * 10) may be off by rounding; it must not ask for one window more."""


@dataclass(frozen=True, slots=True)
class ValidWindow:
    """What the rules need of a window that counts. `t_s` is its end, `p` is p(mPCWP > 18)."""

    t_s: float
    p: float | None
    mpcwp_mmhg: float | None
    lower_mmhg: float | None


def valid_window(estimate: Estimate) -> ValidWindow | None:
    """Return what counts of `estimate`, or None if it must not count (not "valid", no number, or not finite)."""
    if estimate.validity != "valid":
        return None
    lower = estimate.interval_mmhg[0] if estimate.interval_mmhg else None
    p, pressure = estimate.p_gt_18, estimate.mpcwp_mmhg
    if p is None and pressure is None:
        return None
    for number in (p, pressure, lower):
        if number is not None and not math.isfinite(number):
            return None
    return ValidWindow(estimate.t_s, p, pressure, lower)


def windows_due(span_s: float, *, hop_s: float) -> int:
    """Return how many windows end in a span of `span_s`, one each `hop_s`."""
    return math.floor(span_s / hop_s + _SLACK)


def require_fires(policy: AlarmPolicy, *, hop_s: float) -> None:
    """Refuse a policy whose spans hold no window.

    Raises
    ------
    ValueError
        If `hop_s` is no positive number, a span holds no window (with `rising`, fewer than it needs), so that its
        rule could never fire, or an estimate would expire before the next.
    """
    if not 0.0 < hop_s < math.inf:
        raise ValueError(f"hop_s is {hop_s:g}; it must be above 0 seconds")
    for name in ("persistence_s", "recovery_window_s"):
        span_s = getattr(policy, name)
        if windows_due(span_s, hop_s=hop_s) < 1:
            raise ValueError(
                f"{name} {span_s:g} is shorter than the {hop_s:g} s from window to window: no window falls "
                f"into it and its rule can never fire; raise it to {hop_s:g} or more"
            )
    if policy.estimate_lifetime_s <= hop_s:
        raise ValueError(
            f"estimate_lifetime_s {policy.estimate_lifetime_s:g} is no longer than the {hop_s:g} s from window to "
            "window: every estimate would expire before the next one came; raise it"
        )
    due = windows_due(policy.rising_span_s, hop_s=hop_s)
    if policy.rising and due < policy.rising_min_windows:
        raise ValueError(
            f"rising_span_s {policy.rising_span_s:g} holds {due} windows at {hop_s:g} s from window to window, and "
            f"rising_min_windows asks for {policy.rising_min_windows}: the rule can never fire; raise the span to "
            f"{policy.rising_min_windows * hop_s:g} or more"
        )


class Elevation:
    """The valid windows of the last minutes and the three questions asked of them.

    Memory is bounded: at most one window more than are due in the longer span is kept. How many exceed in the onset
    span is counted as windows come and go; only recovery, and a text, cost a pass over a span and a sort.
    """

    __slots__ = (
        "_exceeding",
        "_far_exceeding",
        "_longest_s",
        "_most",
        "_needed",
        "_oldest_s",
        "_onset_s",
        "_policy",
        "_recent",
        "_recent_since_s",
        "_since_s",
        "_windows",
    )

    def __init__(self, policy: AlarmPolicy, *, hop_s: float, windows: Iterable[ValidWindow] = ()) -> None:
        require_fires(policy, hop_s=hop_s)
        self._policy = policy
        self._longest_s = max(policy.persistence_s, policy.recovery_window_s)
        self._most = windows_due(self._longest_s, hop_s=hop_s) + 1
        self._needed = {
            span_s: policy.min_valid_fraction * windows_due(span_s, hop_s=hop_s) - _SLACK
            for span_s in (policy.persistence_s, policy.recovery_window_s)
        }
        self._windows = _Queue(self._most + 1)
        self._recent = 0  # of them in the onset span
        self._onset_s, self._oldest_s = policy.persistence_s - SLACK_S, self._longest_s - SLACK_S
        # Ends of the oldest of all, and of the oldest in the onset span: each window is held against them.
        self._since_s = self._recent_since_s = 0.0
        self._exceeding = self._far_exceeding = 0
        for window in windows:
            self.push(window)

    @property
    def windows(self) -> tuple[ValidWindow, ...]:
        """The windows kept, oldest first."""
        return tuple(self._windows)

    def push(self, window: ValidWindow) -> None:
        """Take the newest window and forget what no span reaches any more."""
        windows, t_s = self._windows, window.t_s
        n = windows.append(window)
        self._recent += 1
        self._count(window, 1)
        if n == 1:
            self._recent_since_s = self._since_s = t_s
        while t_s - self._recent_since_s >= self._onset_s:
            self._leave_recent()
        while len(windows) > self._most or t_s - self._since_s >= self._oldest_s:
            if self._recent == len(windows):
                self._leave_recent()
            windows.popleft()
            self._since_s = windows.t_s(0)

    def _leave_recent(self) -> None:
        """Let the oldest window of the onset span leave it."""
        gone = self._windows[len(self._windows) - self._recent]
        self._recent -= 1
        self._recent_since_s = self._windows.t_s(len(self._windows) - self._recent)
        self._count(gone, -1)

    def _count(self, window: ValidWindow, n: int) -> None:
        """Count a window of the onset span by what it exceeds: n is 1 where it comes, -1 where it leaves."""
        policy, p, lower = self._policy, window.p, window.lower_mmhg
        if lower is None:
            self._exceeding += n * (p is not None and p >= policy.onset_probability)
            return
        likely = p is not None and p >= policy.onset_probability
        if likely or lower > policy.threshold_mmhg:
            self._exceeding += n
        if lower >= policy.medium_lower_bound_mmhg:
            self._far_exceeding += n

    def onset(self, *, age_s: float) -> bool:
        """Tell whether the onset rule holds at the newest window of a stream `age_s` old."""
        return self._share(self._exceeding, age_s)

    def medium(self, *, age_s: float) -> bool:
        """Tell whether the lower bound has been high enough, long enough, for medium priority."""
        return self._share(self._far_exceeding, age_s)

    def recovered(self, *, age_s: float) -> bool:
        """Tell whether the recovery rule holds at the newest window."""
        policy = self._policy
        if self.onset(age_s=age_s) or not (span := self._span(policy.recovery_window_s, age_s)):
            return False
        pressure, p = _median(w.mpcwp_mmhg for w in span), _median(w.p for w in span)
        low = [pressure < policy.threshold_mmhg - policy.recovery_margin_mmhg] if pressure is not None else []
        unlikely = [p < policy.recovery_probability] if p is not None else []
        return bool(low or unlikely) and all(low + unlikely)

    def describe(self) -> str:
        """Say how many windows exceed in the onset span, and their median estimate."""
        policy = self._policy
        n = len(self._windows)
        pressure = _median(self._windows[k].mpcwp_mmhg for k in range(n - self._recent, n))
        text = f"{self._exceeding} of {self._recent} valid windows in {policy.persistence_s:g} s"
        return text if pressure is None else f"{text}, median {pressure:.1f} mmHg"

    def _share(self, count: int, age_s: float) -> bool:
        """Tell whether so many are enough of the windows of the onset span."""
        n = self._recent
        if n == 0 or age_s < self._onset_s or n < self._needed[self._policy.persistence_s]:
            return False
        return count >= self._policy.onset_fraction * n - _SLACK

    def _span(self, span_s: float, age_s: float) -> list[ValidWindow]:
        """Return the valid windows of the last `span_s`; none if they are too few, or the stream too young."""
        if not self._windows or age_s < span_s - SLACK_S:
            return []
        newest_s = self._windows.t_s(len(self._windows) - 1)
        span = [w for w in self._windows if newest_s - w.t_s < span_s - SLACK_S]
        return span if len(span) >= self._needed[span_s] else []


class _Queue:
    """A bounded queue of windows in 32 bytes each; None is kept as NaN, which no window that counts holds."""

    __slots__ = (
        "_first",
        "_most",
        "_n",
        "_numbers",
    )

    def __init__(self, most: int) -> None:
        self._numbers = array("d", bytes(32 * most))
        self._most, self._first, self._n = most, 0, 0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, k: int) -> ValidWindow:
        """Return window k, the oldest being 0."""
        at = self._at(k)
        t_s, p, mpcwp_mmhg, lower_mmhg = self._numbers[at : at + 4]
        return ValidWindow(t_s, _known(p), _known(mpcwp_mmhg), _known(lower_mmhg))

    def __iter__(self) -> Iterator[ValidWindow]:
        return (self[k] for k in range(self._n))

    def t_s(self, k: int) -> float:
        """Return the end of window k."""
        return self._numbers[self._at(k)]

    def append(self, window: ValidWindow) -> int:
        """Take a window, for which there must be room; return how many there are now."""
        numbers, at = self._numbers, self._at(self._n)
        p, pressure, lower = window.p, window.mpcwp_mmhg, window.lower_mmhg
        numbers[at] = window.t_s
        numbers[at + 1] = math.nan if p is None else p
        numbers[at + 2] = math.nan if pressure is None else pressure
        numbers[at + 3] = math.nan if lower is None else lower
        self._n += 1
        return self._n

    def popleft(self) -> None:
        """Forget the oldest."""
        self._first = (self._first + 1) % self._most
        self._n -= 1

    def _at(self, k: int) -> int:
        return (self._first + k) % self._most * 4


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _median(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None
