"""The alarm policy: every number that decides when an alarm comes and goes.

It stands in the bundle's manifest and can be replaced by `--policy FILE` (TOML, the same keys). Defaults
follow requirements R3 to R11 and R16 (R5 is off) of the project's alarm notes; each is a choice, not a finding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# The widest values that still make an alarm: (above, at most, unit). Beyond them a limit can never fire, always
# fires, or comes too late to be an alarm. Choices of this project, like the defaults.
_RANGES: Final[dict[str, tuple[float, float, str]]] = {
    "persistence_s": (0.0, 86_400.0, "seconds"),
    "recovery_window_s": (0.0, 86_400.0, "seconds"),
    "medium_after_s": (0.0, 86_400.0, "seconds"),
    "acknowledge_timeout_low_s": (0.0, 86_400.0, "seconds"),
    "acknowledge_timeout_medium_s": (0.0, 86_400.0, "seconds"),
    "audio_pause_max_s": (0.0, 120.0, "seconds"),
    "rising_mmhg": (0.0, 40.0, "mmHg"),
    "rising_span_s": (0.0, 86_400.0, "seconds"),
    "rising_baseline_s": (0.0, 604_800.0, "seconds"),
    "rising_min_windows": (0.0, 10_000.0, "windows"),
    "self_check_s": (0.0, 60.0, "seconds"),
    "chatter_onsets": (0.0, 100.0, "onsets"),
    "chatter_window_s": (0.0, 604_800.0, "seconds"),
    "feed_lost_s": (0.0, 60.0, "seconds"),
    "lead_off_s": (0.0, 60.0, "seconds"),
    "poor_signal_s": (0.0, 600.0, "seconds"),
    "feed_stale_s": (0.0, 60.0, "seconds"),
    "lead_fault_s": (0.0, 600.0, "seconds"),
    "gap_s": (0.0, 600.0, "seconds"),
    "envelope_s": (0.0, 3600.0, "seconds"),
    "doubt_s": (0.0, 3600.0, "seconds"),
    "model_late_s": (0.0, 60.0, "seconds"),
    "estimate_lifetime_s": (0.0, 86_400.0, "seconds"),
    "model_ok_s": (0.0, 600.0, "seconds"),
    "clock_unsync_s": (0.0, 3600.0, "seconds"),
}
_PROBABILITIES: Final = ("onset_probability", "recovery_probability")
_COUNTS: Final = ("rising_min_windows", "chatter_onsets")
_SWITCHES: Final = ("latching", "rising")
_FRACTIONS: Final = ("onset_fraction", "min_valid_fraction", "gap_fraction")
_LOWEST_THRESHOLD_MMHG: Final = 5.0
_HIGHEST_THRESHOLD_MMHG: Final = 40.0
_HIGHEST_LOWER_BOUND_MMHG: Final = 60.0


@dataclass(frozen=True)
class AlarmPolicy:
    """When the conditions come and go. Times in seconds, pressures in mmHg.

    MPCWP_ELEVATED. The engine looks at it with every window whose validity is "valid" and that carries a
    probability or an estimate. Windows that are "questionable" or "invalid" count neither way and never
    clear an alarm.

    - A window *exceeds* when p(mPCWP > 18) is at least `onset_probability`, or the interval's lower bound is
      above `threshold_mmhg`.
    - Onset over a span of `persistence_s`, ending with (and including) the newest window: floor(persistence_s
      / hop_s) windows are due in it. The condition comes when the stream is at least `persistence_s` old, at
      least `min_valid_fraction` of the windows due are valid, and at least `onset_fraction` of the valid ones
      exceed.
    - Priority is low. It is medium when, over the same span, the same fraction of the valid windows has a
      lower bound of at least `medium_lower_bound_mmhg`, or once the condition has been present for
      `medium_after_s`. It does not fall again while the condition is present.
    - Recovery over a span of `recovery_window_s`, counted likewise: the stream is that old, at least
      `min_valid_fraction` of the windows due are valid, the median estimate is under `threshold_mmhg -
      recovery_margin_mmhg`, the median probability is under `recovery_probability`, and the onset rule does
      not hold. An output that the bundle does not have is left out of the rule.
    - `latching`: after a physiological condition has gone, its signal stays "latched" until someone acknowledges it.

    MPCWP_RISING, with `rising` only. It speaks of this patient's own course, whatever the threshold.

    - The span is the last `rising_span_s`; the baseline is what came before it, over `rising_baseline_s` (kept in
      24 parts, the oldest dropped whole). Only valid windows with an estimate count, and both sides need at least
      `rising_min_windows` of them.
    - Onset: the median of the span is at least `rising_mmhg` above the median of the baseline. Priority is low.
    - Recovery: the median of the span is more than `recovery_margin_mmhg` under the value that brought the alarm
      (the baseline at the onset + `rising_mmhg`; this line does not move), and the onset rule does not hold. So a
      rise that stays is told of until it goes, though the baseline grows used to it.

    Acknowledgement, of any condition: its signal is "acknowledged" (silent, shown steadily) until the condition
    goes or grows worse, and comes on again after `acknowledge_timeout_low_s` at low priority or
    `acknowledge_timeout_medium_s` at medium, counted from the acknowledgement.

    A pause of the sound, of all conditions at once, lasts `audio_pause_max_s` at most. It covers the priorities
    up to the highest whose signal was on when it began, and low in any case; a signal of a higher priority that
    comes on ends it. What is shown does not change.

    A condition that comes more than `chatter_onsets` times in `chatter_window_s` says in its text that it
    chatters and that its limits want review. It is never muted for it.

    Technical conditions: FEED_LOST after `feed_lost_s` without a chunk (watched by whoever owns the clock),
    LEAD_OFF when a lead has been off for `lead_off_s`, POOR_SIGNAL after `poor_signal_s` without a window
    that is "valid" or "questionable".

    Further technical conditions are facts that must hold without a break before they are told, so that one window does
    not turn them on and off: SATURATED and FLAT, some lead being so for `lead_fault_s`; GAP, windows that lack more
    than `gap_fraction` of a lead's samples for `gap_s`; FEED_STALE, only samples from the past for `feed_stale_s`;
    OUT_OF_ENVELOPE, windows unlike those of the training data for `envelope_s`; SIGNAL_DOUBTFUL, windows with hum,
    muscle noise, bursts or a wandering baseline in a lead that the model uses, or limb leads that contradict each
    other, for `doubt_s`; MODEL_LATE, answers older than they should be for `model_late_s`; CLOCK_UNSYNC, a wall clock
    that no time server holds for `clock_unsync_s`. What windows tell comes with a window that confirms it, never by
    time alone; its times should be longer than a window, which sees one hole for as long as it lasts. MODEL_FAILED,
    JOURNAL_FAILED and DELIVERY_FAILED come at once. Each goes with its fact, but MODEL_FAILED with an answer of the
    model at least `model_ok_s` after the first of those among which none failed: so a model that fails now and then is
    one alarm and not many.

    An estimate that nobody may see any more expires `estimate_lifetime_s` after its window, if no other came.

    Each `self_check_s` of stream time the bed says that it is alive. Whoever hears no check for two periods must
    take it that nobody watches the patient.
    """

    threshold_mmhg: float = 18.0
    onset_probability: float = 0.8
    onset_fraction: float = 0.8
    persistence_s: float = 300.0
    min_valid_fraction: float = 0.5
    recovery_margin_mmhg: float = 3.0
    recovery_probability: float = 0.5
    recovery_window_s: float = 600.0
    medium_lower_bound_mmhg: float = 25.0
    medium_after_s: float = 1800.0
    latching: bool = True
    feed_lost_s: float = 2.0
    lead_off_s: float = 1.0
    poor_signal_s: float = 60.0
    acknowledge_timeout_low_s: float = 1800.0
    acknowledge_timeout_medium_s: float = 600.0
    audio_pause_max_s: float = 120.0
    rising: bool = False
    rising_mmhg: float = 5.0
    rising_span_s: float = 600.0
    rising_baseline_s: float = 86_400.0
    rising_min_windows: int = 30
    self_check_s: float = 5.0
    chatter_onsets: int = 3
    chatter_window_s: float = 43_200.0
    feed_stale_s: float = 5.0
    lead_fault_s: float = 20.0
    gap_fraction: float = 0.01
    gap_s: float = 20.0
    envelope_s: float = 60.0
    doubt_s: float = 60.0
    model_late_s: float = 10.0
    estimate_lifetime_s: float = 600.0
    model_ok_s: float = 30.0
    clock_unsync_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse a policy that cannot work; ValueError names the key and the fix."""
        self._check_shares()
        for name, (above, at_most, unit) in _RANGES.items():
            value = getattr(self, name)
            if not above < value <= at_most:
                raise ValueError(
                    f"{name} is {value:g}; it must be above {above:g} and at most {at_most:g} {unit}"
                )
        for name in _COUNTS:
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be a whole number")
        for name in _SWITCHES:
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        self._check_pressures()
        if self.rising:
            self._check_rising()

    def _check_shares(self) -> None:
        """Check probabilities and fractions (written so that NaN fails as well)."""
        for name in (*_PROBABILITIES, *_FRACTIONS):
            value = getattr(self, name)
            if not 0.0 < value < 1.0 and not (name in _FRACTIONS and value == 1.0):
                raise ValueError(f"{name} is {value:g}; it must lie between 0 and 1")
        if self.gap_fraction >= 0.5:
            raise ValueError(
                f"gap_fraction is {self.gap_fraction:g}: a lead that lacks half of a window counts as off; "
                "set it below 0.5"
            )
        if self.recovery_probability > self.onset_probability:
            raise ValueError(
                f"recovery_probability {self.recovery_probability:g} is above onset_probability "
                f"{self.onset_probability:g}: the alarm would chatter; lower it"
            )

    def _check_pressures(self) -> None:
        """Check the limits in mmHg against what a pressure can be and against each other."""
        if not _LOWEST_THRESHOLD_MMHG <= self.threshold_mmhg <= _HIGHEST_THRESHOLD_MMHG:
            raise ValueError(
                f"threshold_mmhg is {self.threshold_mmhg:g}: outside {_LOWEST_THRESHOLD_MMHG:g} to "
                f"{_HIGHEST_THRESHOLD_MMHG:g} mmHg it can never, or always, fire"
            )
        if not 0.0 <= self.recovery_margin_mmhg < math.inf:
            raise ValueError(
                f"recovery_margin_mmhg is {self.recovery_margin_mmhg:g}; it must not be negative"
            )
        if self.recovery_margin_mmhg >= self.threshold_mmhg:
            raise ValueError(
                f"recovery_margin_mmhg {self.recovery_margin_mmhg:g} is not below threshold_mmhg "
                f"{self.threshold_mmhg:g}: the alarm could never clear; lower it"
            )
        if not self.threshold_mmhg <= self.medium_lower_bound_mmhg <= _HIGHEST_LOWER_BOUND_MMHG:
            raise ValueError(
                f"medium_lower_bound_mmhg is {self.medium_lower_bound_mmhg:g}: it must lie between threshold_mmhg "
                f"({self.threshold_mmhg:g}) and {_HIGHEST_LOWER_BOUND_MMHG:g} mmHg, or medium priority "
                "never comes, or comes with every alarm"
            )

    def _check_rising(self) -> None:
        """Check what only matters where the trend condition is on."""
        if self.recovery_margin_mmhg >= self.rising_mmhg:
            raise ValueError(
                f"recovery_margin_mmhg {self.recovery_margin_mmhg:g} is not below rising_mmhg {self.rising_mmhg:g}: "
                "a rise would have to turn into a fall to clear; lower it, or raise rising_mmhg"
            )
        if self.rising_baseline_s < self.rising_span_s:
            raise ValueError(
                f"rising_baseline_s {self.rising_baseline_s:g} is shorter than rising_span_s "
                f"{self.rising_span_s:g}: a baseline must be longer than what it is compared with; raise it"
            )
