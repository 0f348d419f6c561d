"""What a bed says: frozen events, and the JSON lines that carry them (field names are a contract)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, get_args

from ecgedge.ecg import Mode
from ecgedge.schema import SchemaError, from_plain

Validity = Literal["valid", "questionable", "invalid"]
Kind = Literal["physiological", "technical"]
Priority = Literal["none", "low", "medium", "high"]
Presence = Literal["on", "off"]
Signal = Literal["on", "off", "latched", "acknowledged"]
Audible = Literal["paused"]
AudioState = Literal["on", "paused"]
FeedState = Literal["connected", "lost", "stale", "gap", "clock_jump", "lead_off", "lead_on"]


@dataclass(frozen=True)
class Calibrated:
    """What an estimate was set against: the patient's part of the error, learnt from a catheter value at `t_s`.

    An estimate that carries it, plus `offset_mmhg`, is what the model said. `sd_mmhg` is the standard deviation of the
    offset; it holds for the estimates of `variant` only.
    """

    t_s: float
    variant: str
    reference_mmhg: float
    offset_mmhg: float
    sd_mmhg: float


@dataclass(frozen=True)
class Estimate:
    """One window's answer. `t_s` is the stream time at which the window ends.

    The numbers are None where validity is "invalid" or the bundle has no such output; `outputs` holds
    further heads by name. `latency_ms` is filled by whoever owns the clock: the bed leaves it None.
    """

    type: ClassVar[str] = "estimate"
    t_s: float
    mpcwp_mmhg: float | None
    interval_mmhg: tuple[float, float] | None
    p_gt_15: float | None
    p_gt_18: float | None
    validity: Validity
    reason: str | None
    sqi: float
    leads: tuple[str, ...]
    variant: str | None
    latency_ms: float | None = None
    mode: Mode = "real"
    outputs: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibrated | None = None


@dataclass(frozen=True)
class Alarm:
    """A transition of an alarm condition or of its signal.

    `signal` is what is shown, and what is heard follows from it: an alarm sounds while its signal is "on", and
    is silent while that is latched, acknowledged or off. Only a pause changes this: `audible` is then "paused".
    `user` acknowledged it, in this event.
    """

    type: ClassVar[str] = "alarm"
    t_s: float
    condition: str
    kind: Kind
    priority: Priority
    presence: Presence
    signal: Signal
    text: str
    audible: Audible | None = None
    user: str | None = None

    @property
    def sounds(self) -> bool:
        """Whether the alarm is to be heard."""
        return self.signal == "on" and self.audible is None


@dataclass(frozen=True)
class AudioEvent:
    """The sound of all alarms of a bed has been paused until `ends_s`, or is on again; `user` did it, if any."""

    type: ClassVar[str] = "audio"
    t_s: float
    state: AudioState
    ends_s: float | None
    text: str
    user: str | None = None


@dataclass(frozen=True)
class CalibrationEvent:
    """From here on estimates are set against a catheter value, or (off) are not any more; `user` did it, if any."""

    type: ClassVar[str] = "calibration"
    t_s: float
    state: Presence
    text: str
    calibration: Calibrated | None = None
    user: str | None = None


@dataclass(frozen=True)
class TrendEvent:
    """How the patient's estimates of the last ten minutes stand to those of the day before, both as they are shown.

    Medians of minutes; `baseline_minutes` of them make the baseline. An estimate, not a measurement, and no alarm.
    """

    type: ClassVar[str] = "trend"
    t_s: float
    now_mmhg: float
    baseline_mmhg: float
    change_mmhg: float
    baseline_minutes: int


@dataclass(frozen=True)
class Expired:
    """The estimate of the window that ended at `since_s` is too old to be shown any more: blank it, and say why."""

    type: ClassVar[str] = "expired"
    t_s: float
    since_s: float
    reason: str


@dataclass(frozen=True)
class FeedEvent:
    """A change in the feed; `lead` names the lead of lead_off and lead_on.

    `age_s` is the length of a gap, how late the samples of a stale feed are, or how far a clock jumped back.
    """

    type: ClassVar[str] = "feed"
    t_s: float
    state: FeedState
    lead: str | None = None
    age_s: float | None = None


@dataclass(frozen=True)
class SelfCheck:
    """The bed is alive: check `count` since its stream began, the next one due in `period_s` of stream time.

    `audio_pause_left_s` counts a pause of the sound down; None without one.
    """

    type: ClassVar[str] = "self_check"
    t_s: float
    count: int
    period_s: float
    audio_pause_left_s: float | None


@dataclass(frozen=True)
class Summary:
    """Totals of a stream, sent once at its end.

    `alarms` counts how often each condition called for attention: its onsets, and every time that it grew worse or
    came on again after an acknowledgement. `dropped_commands` counts users' lines by what was wrong with them.
    """

    type: ClassVar[str] = "summary"
    windows: int
    valid: int
    dropped_samples: int
    latency_ms: Mapping[str, float | None]
    alarms: Mapping[str, int]
    journal: str | None
    dropped_commands: Mapping[str, int] = field(default_factory=dict)


AlarmEvent = Alarm | AudioEvent | Expired
"""What the alarm engine says."""

Event = Estimate | AlarmEvent | CalibrationEvent | FeedEvent | SelfCheck | TrendEvent | Summary

_KINDS: Final[dict[str, type[Event]]] = {kind.type: kind for kind in get_args(Event)}

_ONLY_WHERE_SET: Final = frozenset({"outputs", "audible", "user", "dropped_commands", "calibration"})
"""Fields that came to the format later or concern few: where they are empty, a line is what it always was."""


def event_to_dict(event: Event) -> dict[str, Any]:
    """Turn an event into plain JSON types, `type` first; `_ONLY_WHERE_SET` stand only where they hold something."""
    plain: dict[str, Any] = {"type": event.type}
    for item in fields(event):
        value = getattr(event, item.name)
        if item.name in _ONLY_WHERE_SET and not value:
            continue
        plain[item.name] = _plain(value)
    return plain


def event_to_json(event: Event) -> str:
    """Write an event as one JSON line (without the line end); never NaN."""
    return json.dumps(event_to_dict(event), separators=(",", ":"), allow_nan=False)


def event_from_dict(plain: Mapping[str, Any]) -> Event:
    """Read what `event_to_dict` gave; SchemaError on what is no event."""
    kind = _KINDS.get(str(plain.get("type")))
    if kind is None:
        raise SchemaError(f"type is {plain.get('type')!r}; expected one of {', '.join(_KINDS)}")
    return from_plain(kind, {key: value for key, value in plain.items() if key != "type"})


def _plain(value: object) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Calibrated):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value
