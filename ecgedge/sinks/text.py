"""Events as lines for a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TextIO

from ecgedge.events import (
    Alarm,
    AudioEvent,
    CalibrationEvent,
    Estimate,
    Event,
    Expired,
    FeedEvent,
    SelfCheck,
    Summary,
    TrendEvent,
)

_PREFIX = {
    ("physiological", "high"): "***",
    ("physiological", "medium"): "** ",
    ("physiological", "low"): "*  ",
    ("technical", "high"): "!!!",
    ("technical", "medium"): "!! ",
    ("technical", "low"): "!  ",
}
"""Priority marks as bedside monitors print them, so that colour is never the only cue."""


class TextSink:
    """Writes one line an event to an open text stream.

    Self-checks are for programs and are left out, but while they count a pause of the sound down.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    async def send(self, event: Event) -> None:
        """Write one line."""
        if isinstance(event, SelfCheck) and event.audio_pause_left_s is None:
            return
        self._stream.write(format_event(event) + "\n")
        self._stream.flush()

    async def close(self) -> None:
        """Nothing to release: the stream is the caller's."""


def format_event(event: Event) -> str:
    """Write an event as one line of text."""
    write: Callable[[Any], str] = _LINES[type(event)]
    return write(event)


def format_time(t_s: float) -> str:
    """Write stream time as h:mm:ss.s."""
    minutes, seconds = divmod(round(t_s, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:04.1f}"


def _estimate(event: Estimate) -> str:
    head = f"{format_time(event.t_s)}  "
    demo = "" if event.mode == "real" else f"  [{event.mode.upper()}]"
    if event.validity == "invalid":
        return f"{head}mPCWP  --   invalid: {event.reason}{demo}"
    parts = []
    if event.mpcwp_mmhg is not None:
        calibrated = "" if event.calibration is None else ", calibrated"
        parts.append(f"mPCWP {event.mpcwp_mmhg:4.1f} mmHg (estimate{calibrated})")
    if event.interval_mmhg is not None:
        parts.append(f"[{event.interval_mmhg[0]:.0f} to {event.interval_mmhg[1]:.0f}]")
    if event.p_gt_18 is not None:
        parts.append(f"p(>18) {event.p_gt_18:.2f}")
    parts += [f"{name} {value:.2f}" for name, value in event.outputs.items()]
    doubt = f"  questionable: {event.reason}" if event.validity == "questionable" else ""
    latency = "" if event.latency_ms is None else f"  {event.latency_ms:.1f} ms"
    return f"{head}{'  '.join(parts)}  {event.variant}{latency}{doubt}{demo}"


def _alarm(event: Alarm) -> str:
    mark = _PREFIX.get((event.kind, event.priority), "-  ")
    silent = "" if event.audible is None else f", audio {event.audible}"
    state = f"{event.presence}, signal {event.signal}{silent}"
    return f"{format_time(event.t_s)}  {mark} {event.condition} ({event.priority}) {state}: {event.text}"


def _feed(event: FeedEvent) -> str:
    lead = f" {event.lead}" if event.lead else ""
    age = f" ({event.age_s:.3f} s)" if event.age_s is not None else ""
    return f"{format_time(event.t_s)}  feed {event.state.replace('_', ' ')}{lead}{age}"


def _trend(event: TrendEvent) -> str:
    return (
        f"{format_time(event.t_s)}  mPCWP estimates of 10 min: {event.now_mmhg:.1f} mmHg, {event.change_mmhg:+.1f} "
        f"from {event.baseline_mmhg:.1f} before (median of {event.baseline_minutes} minutes)"
    )


def _self_check(event: SelfCheck) -> str:
    left_s = event.audio_pause_left_s
    countdown = "" if left_s is None else f", audio paused for {left_s:.0f} s more"
    return f"{format_time(event.t_s)}  self-check {event.count}{countdown}"


def _summary(event: Summary) -> str:
    alarms = ", ".join(f"{name} {count}" for name, count in event.alarms.items() if count) or "none"
    p50, p99 = event.latency_ms.get("p50"), event.latency_ms.get("p99")
    latency = "" if p50 is None or p99 is None else f", latency p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    dropped = sum(event.dropped_commands.values())
    lines = f"; {dropped} control lines dropped" if dropped else ""
    return (
        f"{event.windows} windows, {event.valid} valid, {event.dropped_samples} samples dropped{latency}; "
        f"alarms: {alarms}{lines}; journal: {event.journal or 'none'}. Research use only."
    )


def _audio(event: AudioEvent) -> str:
    until = "" if event.ends_s is None else f", until {format_time(event.ends_s)}"
    return f"{format_time(event.t_s)}  {event.text}{until}"


def _calibration(event: CalibrationEvent) -> str:
    return f"{format_time(event.t_s)}  {event.text}"


def _expired(event: Expired) -> str:
    return f"{format_time(event.t_s)}  mPCWP  --   expired: {event.reason}"


_LINES: Final[dict[type[Any], Callable[[Any], str]]] = {
    Estimate: _estimate,
    Alarm: _alarm,
    AudioEvent: _audio,
    CalibrationEvent: _calibration,
    Expired: _expired,
    FeedEvent: _feed,
    SelfCheck: _self_check,
    TrendEvent: _trend,
    Summary: _summary,
}
