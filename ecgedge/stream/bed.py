"""One patient's stream: samples in, estimates, feed events and alarms out, with no clock and no I/O.

The same input gives the same events however it is cut into chunks. Everything happens at a sample of the
250 Hz stream; at one instant what time alone brings comes first, then the estimate, then feed and lead events,
each before its alarms.

The two heavy pieces of work, conditioning samples and asking the model, a bed does not do: `Bed.steps` yields them
as `ecgedge.stream.work.Work` and is sent the answers. `Bed.push` does them at once; a ward does those of many beds
together. So a bed in a ward says what it says alone.

The bed itself keeps the feed's time: gaps, silence, late samples. What samples become is `estimation`'s, what is told
of it `watch`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecgedge.alarms import Fact, Reading, check_acknowledge, check_pause, check_resume, check_uncalibrate
from ecgedge.bundle import Bundle
from ecgedge.ecg import Mode, check_rate
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, CalibrationEvent, Event, FeedEvent, Summary
from ecgedge.leads import order_leads
from ecgedge.policy import AlarmPolicy
from ecgedge.stream.clock import SURE_S, FeedClock
from ecgedge.stream.estimation import Estimation
from ecgedge.stream.one_point import Recent, describe
from ecgedge.stream.snapshot import BED_FORMAT, BedFacts, BedSnapshot
from ecgedge.stream.variants import VariantChoice, Variants, window_lengths
from ecgedge.stream.watch import Watch
from ecgedge.stream.work import Steps, work_alone

RESTART_AFTER_S = 60.0
"""A longer hole in time starts the front end afresh instead of being filled with missing samples."""


class Bed:
    """A bed without I/O.

    Parameters
    ----------
    bundle
        The model to serve.
    leads
        Leads of the feed, one per row of the samples.
    rate_hz
        Sampling rate of the feed.
    variants
        Loaded variants of the same bundle, to share between beds; loaded here if not given.
    policy
        Replaces the bundle's alarm policy.
    mode
        Of the feed. A bundle trained on simulated data makes every estimate "demo".

    Raises
    ------
    UsageError, RecordError
        On leads or a rate that cannot be served, or a policy that can never fire with this bundle.
    """

    # Slots, here and in all that a bed is made of: of thousands of beds each finds itself outside the cache when its
    # turn comes, and a dictionary is one way more into memory.
    __slots__ = (
        "_clock",
        "_dropped",
        "_estimation",
        "_feed_mode",
        "_hop_samples",
        "_late",
        "_lost",
        "_waited_s",
        "_watch",
        "bundle",
        "hop_s",
        "leads",
        "policy",
        "rate_hz",
    )

    def __init__(
        self,
        bundle: Bundle,
        *,
        leads: Sequence[str],
        rate_hz: float,
        variants: VariantChoice | None = None,
        policy: AlarmPolicy | None = None,
        mode: Mode = "real",
    ) -> None:
        self.leads = tuple(leads)
        if order_leads(self.leads) != self.leads:
            raise UsageError(f"leads {','.join(leads)} must be standard names in standard order")
        check_rate(rate_hz, source="bed")
        self.rate_hz = rate_hz
        self.bundle = bundle
        self.policy = policy or bundle.manifest.alarm_policy
        _require_output(bundle, self.policy)
        self._feed_mode = mode
        variants = variants or Variants(bundle)
        lengths = window_lengths(bundle, variants)
        self._hop_samples = lengths["hop_samples"]
        self.hop_s = self._hop_samples / bundle.manifest.front_end.rate_hz
        self._watch = Watch(self.policy, hop_s=self.hop_s, leads=self.leads)
        self._estimation = Estimation(
            bundle,
            variants,
            leads=self.leads,
            rate_hz=rate_hz,
            mode=mode,
            lengths=lengths,
            watch=self._watch,
        )
        self._clock = FeedClock(rate_hz)
        self._waited_s = 0.0
        self._lost = False
        self._late = False
        self._dropped = 0

    def push(self, samples_mv: NDArray[np.float32], *, t_s: float) -> list[Event]:
        """Take samples and return what follows from them.

        Parameters
        ----------
        samples_mv
            (n_leads, n) float32 millivolts; a NaN in a lead means that the lead was off at that sample.
        t_s
            Stream time of the first sample. Later than expected is a gap; earlier samples are dropped and
            counted.
        """
        self.check(samples_mv, t_s=t_s)
        return work_alone(self.steps(samples_mv, t_s=t_s))

    def steps(self, samples_mv: NDArray[np.float32], *, t_s: float) -> Steps[list[Event]]:
        """Do what `push` does with samples that were checked, but leave the work to the caller.

        Nothing else may be asked of the bed meanwhile.
        """
        if samples_mv.shape[1] and self._as_due(t_s):
            return self._estimation.consume(samples_mv, [])
        return self._aligned(samples_mv, t_s)

    def _as_due(self, t_s: float) -> bool:
        """Tell at a glance, for nearly all chunks, that `_aligned` would have nothing to say of when they come.

        They come when they are due, and the feed is neither lost nor late; so FEED_STALE does not hold either.
        """
        estimation, rate_hz = self._estimation, self.rate_hz
        if self._lost or self._late or not estimation.started:
            return False
        # As `missing`, which rounds to whole samples.
        due_s = estimation.begin_s + estimation.n_in / rate_hz
        return -0.5 <= (self._clock.stream_s(t_s) - due_s) * rate_hz <= 0.5

    def _aligned(self, samples_mv: NDArray[np.float32], t_s: float) -> Steps[list[Event]]:
        """Take samples whenever they come."""
        events: list[Event] = []
        if not self.started:
            self._start(self._clock.stream_s(t_s), events)
        samples_mv = yield from self._align(samples_mv, t_s, events)
        if samples_mv.shape[1]:
            yield from self._estimation.consume(samples_mv, events)
        return events

    def check(self, samples_mv: NDArray[np.float32], *, t_s: float) -> None:
        """Raise UsageError unless `push` would take this."""
        if samples_mv.ndim != 2 or samples_mv.shape[0] != len(self.leads):
            raise UsageError(f"samples have shape {samples_mv.shape}; expected ({len(self.leads)}, n)")
        _require_time(t_s)

    def missing(self, t_s: float, *, waiting: int = 0, first_s: float | None = None) -> int:
        """Return how many samples are missing before `t_s`; fewer than none if that has come already.

        `waiting` more than were pushed are there; `first_s` is the time of the first of them, which a bed that
        has not started needs.
        """
        begin_s = self._estimation.begin_s if self.started else first_s or 0.0
        n_in = self._estimation.n_in
        return round((self._clock.stream_s(t_s) - (begin_s + (n_in + waiting) / self.rate_hz)) * self.rate_hz)

    @property
    def due_s(self) -> float:
        """When the next sample is due, in the feed's time; 0 before the first."""
        return self.reached_s - self._clock.state.ahead_s

    @property
    def reached_s(self) -> float:
        """Up to when the stream's samples have been taken, in stream time; 0 before the first."""
        return self._estimation.reached_s

    @property
    def started(self) -> bool:
        """Whether a sample has come."""
        return self._estimation.started

    @property
    def mode(self) -> Mode:
        """Of the estimates: "demo" from a bundle trained on simulated data, otherwise the feed's."""
        return self._estimation.mode

    def advance(self, t_s: float) -> list[Event]:
        """Let time pass without samples, so that a silent feed is noticed.

        Stream time; before the first sample, the seconds waited for it.
        """
        _require_time(t_s)
        t_s = self._clock.stream_s(t_s)
        events: list[Event] = []
        self._notice_silence(t_s, events)
        self._hear(t_s, events)
        return events

    def feed_lost(self) -> list[Event]:
        """Say that the feed broke off at the last sample; the alarm does not wait for the silence."""
        events: list[Event] = []
        if not self._lost:
            self._lose(self._estimation.last_s, events, silent_s=0.0)
        return events

    def journal(self, t_s: float, *, why: str | None) -> list[Event]:
        """Say that the journal cannot be written, and why, or (None) that it is written again."""
        return self._world(t_s, "JOURNAL_FAILED", None if why is None else f"{why}; monitoring goes on")

    def model_late(self, t_s: float, *, why: str | None) -> list[Event]:
        """Say that estimates come later than they should, or (None) that they do not any more."""
        return self._world(t_s, "MODEL_LATE", why)

    def clock_unsync(self, t_s: float, *, why: str | None) -> list[Event]:
        """Say that no time server holds the wall clock, or (None) that one does."""
        return self._world(t_s, "CLOCK_UNSYNC", why)

    def feed_rate(self, t_s: float, *, why: str | None) -> list[Event]:
        """Say that samples come at another rate than declared, or (None) at that; until then no estimate is valid."""
        return self._world(t_s, "FEED_RATE", why)

    def feed_delay(self, t_s: float, *, why: str | None) -> list[Event]:
        """Say that samples come later than they could, or (None) do not any more; until then no estimate is valid."""
        return self._world(t_s, "FEED_DELAYED", why)

    def delivery(self, t_s: float, *, why: str | None, user: str | None = None) -> list[Event]:
        """Say that a receiver does not confirm alarms, or (None) does again, or was dismissed by `user`."""
        gone = None if user is None else f"the receiver was dismissed by {user}"
        return self._world(t_s, "DELIVERY_FAILED", why, gone=gone)

    def _world(self, t_s: float, fact: Fact, text: str | None, *, gone: str | None = None) -> list[Event]:
        t_s = self._clock.stream_s(t_s)
        events: list[Event] = []
        self._hear(t_s, events)
        return events + self._watch.fact(fact, t_s, text, gone=gone)

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[Event]:
        """Acknowledge one alarm condition in the name of `user`."""
        check_acknowledge(condition, user)  # before time moves: what it brings would be lost with the error
        t_s = self._clock.stream_s(t_s)
        events: list[Event] = []
        self._hear(t_s, events)
        return events + self._watch.counted(
            self._watch.engine.acknowledge(t_s, condition=condition, user=user)
        )

    def pause_audio(self, t_s: float, *, duration_s: float, user: str) -> list[Event]:
        """Keep the alarms silent for `duration_s`, at most the policy's `audio_pause_max_s`, in the name of `user`."""
        check_pause(duration_s, user, self.policy)
        t_s = self._clock.stream_s(t_s)
        events: list[Event] = []
        self._hear(t_s, events)
        return events + self._watch.counted(
            self._watch.engine.pause_audio(t_s, duration_s=duration_s, user=user)
        )

    def resume_audio(self, t_s: float, *, user: str) -> list[Event]:
        """End a pause before its time in the name of `user`."""
        check_resume(user)
        t_s = self._clock.stream_s(t_s)
        events: list[Event] = []
        self._hear(t_s, events)
        return events + self._watch.counted(self._watch.engine.resume_audio(t_s, user=user))

    def calibrate(self, t_s: float, *, reading: Reading) -> list[Event]:
        """Set the estimates from now on against a catheter value; see `ecgedge.stream.one_point`.

        Raises
        ------
        UsageError
            If the valid estimates of late are too few, or too unsteady.
        """
        t_s = self._clock.stream_s(t_s)
        learnt = self._estimation.answers.learn(reading, t_s)  # before time moves, as above
        events: list[Event] = []
        self._hear(t_s, events)
        self._watch.engine.begin_rules_anew()
        found = self._estimation.answers.calibrated = replace(learnt, t_s=self._watch.engine.now_s)
        return [*events, CalibrationEvent(found.t_s, "on", describe(found, reading), found, reading.user)]

    def uncalibrate(self, t_s: float, *, user: str) -> list[Event]:
        """Show the estimates from now on as the model says them, in the name of `user`."""
        user = check_uncalibrate(user)
        events: list[Event] = []
        self._hear(self._clock.stream_s(t_s), events)
        return events + self._uncalibrated(f"estimates are as the model says them, by {user}", user)

    def _uncalibrated(self, text: str, user: str | None = None) -> list[Event]:
        if self._estimation.answers.calibrated is None:
            return []
        self._estimation.answers.calibrated = None
        self._watch.engine.begin_rules_anew()
        return [CalibrationEvent(self._watch.engine.now_s, "off", text, user=user)]

    def alarms(self) -> list[Alarm]:
        """Return, in order of rank, the latest event of each condition whose signal is not off."""
        return self._watch.engine.active()

    def holds(self, fact: Fact) -> bool:
        """Tell whether a fact holds, told already or not."""
        return self._watch.engine.holds(fact)

    @property
    def seen_samples(self) -> int:
        """Samples per lead taken since the last start of the front end; holes count."""
        return self._estimation.n_in

    def check_serves(self, bundle: Bundle, variants: VariantChoice) -> None:
        """Raise UsageError unless `serve` can put this bundle in the place of the present one."""
        _require_output(bundle, self.policy)
        self._estimation.check_serves(bundle, variants)

    def serve(self, bundle: Bundle, variants: VariantChoice) -> list[Event]:
        """Let another bundle answer from the next window on; alarms, policy and samples stay.

        A calibration ends, which the events say, and the baseline begins anew: they were of another model.

        Raises
        ------
        UsageError
            If its front end, windows or outputs do not fit.
        """
        self.check_serves(bundle, variants)
        self.bundle = bundle
        events = self._uncalibrated("estimates are as the model says them: another bundle serves")
        self._estimation.serve(bundle, variants)
        return events

    def leave(self) -> None:
        """Give up what is shared with other beds; call it last."""
        self._estimation.answers.leave()

    def snapshot(self) -> BedSnapshot:
        """Return all that the bed knows, between two chunks; the arrays are views, so turn it into bytes at once."""
        estimation, watch = self._estimation, self._watch
        stretch, arrays = estimation.stretch()
        facts = BedFacts(
            format=BED_FORMAT,
            bundle_id=self.bundle.id,
            leads=self.leads,
            rate_hz=self.rate_hz,
            mode=self._feed_mode,
            hop_samples=self._hop_samples,
            stretch=stretch,
            last_s=estimation.last_s,
            waited_s=self._waited_s,
            lost=self._lost,
            late=self._late,
            off=tuple(sorted(estimation.off)),
            windows=estimation.windows,
            valid=estimation.valid,
            dropped=self._dropped,
            alarm_counts=dict(watch.counts),
            clock=self._clock.state,
            checks=watch.checks,
            recent_variant=estimation.answers.recent.variant,
            recent=estimation.answers.recent.numbers,
            calibrated=estimation.answers.calibrated,
        )
        return BedSnapshot(facts, watch.engine.snapshot(), arrays)

    @classmethod
    def restore(
        cls,
        bundle: Bundle,
        snapshot: BedSnapshot,
        *,
        variants: VariantChoice | None = None,
        policy: AlarmPolicy | None = None,
    ) -> Bed:
        """Return a bed that goes on where `snapshot` was taken: what it says is what it would have said.

        Raises
        ------
        UsageError
            If the snapshot is of another bundle, form or alarm policy.
        """
        facts = snapshot.facts
        bed = cls(
            bundle,
            leads=facts.leads,
            rate_hz=facts.rate_hz,
            variants=variants,
            policy=policy,
            mode=facts.mode,
        )
        if (facts.bundle_id, facts.hop_samples) != (bundle.id, bed._hop_samples):
            raise UsageError(
                f"the snapshot is of a bed on bundle {facts.bundle_id[:12]} with {facts.hop_samples} samples from "
                f"window to window, this is {bundle.id[:12]} with {bed._hop_samples}; serve it with the same"
            )
        try:
            bed._watch.take_up(snapshot.alarms, checks=facts.checks, counts=facts.alarm_counts)
        except ValueError as error:
            raise UsageError(f"the snapshot does not fit: {error}") from error
        bed._waited_s = facts.waited_s
        bed._lost, bed._late, bed._dropped = facts.lost, facts.late, facts.dropped
        bed._clock = FeedClock(bed.rate_hz, facts.clock)
        estimation = bed._estimation
        estimation.off = frozenset(facts.off)
        estimation.windows, estimation.valid, estimation.last_s = facts.windows, facts.valid, facts.last_s
        estimation.answers.recent = Recent(
            hop_s=bed.hop_s, variant=facts.recent_variant, numbers=facts.recent
        )
        estimation.answers.calibrated = facts.calibrated
        if facts.stretch is not None:
            estimation.resume(facts.stretch, snapshot.arrays)
        return bed

    def lost_samples(self, n: int) -> None:
        """Count samples that came but had to go before they were pushed."""
        self._dropped += n

    def summary(self, *, latency_ms: Mapping[str, float | None], journal: str | None) -> Summary:
        """Return the totals; the latencies come from whoever owns the clock."""
        return Summary(
            windows=self._estimation.windows,
            valid=self._estimation.valid,
            dropped_samples=self._dropped,
            latency_ms=latency_ms,
            alarms=dict(self._watch.counts),
            journal=journal,
        )

    # --- time: gaps, silence, late samples -----------------------------------------------------------

    def _start(self, t_s: float, events: list[Event]) -> None:
        """Begin a stretch at `t_s`: front end and windows know nothing of the past."""
        first = not self.started
        self._estimation.begin(t_s)
        if first:
            events += self._watch.begin(t_s, waited_s=self._waited_s, lost=self._lost)
        self._connect(t_s, events)

    def _hear(self, t_s: float, events: list[Event]) -> None:
        """Let time pass that no sample tells of, so that it may leap."""
        _require_time(t_s)
        if not self.started:
            self._waited_s = max(self._waited_s, t_s)
        events += self._watch.leap(t_s)

    def _connect(self, t_s: float, events: list[Event]) -> None:
        self._lost = False
        events.append(FeedEvent(t_s=t_s, state="connected"))
        events += self._watch.counted(self._watch.engine.on_feed(t_s, connected=True))

    def _align(
        self, samples_mv: NDArray[np.float32], t_s: float, events: list[Event]
    ) -> Steps[NDArray[np.float32]]:
        """Fill or report a hole before `t_s`, or drop what was received already."""
        missing = self.missing(t_s)
        if missing < 0:
            return (yield from self._from_the_past(samples_mv, -missing, t_s, events))
        self._clock.in_time()
        self._late = False
        events += self._watch.fact("FEED_STALE", self.reached_s, None)
        t_s = self._clock.stream_s(t_s)
        if missing > 0:
            self._dropped += missing
            yield from self._bridge_gap(missing, t_s, events)
        if self._lost:
            self._connect(t_s, events)
        return samples_mv

    def _from_the_past(
        self, samples_mv: NDArray[np.float32], late: int, t_s: float, events: list[Event]
    ) -> Steps[NDArray[np.float32]]:
        """Drop what was received already, or find that the feed's clock was set back."""
        n, due_s, ahead_s = samples_mv.shape[1], self.reached_s, self._clock.state.ahead_s
        if not self._late:
            self._late = True
            events.append(FeedEvent(t_s=due_s, state="stale", age_s=late / self.rate_hz))
        stale = f"samples come {late / self.rate_hz:.1f} s late and are of no use"
        events += self._watch.fact("FEED_STALE", due_s, stale if late >= n else None)
        spent = self._clock.late(t_s, n, due_s=due_s)
        if spent is None:
            self._dropped += min(late, n)
            return samples_mv[:, late:]
        # What it took to be sure was dropped so far; from here on it is a gap, and counted as one.
        self._dropped -= round(SURE_S * self.rate_hz) - spent
        waited_s = self._watch.checks.heard_s - due_s
        if waited_s > SURE_S:  # time has passed since without samples, and it does not run backwards either
            self._clock.put_on(waited_s)
        jump_s = self._clock.state.ahead_s - ahead_s
        events.append(FeedEvent(t_s=due_s, state="clock_jump", age_s=jump_s))
        rest = samples_mv[:, spent:]
        return (yield from self._align(rest, t_s + spent / self.rate_hz, events)) if spent < n else rest

    def _bridge_gap(self, missing: int, t_s: float, events: list[Event]) -> Steps[None]:
        gap_s = missing / self.rate_hz
        if gap_s > RESTART_AFTER_S:
            self._notice_silence(t_s, events)
            self._hear(t_s, events)
            events.append(FeedEvent(t_s=t_s, state="gap", age_s=gap_s))
            self._start(t_s, events)
            return
        # The windows of the hole come in order with the moment at which the silence is too long.
        quiet = min(missing, round(self.policy.feed_lost_s * self.rate_hz))
        yield from self._estimation.consume(self._nothing(quiet), events, hole=True)
        self._notice_silence(t_s, events)
        yield from self._estimation.consume(self._nothing(missing - quiet), events, hole=True)
        events.append(FeedEvent(t_s=t_s, state="gap", age_s=gap_s))

    def _nothing(self, n: int) -> NDArray[np.float32]:
        return np.full((len(self.leads), n), np.nan, np.float32)

    def _notice_silence(self, t_s: float, events: list[Event]) -> None:
        due_s = self._estimation.last_s + self.policy.feed_lost_s
        if not self._lost and t_s >= due_s:
            self._lose(due_s, events, silent_s=self.policy.feed_lost_s)

    def _lose(self, t_s: float, events: list[Event], *, silent_s: float) -> None:
        self._lost = True
        events += self._watch.pass_time(t_s)
        events.append(FeedEvent(t_s=t_s, state="lost", age_s=silent_s))
        events += self._watch.counted(self._watch.engine.on_feed(t_s, connected=False))


def _require_output(bundle: Bundle, policy: AlarmPolicy) -> None:
    if policy.rising and "mpcwp_mmhg" not in {output.name for output in bundle.manifest.outputs}:
        raise UsageError(
            "the alarm policy turns rising on, but the bundle has no output mpcwp_mmhg: it can never fire; "
            "set rising = false"
        )


def _require_time(t_s: float) -> None:
    if not math.isfinite(t_s):
        raise UsageError(f"t_s is {t_s}; expected seconds of stream time")
