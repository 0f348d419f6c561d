"""What an alarm policy makes of a course: the engine of a bed, over the facts that the bed gave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ecgedge.alarms import AlarmEngine
from ecgedge.events import Alarm, Estimate, Event
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.course import Course, Fact

ELEVATED: Final = "MPCWP_ELEVATED"


@dataclass(frozen=True)
class Span:
    """From an onset of the condition to its end, or to the end of the stream."""

    on_s: float
    off_s: float


def replay_alarms(course: Course, policy: AlarmPolicy, *, hop_s: float) -> list[Alarm]:
    """Return every alarm event that a bed under `policy` would have told."""
    engine = AlarmEngine(policy, hop_s=hop_s, leads=course.head.leads)
    events: list[Event] = [event for fact in course.facts for event in _give(engine, fact)]
    events += engine.advance(course.head.duration_s)
    return [event for event in events if isinstance(event, Alarm)]


def _give(engine: AlarmEngine, fact: Fact) -> Sequence[Event]:
    """Give the engine a fact just as the bed does."""
    if isinstance(fact, Estimate):
        return engine.on_estimate(fact)
    if fact.state in ("connected", "lost"):
        return engine.on_feed(fact.t_s, connected=fact.state == "connected")
    if fact.lead is not None:
        return engine.on_lead(fact.t_s, fact.lead, on=fact.state == "lead_on")
    return []


def elevated_spans(alarms: Iterable[Alarm], *, end_s: float) -> tuple[Span, ...]:
    """Return when MPCWP_ELEVATED was present: escalations and acknowledgements change nothing of that."""
    spans: list[Span] = []
    since_s: float | None = None
    for alarm in alarms:
        if alarm.condition != ELEVATED:
            continue
        if alarm.presence == "on" and since_s is None:
            since_s = alarm.t_s
        elif alarm.presence == "off" and since_s is not None:
            spans.append(Span(since_s, alarm.t_s))
            since_s = None
    return tuple(spans) if since_s is None else (*spans, Span(since_s, end_s))
