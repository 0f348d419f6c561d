"""The way from samples to estimates in one bed: leads that come and go, windows, answers, the patient's baseline.

Each window, and each change of a lead, goes to the watch at its own time, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle
from ecgedge.ecg import Mode
from ecgedge.errors import UsageError
from ecgedge.events import Event, FeedEvent
from ecgedge.signal import Conditioned, Quality
from ecgedge.stream.answers import Answer, Answers, Placed
from ecgedge.stream.baseline import Baseline
from ecgedge.stream.path import LeadChange, PathState, SignalPath, lead_changes
from ecgedge.stream.snapshot import Stretch
from ecgedge.stream.variants import Lengths, VariantChoice, window_lengths
from ecgedge.stream.watch import Watch
from ecgedge.stream.work import Steps


class Estimation:
    """What the samples of one bed become.

    Parameters
    ----------
    bundle, variants
        What serves.
    leads, rate_hz, mode
        Of the feed.
    lengths
        Of the windows.
    watch
        Hears of all that happens.

    Attributes
    ----------
    answers
        Asks the model, and keeps what it said lately.
    mode
        Of the estimates: "demo" from a bundle trained on simulated data.
    started
        Whether the front end has started; before, there is no stretch of samples.
    begin_s
        Time of the stretch's first sample.
    last_s
        Up to when samples have come, holes aside.
    off
        Leads that are off.
    windows, valid
        Windows so far, and those of them with a valid estimate.
    """

    __slots__ = (
        "_baseline",
        "_feed_mode",
        "_hop_s",
        "_leads",
        "_lengths",
        "_path",
        "_rate_hz",
        "_spec",
        "_watch",
        "answers",
        "begin_s",
        "last_s",
        "mode",
        "off",
        "started",
        "valid",
        "windows",
    )

    def __init__(
        self,
        bundle: Bundle,
        variants: VariantChoice,
        *,
        leads: Sequence[str],
        rate_hz: float,
        mode: Mode,
        lengths: Lengths,
        watch: Watch,
    ) -> None:
        self._leads, self._rate_hz, self._feed_mode = tuple(leads), rate_hz, mode
        self._spec, self._lengths, self._watch = bundle.manifest.front_end, lengths, watch
        self._hop_s = lengths["hop_samples"] / self._spec.rate_hz
        self._answer_by(bundle, variants)
        self.started = False
        self.begin_s = self.last_s = 0.0
        self.off: frozenset[str] = frozenset()
        self.windows = self.valid = 0

    @property
    def n_in(self) -> int:
        """Samples per lead taken in this stretch; holes count."""
        return self._path.n_in if self.started else 0

    @property
    def reached_s(self) -> float:
        """Up to when samples have been taken; 0 before the first."""
        return self.begin_s + self._path.n_in / self._rate_hz if self.started else 0.0

    def begin(self, t_s: float) -> None:
        """Begin a stretch at `t_s`: front end and windows know nothing of the past."""
        self._begin(t_s, None)
        self.last_s = t_s

    def _begin(self, t_s: float, state: PathState | None) -> None:
        self._path = SignalPath(
            self._leads, rate_hz=self._rate_hz, spec=self._spec, lengths=self._lengths, state=state
        )
        self.answers.leave()
        self.started, self.begin_s = True, t_s

    def stretch(self) -> tuple[Stretch | None, tuple[NDArray[Any], ...]]:
        """Return, for `resume`, where the stretch is, and its arrays with the baseline's; the arrays are views."""
        if not self.started:
            return None, ()
        path = self._path.state
        stretch = Stretch(self.begin_s, path.n_in, path.n_out, path.next_end, path.phase)
        return stretch, (self._baseline.state, *path.arrays)

    def resume(self, stretch: Stretch, arrays: tuple[NDArray[Any], ...]) -> None:
        """Go on with a stretch and its arrays."""
        medians, *of_path = arrays
        self._baseline = Baseline(medians)
        state = PathState(stretch.n_in, stretch.n_out, stretch.next_end, stretch.phase, tuple(of_path))
        self._begin(stretch.begin_s, state)

    def check_serves(self, bundle: Bundle, variants: VariantChoice) -> None:
        """Raise UsageError unless windows of this bundle are those of the present one."""
        if (bundle.manifest.front_end, window_lengths(bundle, variants)) != (self._spec, self._lengths):
            raise UsageError(
                f"{bundle.source} has another front end, window or hop than the bundle that serves: its beds would "
                "have to begin anew; restart with it instead"
            )

    def serve(self, bundle: Bundle, variants: VariantChoice) -> None:
        """Let another bundle answer from the next window on; calibration and baseline begin anew with it."""
        self.answers.leave()
        self._answer_by(bundle, variants)

    def _answer_by(self, bundle: Bundle, variants: VariantChoice) -> None:
        self.answers = Answers(self._leads, bundle, variants, hop_s=self._hop_s)
        self._baseline = Baseline()
        self.mode: Mode = "demo" if bundle.simulated else self._feed_mode

    def consume(
        self, samples_mv: NDArray[np.float32], events: list[Event], *, hole: bool = False
    ) -> Steps[list[Event]]:
        """Take the next samples and return `events`, grown by what they say; those of a `hole` tell nothing of leads.

        All steps stand in this one generator: each bed is sent some four answers a hop, and one level costs less.
        """
        path, answers = self._path, self.answers
        first = path.n_out
        conditioned: Conditioned = yield path.condition(samples_mv)
        if (raw := path.take(samples_mv, conditioned)) is not None:
            path.take_raw((yield raw))
        changes = [] if hole else lead_changes(self._leads, self.off, conditioned, first)
        for window in path.windower.push(conditioned):
            # A window that ends at index n holds the samples before n; a lead changes with sample n itself.
            while changes and changes[0].index < window.end_index:
                events += self._change_lead(changes.pop(0))
            t_s = self._time_s(window.end_index)
            events += self._watch.pass_time(t_s)
            quality: Quality = yield path.assess(window)
            place = Placed(path.windower, window.end_index, t_s, self.off, self.mode, self._watch.doubt)
            asked = answers.ask(place, quality)
            said = None if asked is None else (yield asked)
            self._tell(answers.answer(place, quality, said), quality, t_s, events)
        for change in changes:
            events += self._change_lead(change)
        events += self._watch.pass_time(self._time_s(path.n_out))
        if not hole:
            self.last_s = self.reached_s
        return events

    def _tell(self, answer: Answer, quality: Quality, t_s: float, events: list[Event]) -> None:
        """Say what a window tells: its estimate, and what follows from it."""
        estimate, watch = answer.estimate, self._watch
        self.windows += 1
        self.valid += estimate.validity == "valid"
        events.append(estimate)
        events += watch.counted(watch.engine.on_estimate(estimate))
        events += self._baseline.push(estimate)
        events += watch.window(answer.facts, quality, t_s)

    def _change_lead(self, change: LeadChange) -> list[Event]:
        lead, on, t_s = change.lead, change.on, self._time_s(change.index)
        events = self._watch.pass_time(t_s)
        self.off = self.off - {lead} if on else self.off | {lead}
        events.append(FeedEvent(t_s=t_s, state="lead_on" if on else "lead_off", lead=lead))
        return events + self._watch.counted(self._watch.engine.on_lead(t_s, lead, on=on))

    def _time_s(self, index: int) -> float:
        """Return the time of a conditioned sample of this stretch."""
        return self.begin_s + index / self._spec.rate_hz
