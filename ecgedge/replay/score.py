"""What a policy's alarms are worth: counts a patient, figures with intervals over patients.

Definitions, for an episode [start, end) in which mPCWP was truly elevated:

- Its *window* is [start - early_s, end), but never reaches back into the episode before it. An onset in a window is
  true, any other onset is a false alarm: too early, too late, or about nothing.
- The episode is *detected* if an onset falls into its window. An alarm that stood already when the window began tells
  nobody anything new: it detects nothing, so a policy that never lets go of an alarm gains nothing by it. Such
  episodes are counted as *standing*.
- *Delay* is from the start of the episode to its first onset; a negative delay is lead time.
- A *patient-day* is 24 hours of stream, whatever is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from ecgedge.policy import AlarmPolicy
from ecgedge.replay.intervals import Floats, Measured, quantile, rate, ratio, share
from ecgedge.replay.spans import Span
from ecgedge.replay.truth import Episode

DAY_S: Final = 86_400.0
DEFAULT_EARLY_S: Final = 900.0
"""Where the simulated pressure rises (0.2 mmHg a minute), from 15 mmHg, above normal, to 18."""


@dataclass(frozen=True)
class Tally:
    """What one patient adds to each figure; times in seconds. `known`: whether the truth is."""

    known: bool
    total_s: float
    alarm_s: float
    elevated_s: float
    alarm_elevated_s: float
    episodes: int
    standing: int
    onsets: int
    false_onsets: int
    delays_s: tuple[float, ...]

    @property
    def detected(self) -> int:
        """Episodes that were."""
        return len(self.delays_s)


def windows_of(episodes: Sequence[Episode], *, early_s: float) -> tuple[Episode, ...]:
    """Return the stretch of each episode in which an onset is about it."""
    free_s = [0.0, *(e.end_s for e in episodes)]
    return tuple(
        Episode(max(e.start_s - early_s, before_s), e.end_s)
        for e, before_s in zip(episodes, free_s, strict=False)
    )


def tally(
    spans: Sequence[Span],
    episodes: Sequence[Episode] | None,
    *,
    duration_s: float,
    early_s: float,
) -> Tally:
    """Count one stream under one policy; `episodes` None where nobody knows the truth."""
    known = episodes or ()
    onsets = [span.on_s for span in spans]
    windows = windows_of(known, early_s=early_s)
    by_episode = [[t for t in onsets if w.start_s <= t < w.end_s] for w in windows]
    return Tally(
        known=episodes is not None,
        total_s=duration_s,
        alarm_s=sum(s.off_s - s.on_s for s in spans),
        elevated_s=sum(e.end_s - e.start_s for e in known),
        alarm_elevated_s=sum(_overlap_s(s, e) for s in spans for e in known),
        episodes=len(known),
        standing=sum(
            not found and any(s.on_s < w.start_s < s.off_s for s in spans)
            for found, w in zip(by_episode, windows, strict=True)
        ),
        onsets=len(onsets),
        false_onsets=len(onsets) - sum(map(len, by_episode)) if episodes is not None else 0,
        delays_s=tuple(found[0] - e.start_s for found, e in zip(by_episode, known, strict=True) if found),
    )


def _overlap_s(span: Span, episode: Episode) -> float:
    return max(0.0, min(span.off_s, episode.end_s) - max(span.on_s, episode.start_s))


def add(tallies: Iterable[Tally]) -> Tally:
    """Return the streams of one patient as one."""
    all_of = tuple(tallies)
    return Tally(
        known=all(t.known for t in all_of),
        total_s=math.fsum(t.total_s for t in all_of),
        alarm_s=math.fsum(t.alarm_s for t in all_of),
        elevated_s=math.fsum(t.elevated_s for t in all_of),
        alarm_elevated_s=math.fsum(t.alarm_elevated_s for t in all_of),
        episodes=sum(t.episodes for t in all_of),
        standing=sum(t.standing for t in all_of),
        onsets=sum(t.onsets for t in all_of),
        false_onsets=sum(t.false_onsets for t in all_of),
        delays_s=tuple(chain.from_iterable(t.delays_s for t in all_of)),
    )


@dataclass(frozen=True)
class Score:
    """One policy over a cohort; figures that need the truth are None where it is not known.

    Attributes
    ----------
    standing
        Episodes that were not detected because an alarm stood already.
    patients_with_false_alarm
        How many patients the false alarms are of.
    sensitivity
        Episodes detected, of all.
    ppv
        Onsets that were true, of all.
    alarms_per_patient_day, false_alarms_per_patient_day
        Onsets, and those that were false.
    delay_median_min, delay_p10_min, delay_p90_min
        Over the detected episodes, in minutes; negative is lead time.
    time_in_alarm, elevated_time_in_alarm, other_time_in_alarm
        Share of all time, of the episodes, and of the rest.
    chance_sensitivity
        What alarms at random moments, with as many false ones, would detect.
    """

    patients: int
    patient_days: float
    episodes: int
    detected: int
    standing: int
    onsets: int
    false_alarms: int
    patients_with_false_alarm: int
    sensitivity: Measured
    ppv: Measured
    alarms_per_patient_day: Measured
    false_alarms_per_patient_day: Measured
    delay_median_min: Measured
    delay_p10_min: Measured
    delay_p90_min: Measured
    time_in_alarm: Measured
    elevated_time_in_alarm: Measured
    other_time_in_alarm: Measured
    chance_sensitivity: float | None


@dataclass(frozen=True)
class PolicyScore:
    """A policy and its score."""

    policy: AlarmPolicy
    score: Score


@dataclass(frozen=True)
class Chance:
    """What alarms at random moments would detect: a Poisson process, by the windows of all episodes.

    With a rate of r onsets a day, the episode whose window lasts w days is detected with probability 1 - exp(-r w), and
    the onsets outside all windows are false.
    """

    windows_days: tuple[float, ...]
    outside_share: float

    def sensitivity(self, false_alarms_per_day: float) -> float | None:
        """Return the expected share of episodes detected, at a rate of false alarms over all patient-days."""
        if len(self.windows_days) == 0 or self.outside_share <= 0.0:
            return None
        onsets_per_day = false_alarms_per_day / self.outside_share
        return float(np.mean(-np.expm1(-onsets_per_day * np.array(self.windows_days))))


def chance_of(streams: Iterable[tuple[Sequence[Episode] | None, float]], *, early_s: float) -> Chance:
    """Return the chance level of a cohort, given as (episodes, duration in seconds) of each stream."""
    windows: list[float] = []
    total_s = 0.0
    for episodes, duration_s in streams:
        windows += [w.end_s - w.start_s for w in windows_of(episodes or (), early_s=early_s)]
        total_s += duration_s
    outside = (total_s - sum(windows)) / total_s if total_s else 0.0
    return Chance(tuple(w / DAY_S for w in windows), outside)


def score(patients: Sequence[Tally], weights: Floats, chance: Chance) -> Score:
    """Return the figures over patients, one tally each, with intervals by `weights` (resamples, patients)."""
    known = all(t.known for t in patients)
    days = [t.total_s / DAY_S for t in patients]
    false = [float(t.false_onsets) for t in patients]
    onsets = [float(t.onsets) for t in patients]
    delays_min = [[d / 60.0 for d in t.delays_s] for t in patients]
    false_rate = rate(false, days, weights) if known else _UNKNOWN
    return Score(
        patients=len(patients),
        patient_days=math.fsum(days),
        episodes=sum(t.episodes for t in patients),
        detected=sum(t.detected for t in patients),
        standing=sum(t.standing for t in patients),
        onsets=int(sum(onsets)),
        false_alarms=int(sum(false)),
        patients_with_false_alarm=sum(t.false_onsets > 0 for t in patients),
        sensitivity=share([t.detected for t in patients], [t.episodes for t in patients], weights),
        ppv=share([t.onsets - t.false_onsets for t in patients], onsets, weights) if known else _UNKNOWN,
        alarms_per_patient_day=rate(onsets, days, weights),
        false_alarms_per_patient_day=false_rate,
        delay_median_min=quantile(delays_min, weights, 0.5),
        delay_p10_min=quantile(delays_min, weights, 0.1),
        delay_p90_min=quantile(delays_min, weights, 0.9),
        time_in_alarm=ratio([t.alarm_s for t in patients], [t.total_s for t in patients], weights),
        elevated_time_in_alarm=ratio(
            [t.alarm_elevated_s for t in patients], [t.elevated_s for t in patients], weights
        ),
        other_time_in_alarm=ratio(
            [t.alarm_s - t.alarm_elevated_s for t in patients],
            [t.total_s - t.elevated_s for t in patients],
            weights,
        )
        if known
        else _UNKNOWN,
        chance_sensitivity=None if false_rate.value is None else chance.sensitivity(false_rate.value),
    )


_UNKNOWN: Final = Measured(None, None, None)
