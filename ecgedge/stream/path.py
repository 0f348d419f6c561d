"""The way of the signal through a bed, from one restart to the next: conditioned, cut into windows, judged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import (
    MISSING,
    TENTHS,
    Assess,
    Conditioned,
    FrontEnd,
    FrontEndState,
    MeasureRaw,
    Meter,
    RawTrack,
    Window,
    Windower,
    WindowerState,
)
from ecgedge.stream.variants import Lengths
from ecgedge.stream.work import Condition


@dataclass(frozen=True, eq=False)
class PathState:
    """A path between two chunks.

    Attributes
    ----------
    n_in, n_out
        Samples taken, and conditioned.
    next_end
        Where the next window ends.
    phase
        The resampler's.
    arrays
        Rows of the front end's state, counts and status of the newest samples, and what is known of raw samples.
    """

    n_in: int
    n_out: int
    next_end: int
    phase: int
    arrays: tuple[NDArray[Any], ...]


class SignalPath:
    """Front end, windows, and what their quality is judged by, of one stretch of a stream.

    Parameters
    ----------
    leads, rate_hz
        Of the samples.
    spec
        Of the front end.
    lengths
        Of the windows.
    state
        Where to go on; the beginning by default.

    Attributes
    ----------
    n_in, n_out
        Samples per lead that were taken, and that were conditioned.
    windower
        Holds the newest conditioned samples.
    """

    __slots__ = (
        "_front_end",
        "_meter",
        "_raw",
        "_spec",
        "n_in",
        "n_out",
        "windower",
    )

    def __init__(
        self,
        leads: Sequence[str],
        *,
        rate_hz: float,
        spec: FrontEndSpec,
        lengths: Lengths,
        state: PathState | None = None,
    ) -> None:
        self._spec, n_leads = spec, len(leads)
        self.n_in = self.n_out = 0
        front_end = windows = raw = None
        if state is not None:
            self.n_in, self.n_out = state.n_in, state.n_out
            *rows, counts, status, raw = state.arrays
            front_end = FrontEndState(state.phase, tuple(rows))
            windows = WindowerState(state.n_out, state.next_end, counts, status)
        window, hop = lengths["window_samples"], lengths["hop_samples"]
        self._front_end = FrontEnd(spec, n_leads=n_leads, rate_hz=rate_hz, state=front_end)
        self.windower = Windower(n_leads=n_leads, **lengths, state=windows)
        self._meter = Meter(n_leads=n_leads, window_samples=window, hop_samples=hop, leads=leads)
        self._raw: RawTrack | None = None
        with suppress(ValueError):  # windows may be too short for hum and muscle noise to be told
            self._raw = RawTrack(
                n_leads=n_leads,
                rate_in_hz=rate_hz,
                rate_out_hz=spec.rate_hz,
                tenth_samples=window // TENTHS,
                state=raw,
                n_in=self.n_in,
            )

    @property
    def state(self) -> PathState:
        """All that it remembers; the arrays are views."""
        front_end, windows = self._front_end.state, self.windower.state
        raw = np.zeros((0, 0), np.float32) if self._raw is None else self._raw.state
        arrays = *front_end.rows, windows.counts, windows.status, raw
        return PathState(self.n_in, self.n_out, windows.next_end, front_end.phase, arrays)

    def condition(self, samples_mv: NDArray[np.float32]) -> Condition:
        """Return what asks for a chunk to be conditioned; `take` what comes of it."""
        return Condition(self._front_end, samples_mv)

    def take(self, samples_mv: NDArray[np.float32], conditioned: Conditioned) -> MeasureRaw | None:
        """Take a conditioned chunk; return what asks for the raw samples to be measured that it makes whole, if any."""
        self.n_in += samples_mv.shape[1]
        self.n_out += conditioned.counts.shape[1]
        raw = self._raw
        if raw is None or not (blocks := raw.push(samples_mv, clean=conditioned.whole)):
            return None
        return MeasureRaw(raw.spec, blocks)

    def take_raw(self, measured: NDArray[np.float32]) -> None:
        """Take what was measured for what `take` asked."""
        if self._raw is not None:
            self._raw.take(measured)

    def assess(self, window: Window) -> Assess:
        """Return what asks for the quality of the windower's newest window."""
        raw = None if self._raw is None else self._raw.window(window.end_index)
        return Assess(self._meter, window, self._spec, raw)


@dataclass(frozen=True)
class LeadChange:
    """A lead is on or off from this sample of the stretch on."""

    index: int
    lead: str
    on: bool


def lead_changes(
    leads: Sequence[str], off: Collection[str], conditioned: Conditioned, first: int
) -> list[LeadChange]:
    """Return one for every lead that falls off or returns, at the sample where it does, in order.

    `off` are the leads that were off before sample `first`, with which `conditioned` begins.
    """
    if not off and conditioned.whole:
        return []
    missing = conditioned.status == MISSING
    before = np.empty_like(missing)
    before[:, :1] = np.array([lead in off for lead in leads])[:, None]
    before[:, 1:] = missing[:, :-1]
    at, rows = np.nonzero((missing != before).T)  # by sample, leads in their order
    return [
        LeadChange(first + k, leads[row], on=not missing[row, k])
        for k, row in zip(at.tolist(), rows.tolist(), strict=True)
    ]
