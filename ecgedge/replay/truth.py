"""When mPCWP was truly elevated: from a simulated patient's latent pressure, or from a table of episodes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from ecgedge.errors import UsageError
from ecgedge.records import read
from ecgedge.replay.streams import LATENT_STEP_S, RecordedStream

MERGE_S: Final = 600.0
"""A latent pressure that comes back above the threshold within this time never left: one episode."""

_COLUMNS: Final = ("record", "patient_id", "start_s", "end_s")


@dataclass(frozen=True)
class Episode:
    """A stretch of stream time, [start_s, end_s), in which mPCWP was truly elevated."""

    start_s: float
    end_s: float


def latent_episodes(
    latent_mmhg: Sequence[float], *, above_mmhg: float, duration_s: float
) -> tuple[Episode, ...]:
    """Return the episodes of a latent pressure, looked at each `LATENT_STEP_S`.

    An episode begins at the first look above `above_mmhg` and ends at the first look that is not; it reaches to
    the end of the stream if none follows.
    """
    found: list[Episode] = []
    for number, mmhg in enumerate(latent_mmhg, start=1):
        t_s = number * LATENT_STEP_S
        if mmhg <= above_mmhg:
            continue
        if found and t_s - found[-1].end_s <= MERGE_S:
            found[-1] = replace(found[-1], end_s=t_s + LATENT_STEP_S)
        else:
            found.append(Episode(t_s, t_s + LATENT_STEP_S))
    return tuple(replace(e, end_s=min(e.end_s, duration_s)) for e in found if e.start_s < duration_s)


@dataclass(frozen=True)
class Table:
    """What a table of episodes says: the recordings, with their patients, and each one's episodes by name."""

    streams: tuple[RecordedStream, ...]
    episodes: Mapping[str, tuple[Episode, ...]]


def read_table(path: Path, streams: Sequence[RecordedStream]) -> Table:
    """Read a CSV of episodes for `streams`.

    Columns: `record` (the recording's path as it was given, its file name, or that without suffix) or `patient_id`
    (as the recording itself tells it) or both, then the recording's patient is that id; `start_s` and `end_s`,
    seconds from the recording's start, both empty in a row that only names the patient. A recording without a row
    with times was never elevated.

    Raises
    ------
    UsageError
        If the table cannot be read or understood, names an unknown recording, or episodes of one overlap.
    """
    rows = _rows(path)
    keys = _keys_of_records(streams) if "record" in rows[0] else _keys_of_patients(streams)
    patients: dict[str, str] = {}
    episodes: dict[str, list[Episode]] = {stream.name: [] for stream in streams}
    for number, row in enumerate(rows, start=2):
        place = f"{path}, line {number}"
        stream = _named(row, keys, place)
        patient = (row.get("patient_id") or "").strip()
        if patient and patients.setdefault(stream.name, patient) != patient:
            raise UsageError(f"{place}: {stream.name} is of patient {patients[stream.name]!r} in another row")
        episode = _episode(row, place)
        if episode is not None:
            episodes[stream.name].append(episode)
    ordered = {name: _in_order(found, f"{path}: {name}") for name, found in episodes.items()}
    return Table(tuple(replace(s, patient=patients.get(s.name, s.patient)) for s in streams), ordered)


def require_inside(episodes: Sequence[Episode], *, duration_s: float, name: str) -> None:
    """Refuse episodes that a stream does not reach.

    Raises
    ------
    UsageError
        If one begins after the end, or ends more than a minute after it.
    """
    for episode in episodes:
        if episode.start_s >= duration_s or episode.end_s > duration_s + LATENT_STEP_S:
            raise UsageError(
                f"{name} ends at {duration_s:g} s, but an episode is said to last from {episode.start_s:g} to "
                f"{episode.end_s:g} s; times are seconds from the start of the recording"
            )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
            head = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the episodes {path}: {error}") from error
    known = {"start_s", "end_s"} <= set(head) <= set(_COLUMNS) and len(set(head)) > 2
    if not known or len(set(head)) < len(head):
        raise UsageError(
            f"{path}: its columns are {', '.join(head) or 'none'}; expected record or patient_id (or both), "
            "start_s, end_s"
        )
    if not rows:
        raise UsageError(f"{path}: no row; leave --episodes out if nothing is known of the truth")
    return rows


def _keys_of_records(streams: Sequence[RecordedStream]) -> dict[str, list[RecordedStream]]:
    keys: dict[str, list[RecordedStream]] = {}
    for stream in streams:
        for key in {stream.name, stream.path.name, stream.path.stem}:
            keys.setdefault(key, []).append(stream)
    return keys


def _keys_of_patients(streams: Sequence[RecordedStream]) -> dict[str, list[RecordedStream]]:
    keys: dict[str, list[RecordedStream]] = {}
    for stream in streams:
        patient = read(stream.path, gaps="keep").patient_id
        if patient is not None:
            keys.setdefault(patient, []).append(stream)
    return keys


def _named(row: Mapping[str, str], keys: Mapping[str, list[RecordedStream]], place: str) -> RecordedStream:
    column = "record" if "record" in row else "patient_id"
    key = (row[column] or "").strip()
    found = keys.get(key, [])
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(stream.name for stream in found)
        raise UsageError(
            f"{place}: {column} {key!r} may be any of {names}; write the path in a column 'record'"
        )
    raise UsageError(
        f"{place}: {column} {key!r} is none of the recordings given; known are "
        f"{', '.join(sorted(keys)[:6]) or 'none'}{', ...' if len(keys) > 6 else ''}"
    )


def _episode(row: Mapping[str, str], place: str) -> Episode | None:
    texts = [(row[name] or "").strip() for name in ("start_s", "end_s")]
    if texts == ["", ""]:
        return None
    try:
        start_s, end_s = map(float, texts)
    except ValueError:
        start_s = end_s = math.nan
    if not 0.0 <= start_s < end_s < math.inf:
        raise UsageError(
            f"{place}: start_s {texts[0]!r}, end_s {texts[1]!r}; expected seconds with 0 <= start_s < end_s"
        )
    return Episode(start_s, end_s)


def _in_order(found: Sequence[Episode], place: str) -> tuple[Episode, ...]:
    ordered = sorted(found, key=lambda e: e.start_s)
    for before, after in pairwise(ordered):
        if after.start_s < before.end_s:
            raise UsageError(
                f"{place}: the episodes from {before.start_s:g} and from {after.start_s:g} s overlap; join them"
            )
    return tuple(ordered)
