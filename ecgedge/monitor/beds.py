"""What the page knows of one bed: its last words, its alarms, its day, and who looks at it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ecgedge.alarms.table import PRIORITIES
from ecgedge.ecg import Mode
from ecgedge.events import Alarm, AudioEvent, Estimate, Event, Expired, FeedEvent, SelfCheck, event_to_dict
from ecgedge.monitor.trend import Trend
from ecgedge.policy import AlarmPolicy

LOG_EVENTS: Final = 1000
"""The newest of them can be downloaded. Estimates and self-checks are not among them: the trend has the former."""

HISTORY_EVENTS: Final = 200
"""So many of them a viewer is told at first."""

_USER: Final = re.compile(r"(\b[a-z]+://)[^/\s@]*@")
_QUERY: Final = re.compile(r"(?<=\S)\?(?=[^\s=]+=)[^\s]*?(?=:?\s|$)")

LATENCIES: Final = 600
ALIVE_S: Final = 1.0
"""A feed is alive while samples have come within so long, and a chunk."""

Health = Callable[[], Mapping[str, Any]]
"""Says how a bed's feed does: plain JSON types, `queue` among them where samples wait."""


def no_health() -> Mapping[str, Any]:
    """Say nothing."""
    return {}


@dataclass(frozen=True)
class BedFacts:
    """What does not change while a feed is open; `feed` is its URI without secrets, `chunk_s` its usual chunk."""

    leads: tuple[str, ...]
    rate_hz: float
    feed: str
    mode: Mode
    policy: AlarmPolicy
    chunk_s: float = 0.0


def limits_of(policy: AlarmPolicy) -> dict[str, Any]:
    """Return what a page draws and counts by, of a policy."""
    return {
        "limits": {
            "elevated_mmhg": policy.threshold_mmhg,
            "recovery_mmhg": policy.threshold_mmhg - policy.recovery_margin_mmhg,
            "medium_lower_bound_mmhg": policy.medium_lower_bound_mmhg,
            "onset_probability": policy.onset_probability,
            "recovery_probability": policy.recovery_probability,
        },
        "lifetime_s": policy.estimate_lifetime_s,
        "pause_max_s": policy.audio_pause_max_s,
    }


@dataclass
class BedState:
    """A bed as a page that opens now must see it."""

    name: str
    facts: BedFacts | None = None
    health: Health = no_health
    trend: Trend = field(default_factory=Trend)
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_EVENTS))
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    leads_off: set[str] = field(default_factory=set)
    feed_state: str = "waiting"
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    heard_s: float | None = None
    began: tuple[float, float] | None = None
    seq: int = 0

    def take(self, event: Event, *, wall_ms: float, at_ms: float) -> dict[str, Any]:
        """Take an event, and return it as the page is told it."""
        plain = {"bed": self.name, "wall_ms": round(wall_ms, 1), "at_ms": round(at_ms, 1)}
        plain |= event_to_dict(event)
        if isinstance(event, Estimate):
            self.trend.add(event, at_ms)
            self._note_latency(event)
        elif isinstance(event, Alarm):
            self._take_alarm(event, plain)
        elif isinstance(event, AudioEvent):
            self._take_audio(event)
        elif isinstance(event, FeedEvent):
            self._take_feed(event)
        if isinstance(event, Expired):
            self.newest.pop(Estimate.type, None)
        if isinstance(event, (Estimate, SelfCheck)) or event.type in ("audio", "calibration", "trend"):
            self.newest[event.type] = plain
        if not isinstance(event, (Estimate, SelfCheck)):
            self.log.append(plain)
        return plain

    def _note_latency(self, event: Estimate) -> None:
        if event.latency_ms is not None:
            self.latencies_ms.append(event.latency_ms)

    def _take_alarm(self, event: Alarm, plain: dict[str, Any]) -> None:
        if event.presence == "off" and event.signal == "off":
            self.alarms.pop(event.condition, None)
        else:
            self.alarms[event.condition] = plain

    def _take_audio(self, event: AudioEvent) -> None:
        """Note of each alarm whether it is heard now: it was told before the pause began, or ended."""
        for condition, alarm in self.alarms.items():
            told = {key: value for key, value in alarm.items() if key != "audible"}
            paused = event.state == "paused" and told["signal"] == "on"
            self.alarms[condition] = {**told, "audible": "paused"} if paused else told

    def _take_feed(self, event: FeedEvent) -> None:
        if event.state == "lead_off" and event.lead is not None:
            self.leads_off.add(event.lead)
        elif event.state == "lead_on" and event.lead is not None:
            self.leads_off.discard(event.lead)
        elif event.state in ("connected", "lost", "stale"):
            self.feed_state = event.state

    def history(self) -> dict[str, Any]:
        """Return what a viewer who comes now is told."""
        events = [*list(self.log)[-HISTORY_EVENTS:], *self.newest.values()]
        events = sorted({id(e): e for e in events}.values(), key=lambda e: e["wall_ms"])
        return {
            "type": "history",
            "bed": self.name,
            "trend": self.trend.to_plain(),
            "events": events,
            "alarms": list(self.alarms.values()),
            "leads_off": sorted(self.leads_off),
        }

    def described(self) -> dict[str, Any] | None:
        """Return what the bed's feed has, once it has said so."""
        facts = self.facts
        if facts is None:
            return None
        return {
            "type": "bed",
            "bed": self.name,
            "leads": list(facts.leads),
            "rate_hz": facts.rate_hz,
            "feed": facts.feed,
            "mode": facts.mode,
            **limits_of(facts.policy),
        }

    def tile(self) -> dict[str, Any]:
        """Return what an overview shows of it."""
        return {
            "type": "tile",
            "bed": self.name,
            "estimate": self.newest.get(Estimate.type),
            "worst": max(self.alarms.values(), key=_urgency, default=None),
            "active": len(self.alarms),
            "feed": self.feed_state,
            "leads_off": sorted(self.leads_off),
        }

    def health_now(self, now_s: float) -> dict[str, Any]:
        """Return how it does; `now_s` is of the clock that `heard_s` is of."""
        said = {k: scrub(v) if isinstance(v, str) else v for k, v in self.health().items()}
        queue = said.pop("queue", 0)
        age_s = None if self.heard_s is None else round(now_s - self.heard_s, 3)
        longest_s = ALIVE_S + (0.0 if self.facts is None else self.facts.chunk_s)
        alive = age_s is not None and age_s < longest_s
        return {
            "feed": {"alive": alive, "age_s": age_s, "state": self.feed_state, **said},
            "latency_ms": self._latency(),
            "queue": queue,
        }

    def _latency(self) -> dict[str, float | None]:
        if not self.latencies_ms:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(list(self.latencies_ms), [50, 99])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def scrub(text: str) -> str:
    """Take names, passwords and settings out of the addresses in a text: not all who look may know them."""
    return _QUERY.sub("", _USER.sub(r"\1", text))


def _urgency(alarm: Mapping[str, Any]) -> tuple[int, int, int, float]:
    """Order alarms as `byUrgency` of static/alarms.js: those that nobody has seen, by priority, the patient's first."""
    calls = {"on": 2, "latched": 1}.get(alarm["signal"], 0)
    return (
        int(calls > 0),
        PRIORITIES.index(alarm["priority"]) * 3 + calls,
        int(alarm["kind"] == "physiological"),
        float(alarm["t_s"]),
    )


def to_json(message: Mapping[str, Any]) -> str:
    """Write a message as the page reads it; never NaN."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)
