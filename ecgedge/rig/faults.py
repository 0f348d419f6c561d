"""What goes wrong on a wire, on purpose and by a seed, so that the same command gives the same faults."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecgedge.electrodes import CHEST_ELECTRODES, leads_lost
from ecgedge.errors import UsageError
from ecgedge.feeds import Chunk
from ecgedge.leads import canonical_lead

REORDERED: Final = 0.05
"""Of the messages, so many are sent after their follower."""

AWAY_S: Final = 1.0
"""A device that starts anew sends nothing for so long."""

_ELECTRODES: Final = ("RA", "LA", "LL", "RL", *CHEST_ELECTRODES)


@dataclass(frozen=True)
class Faults:
    """What is done to a stream.

    Attributes
    ----------
    drop
        Share of the messages that are not sent.
    reorder
        Whether some are sent after their follower.
    corrupt
        Share of the bytes in which one bit is turned over.
    lose
        Share of the bytes that never come.
    jitter_s
        Messages come later by up to so much.
    lead_off
        From when on which leads have no electrode, in seconds after the beginning.
    rate_drift
        By which share the device's clock is fast.
    restarts
        When the device starts anew, in seconds after the beginning; it is away for `AWAY_S`.
    seed
        Of all chance.
    """

    drop: float = 0.0
    reorder: bool = False
    corrupt: float = 0.0
    lose: float = 0.0
    jitter_s: float = 0.0
    lead_off: tuple[tuple[float, tuple[str, ...]], ...] = ()
    rate_drift: float = 0.0
    restarts: tuple[float, ...] = ()
    seed: int = 0


def parse_faults(
    *,
    drop: float = 0.0,
    reorder: bool = False,
    corrupt: float = 0.0,
    lose: float = 0.0,
    jitter: str = "0ms",
    lead_off: Sequence[str] = (),
    rate_drift: str = "0ppm",
    restart: Sequence[str] = (),
    seed: int = 0,
) -> Faults:
    """Read the options of `ecgedge feed send`.

    Raises
    ------
    UsageError
        Naming the option and what it may be.
    """
    for name, share in (("--drop", drop), ("--corrupt", corrupt), ("--lose", lose)):
        if not 0.0 <= share < 1.0:
            raise UsageError(f"{name} is {share:g}; expected a share from 0 to below 1, for example 0.01")
    return Faults(
        drop=drop,
        reorder=reorder,
        corrupt=corrupt,
        lose=lose,
        jitter_s=_quantity("--jitter", jitter, {"ms": 1e-3, "s": 1.0}),
        lead_off=tuple(sorted(_lead_off(text) for text in lead_off)),
        rate_drift=_quantity("--rate-drift", rate_drift, {"ppm": 1e-6}, signed=True),
        restarts=tuple(sorted(_seconds("--restart", text) for text in restart)),
        seed=seed,
    )


def _quantity(option: str, text: str, units: dict[str, float], *, signed: bool = False) -> float:
    found = re.fullmatch(rf"([-+]?[0-9.]+)({'|'.join(units)})", text.strip())
    number = math.nan
    if found is not None and found[1].count(".") <= 1 and any(c.isdigit() for c in found[1]):
        number = float(found[1]) * units[found[2]]
    if not math.isfinite(number) or (number < 0.0 and not signed) or abs(number) > 10.0:
        raise UsageError(
            f"{option} is {text!r}; expected a number with {' or '.join(units)}, for example 50{next(iter(units))}"
        )
    return number


def _seconds(option: str, text: str) -> float:
    return _quantity(option, text, {"s": 0.001}) * 1e3


def _lead_off(text: str) -> tuple[float, tuple[str, ...]]:
    """Read RA@30s, an electrode or a lead and when it comes off."""
    what, _, when = text.partition("@")
    begin_s = _seconds("--lead-off", when or "0s")
    if what.upper() in _ELECTRODES:
        return begin_s, leads_lost([what.upper()])
    try:
        return begin_s, (canonical_lead(what),)
    except ValueError:
        raise UsageError(
            f"--lead-off is {text!r}; expected an electrode ({', '.join(_ELECTRODES)}) or a lead, and when: RA@30s"
        ) from None


class FaultyLine:
    """Does to chunks and messages what `faults` says. No clock, no I/O."""

    def __init__(self, faults: Faults, leads: Sequence[str]) -> None:
        self._faults, self._leads = faults, tuple(leads)
        self._random = np.random.default_rng(faults.seed)
        self._kept_back: bytes | None = None
        self._begin_s: float | None = None

    def chunk(self, chunk: Chunk) -> Chunk:
        """Return a chunk as electrodes that come off leave it."""
        self._begin_s = chunk.t_s if self._begin_s is None else self._begin_s
        off = {
            lead
            for when_s, leads in self._faults.lead_off
            if chunk.t_s - self._begin_s >= when_s
            for lead in leads
        }
        rows = [row for row, lead in enumerate(self._leads) if lead in off]
        if not rows:
            return chunk
        samples_mv = chunk.samples_mv.copy()
        samples_mv[rows] = np.nan
        return replace(chunk, samples_mv=samples_mv)

    def is_away(self, chunk: Chunk) -> bool:
        """Tell whether the device is starting anew, and sends nothing of this chunk."""
        at_s = chunk.t_s - (chunk.t_s if self._begin_s is None else self._begin_s)
        return any(when_s <= at_s < when_s + AWAY_S for when_s in self._faults.restarts)

    def messages(self, message: bytes) -> list[bytes]:
        """Return what is sent now in the place of a message."""
        if self._random.random() < self._faults.drop:
            return []
        message = self._cut(self._corrupted(message))
        if self._kept_back is not None:
            kept, self._kept_back = self._kept_back, None
            return [message, kept]
        if self._faults.reorder and self._random.random() < REORDERED:
            self._kept_back = message
            return []
        return [message]

    def rest(self) -> list[bytes]:
        """Return what was kept back, at the end."""
        kept, self._kept_back = self._kept_back, None
        return [] if kept is None else [kept]

    def delay_s(self) -> float:
        """Return how long the next message is held up."""
        return float(self._random.uniform(0.0, self._faults.jitter_s))

    def _corrupted(self, message: bytes) -> bytes:
        if not self._faults.corrupt:
            return message
        bad = bytearray(message)
        for k in np.flatnonzero(self._random.random(len(bad)) < self._faults.corrupt).tolist():
            bad[k] ^= 1 << int(self._random.integers(8))
        return bytes(bad)

    def _cut(self, message: bytes) -> bytes:
        if not self._faults.lose:
            return message
        come = np.flatnonzero(self._random.random(len(message)) >= self._faults.lose)
        return bytes(message[k] for k in come.tolist())
