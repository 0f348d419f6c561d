"""A bed between two chunks, as bytes: what a restart needs so that nobody notices it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.alarms import ChecksState
from ecgedge.ecg import Mode
from ecgedge.errors import RecordError
from ecgedge.events import Calibrated
from ecgedge.npy import DAMAGED
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.stream.clock import ClockState

BED_FORMAT: Final = 2
_MAGIC: Final = b"ecgedge bed\n"


@dataclass(frozen=True)
class Stretch:
    """Samples since the front end last started.

    `begin_s` is their time, `n_in` of the feed's samples have come, `n_out` were conditioned, the next window ends at
    `next_end`; `phase` is the resampler's.
    """

    begin_s: float
    n_in: int
    n_out: int
    next_end: int
    phase: int


@dataclass(frozen=True)
class BedFacts:
    """What is no array and no alarm: whom it belongs to, and what the bed knows. `stretch` is None before the first.

    `recent` and `recent_variant` are those of `ecgedge.stream.one_point.Recent`.
    """

    format: int
    bundle_id: str
    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    hop_samples: int
    stretch: Stretch | None
    last_s: float
    waited_s: float
    lost: bool
    late: bool
    off: tuple[str, ...]
    windows: int
    valid: int
    dropped: int
    alarm_counts: Mapping[str, int]
    clock: ClockState
    checks: ChecksState
    recent_variant: str | None
    recent: tuple[float, ...]
    calibrated: Calibrated | None


@dataclass(frozen=True, eq=False)
class BedSnapshot:
    """All of a bed.

    Attributes
    ----------
    facts
        See there.
    alarms
        The alarm engine's own snapshot.
    arrays
        Rows of the front end's state, counts and status of the newest samples, the baseline, and what is known of raw
        samples; none before the first sample.
    """

    facts: BedFacts
    alarms: Mapping[str, Any]
    arrays: tuple[NDArray[Any], ...]

    def to_bytes(self) -> bytes:
        """Return it as a file's content; the same snapshot gives the same bytes."""
        plain = {"bed": to_plain(self.facts), "alarms": self.alarms}
        head = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        stream = io.BytesIO()
        for array in (np.frombuffer(head, np.uint8), *self.arrays):
            np.save(stream, array, allow_pickle=False)
        body = stream.getvalue()
        return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> BedSnapshot:
        """Read what `to_bytes` gave.

        Raises
        ------
        RecordError
            If it is damaged, or of another format.
        """
        start = len(_MAGIC) + 65
        digest, body = data[len(_MAGIC) : start - 1], data[start:]
        if not data.startswith(_MAGIC) or hashlib.sha256(body).hexdigest().encode() != digest:
            raise RecordError(f"{source} is no snapshot of a bed, or damaged; {_ANEW}")
        try:
            plain, arrays = _parts(body)
            found = plain["bed"].get("format")
        except DAMAGED as error:
            raise RecordError(f"{source} is no snapshot of a bed ({error}); {_ANEW}") from error
        if found != BED_FORMAT:
            raise RecordError(
                f"{source} is a bed's snapshot of format {found}, and this version reads {BED_FORMAT}; {_ANEW}"
            )
        try:
            facts = from_plain(BedFacts, plain["bed"], where="bed")
            alarms = dict(plain["alarms"])
        except (SchemaError, LookupError, TypeError, ValueError) as error:
            raise RecordError(f"{source} is no snapshot of a bed: {error}; {_ANEW}") from error
        return cls(facts, alarms, arrays)


def _parts(body: bytes) -> tuple[Any, tuple[NDArray[Any], ...]]:
    """Return the facts and the arrays behind a snapshot's digest."""
    stream = io.BytesIO(body)
    arrays: list[NDArray[Any]] = []
    while stream.tell() < len(body):
        arrays.append(np.load(stream, allow_pickle=False))
    return json.loads(arrays[0].tobytes()), tuple(arrays[1:])


_ANEW = "remove it to begin anew (what was on or latched must then be looked at by hand)"
