"""What the alarm engine remembers between two calls, frozen and made of plain types, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ecgedge.alarms.rules import ValidWindow
from ecgedge.alarms.table import CONDITIONS
from ecgedge.alarms.trend import TrendState
from ecgedge.events import Presence, Priority, Signal
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import from_plain

SNAPSHOT_FORMAT: Final = 6


@dataclass(frozen=True)
class ConditionState:
    """A condition now.

    Attributes
    ----------
    changed_s
        Time of its latest event.
    text
        What the latest event said.
    cause
        What the condition itself said last: `text` without the users' part.
    acknowledged_s
        When its signal was acknowledged; None unless that still holds.
    onsets_s
        Its latest onsets, oldest first; at most one more than may come without being called chatter.
    user
        Who acknowledged it, if that was the latest event.
    """

    presence: Presence = "off"
    signal: Signal = "off"
    priority: Priority = "none"
    changed_s: float = 0.0
    text: str = ""
    cause: str = ""
    acknowledged_s: float | None = None
    onsets_s: tuple[float, ...] = ()
    user: str | None = None


@dataclass(frozen=True)
class AudioPause:
    """A pause of the sound: who began it, when it ends, and the highest priority that it keeps silent."""

    user: str
    ends_s: float
    covers: Priority


@dataclass(frozen=True)
class Waiting:
    """A fact that holds and is not yet told: since when, and what its condition will say."""

    since_s: float
    text: str


@dataclass(frozen=True)
class EngineState:
    """All that the engine and its parts remember between two calls, but for the windows.

    Attributes
    ----------
    now_s
        Latest time heard of; None before the first call.
    origin_s
        Time of the first fact: the stream's age counts from here.
    window_s
        End of the newest window, valid or not.
    connected
        Whether the feed delivers.
    poor_due_s
        When POOR_SIGNAL comes unless a usable window does; None while it cannot come.
    off_since_s
        Leads that are off and not yet told, and since when.
    leads_off
        Leads that LEAD_OFF tells of, in standard order.
    waiting
        Facts that hold but not yet for long enough, by condition.
    recovering_s
        Facts that do not hold any more, but not yet for long enough for their conditions to go: since when.
    number_s
        End of the newest window with an estimate that is shown; None before the first, and once it has expired.
    rising_line_mmhg
        Under it MPCWP_RISING goes; None while that is absent.
    pause
        The pause of the sound in force.
    conditions
        By name; all of `CONDITIONS`.
    """

    now_s: float | None = None
    origin_s: float | None = None
    window_s: float | None = None
    connected: bool = True
    poor_due_s: float | None = None
    off_since_s: Mapping[str, float] = field(default_factory=dict)
    leads_off: tuple[str, ...] = ()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    recovering_s: Mapping[str, float] = field(default_factory=dict)
    number_s: float | None = None
    rising_line_mmhg: float | None = None
    pause: AudioPause | None = None
    conditions: Mapping[str, ConditionState] = field(
        default_factory=lambda: {name: ConditionState() for name in CONDITIONS}
    )


@dataclass(frozen=True)
class Snapshot:
    """All of an engine, and what it was run with."""

    format: int
    hop_s: float
    policy: AlarmPolicy
    state: EngineState
    windows: tuple[ValidWindow, ...]
    trend: TrendState


def read_snapshot(plain: Mapping[str, Any], *, policy: AlarmPolicy, hop_s: float) -> Snapshot:
    """Read a snapshot of an engine with this policy and hop.

    Raises
    ------
    ValueError
        If it is damaged, of another format, or was taken under another policy or hop.
    """
    found = plain.get("format", SNAPSHOT_FORMAT)
    if found != SNAPSHOT_FORMAT:
        raise ValueError(
            f"snapshot format {found} is of another version; this one reads {SNAPSHOT_FORMAT}: start a new "
            "engine (what was on or latched must then be looked at by hand)"
        )
    saved = from_plain(Snapshot, plain, where="snapshot")
    if (saved.policy, saved.hop_s) != (policy, hop_s):
        raise ValueError(
            "the snapshot was taken under another alarm policy or hop; restore it with the same, "
            "or start a new engine (what was on or latched must then be looked at by hand)"
        )
    if saved.state.conditions.keys() != CONDITIONS.keys():
        raise ValueError(f"snapshot: expected the conditions {', '.join(CONDITIONS)}")
    return saved
