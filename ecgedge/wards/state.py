"""A bed's snapshots on the disk: the newest whole one survives a kill or a power loss at any moment."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ecgedge.alarms import CONDITIONS
from ecgedge.errors import RecordError
from ecgedge.events import Alarm
from ecgedge.journal.files import sync_folder
from ecgedge.stream import BedSnapshot


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
