"""A bed's snapshots on the disk: the newest whole one survives a kill or a power loss at any moment."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ecgedge.alarms import CONDITIONS
from ecgedge.ecg import Mode
from ecgedge.errors import RecordError, UsageError
from ecgedge.events import Alarm
from ecgedge.journal.files import sync_folder
from ecgedge.stream import BedSnapshot


@dataclass(frozen=True)
class Signal:
    """What a bed is made for."""

    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode

    @classmethod
    def of(cls, snapshot: BedSnapshot) -> Signal:
        """Return what the bed of a snapshot was made for."""
        return cls(snapshot.facts.leads, snapshot.facts.rate_hz, snapshot.facts.mode)

    def __str__(self) -> str:
        """Return it as people are told."""
        return f"leads {','.join(self.leads)} at {self.rate_hz:g} Hz in mode {self.mode}"


def require_signal(snapshot: BedSnapshot, signal: Signal | None) -> None:
    """Raise UsageError if a snapshot is of another signal than the feed has; None is no feed yet."""
    if signal not in (None, Signal.of(snapshot)):
        raise UsageError(f"the state is of {Signal.of(snapshot)}, and the feed has {signal}")


def replace_file(path: Path, content: bytes) -> None:
    """Put this in the place of what a file had before, on the disk when this returns; else RecordError."""
    beside = path.with_name(f"{path.name}.new")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise RecordError(f"cannot write the state {path}: {error.strerror}") from error


def read_state(path: Path) -> BedSnapshot | None:
    """Return the newest snapshot, or None if there is none.

    Raises
    ------
    RecordError
        If it cannot be read, or is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"cannot read the state {path}: {error.strerror}") from error
    return BedSnapshot.from_bytes(data, source=str(path))


def ended_alarms(snapshot: BedSnapshot, on: Collection[Alarm]) -> list[Alarm]:
    """Return, of each condition that was on once and is not among those `on` now, that it is off.

    A bed that was killed may have known so and told nobody: whoever heard of it would show it for ever.
    """
    facts = snapshot.facts
    t_s = max([facts.last_s, *(alarm.t_s for alarm in on)])
    shown = {alarm.condition for alarm in on}
    return [
        Alarm(t_s, name, condition.kind, "low", "off", "off", "not present, as told again after a restart")
        for name, condition in CONDITIONS.items()
        if facts.alarm_counts.get(name, 0) > 0 and name not in shown
    ]
