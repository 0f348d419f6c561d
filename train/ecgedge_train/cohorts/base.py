"""What every cohort hands to the dataset builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ecgedge.ecg import Recording
from ecgedge.errors import UsageError

Split = Literal["train", "tune", "test", "holdout"]
LabelKind = Literal["float", "text"]


@dataclass(frozen=True)
class Entry:
    """One row of the index before it has a place in a shard.

    Attributes
    ----------
    record_id, patient_id
        As the source names them; a record_id is unique in its cohort.
    time
        When it was recorded, as the source writes it; empty if not told.
    split, fold
        The split is a function of the patient, never of the record.
    labels
        One value for each of `Cohort.labels`; NaN or "" where the source does not tell.
    """

    record_id: str
    patient_id: str
    time: str
    split: Split
    fold: int
    labels: Mapping[str, float | str]


class Unit(Protocol):
    """What a worker reads at once: a record, or all records of a simulated patient."""

    @property
    def name(self) -> str:
        """What a message calls it."""


@dataclass(frozen=True)
class Cohort:
    """A planned cohort: cheap to make, nothing read or simulated yet.

    Attributes
    ----------
    name, simulated, attribution
        Go into dataset.json and from there into every bundle; the attribution is what the licence asks for.
    labels
        Name and kind of each label column.
    classes
        The label columns that are 0/1 classes (the class heads are made from these).
    identity
        Everything that decides the content beside the front end: two builds with equal identity are equal.
    units, rows_per_unit, load
        `load(unit)` gives the rows of one unit; it is a module-level function and a unit is small, since
        both travel to worker processes.
    """

    name: str
    simulated: bool
    attribution: str
    labels: Mapping[str, LabelKind]
    classes: tuple[str, ...]
    identity: Mapping[str, str]
    units: tuple[Unit, ...]
    rows_per_unit: int
    load: Callable[[Any], Iterable[tuple[Entry, Recording]]]


def take_options(source: str, options: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return `defaults` with `options` over them, refusing an option that `source` does not know.

    Raises
    ------
    UsageError
        On an unknown option.
    """
    for name in options:
        if name not in defaults:
            known = ", ".join(f"{key}={value or 'N'}" for key, value in defaults.items())
            raise UsageError(f"source '{source}' has no option '{name}'; it knows: {known}")
    return {**defaults, **options}


def whole_number(name: str, text: str, *, least: int = 1) -> int:
    """Read an option that must be a whole number of at least `least`.

    Raises
    ------
    UsageError
        If it is not.
    """
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"option {name}={text!r} is not a whole number") from None
    if value < least:
        raise UsageError(f"option {name}={value} is too small; the least is {least}")
    return value
