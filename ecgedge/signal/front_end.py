"""The one front end between electrodes and model; datasets and beds run this same object.

Order of the stages, and why:

1. Resample to `spec.rate_hz` with a causal polyphase FIR that passes everything up to `spec.lowpass_hz`.
2. All recursive filters at that one rate, as one cascade of second-order sections: high-pass (Butterworth,
   order 2), a notch per mains frequency (Q 30), low-pass (Butterworth, order 4).
3. Clip to +-`spec.clip_mv`, round half to even to int16 counts of `spec.lsb_mv`.

Because the recursive filters always run at one rate, their coefficients and states are the same for every
source: a 100 Hz archive and a 500 Hz monitor differ only in the FIR, which is flat where the ECG is. Both
mains notches are always on; they lie above the pass band, so there is nothing to configure wrong. It is also
the cheaper order. Hum close to half the source's rate leaves its image beside the notches (60 Hz at 128 Hz:
68 Hz); the low-pass brings that to -35 dB.

Counts are a power of two of a millivolt, hence exact in float32, and a dataset on disk holds what the bed
computes, bit for bit.

Filters start in the steady state of a lead's first sample (`scipy.signal.sosfilt_zi`): an electrode offset
makes no step. What remains of the start is marked SETTLING. Gaps: see `ecgedge.signal.gaps`.

Bits are the same for any chunking on one machine. Between machines, compilers may contract a multiplication
and an addition into one rounding, so a count may differ by one where the value lies on the edge.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording, check_rate
from ecgedge.errors import RecordError
from ecgedge.signal.gaps import GapHolder, Held
from ecgedge.signal.groups import groups
from ecgedge.signal.resample import Resampler
from ecgedge.signal.sections import design
from ecgedge.signal.stretch import COMPILED, to_counts

_BLOCK = 8192
"""Input samples worked on at once: an hour stays in the cache, and in bounded memory."""

_ROWS = 96
"""Leads worked on at once by `push_together`: more would leave the cache (measured, a second at 500 Hz)."""

_COMPILED_ROWS = 192
"""The same in compiled loops, which keep nothing but a block of samples."""


class Conditioned(NamedTuple):
    """Conditioned samples at `spec.rate_hz`.

    Attributes
    ----------
    counts
        (n_leads, m) int16, in units of `spec.lsb_mv`.
    status
        (n_leads, m) uint8: MEASURED, SETTLING (within `spec.settle_s` after the lead's first sample or its
        return), MISSING (the newest input sample was not measured).
    whole
        Says that every status is MEASURED; where it is False, nobody has looked.
    """

    counts: NDArray[np.int16]
    status: NDArray[np.uint8]
    whole: bool = False


@dataclass(frozen=True, eq=False)
class FrontEndState:
    """A front end between two chunks.

    Attributes
    ----------
    phase
        Of the resampler.
    rows
        Arrays with one row a lead, in an order of their own.
    """

    phase: int
    rows: tuple[NDArray[Any], ...]


def check_spec(spec: FrontEndSpec) -> None:
    """Raise ValueError unless filters can be made from `spec`."""
    if not 0.0 < spec.highpass_hz < spec.lowpass_hz:
        raise ValueError(
            f"highpass_hz {spec.highpass_hz:g} must lie between 0 and lowpass_hz {spec.lowpass_hz:g}"
        )
    highest_hz = max(spec.lowpass_hz, *spec.notch_hz) if spec.notch_hz else spec.lowpass_hz
    if highest_hz >= spec.rate_hz / 2.0:
        raise ValueError(
            f"a filter at {highest_hz:g} Hz cannot run at rate_hz {spec.rate_hz:g}; it needs more than twice"
        )
    if not 0.0 < spec.clip_mv <= 32767 * spec.lsb_mv:
        raise ValueError(f"clip_mv {spec.clip_mv:g} does not fit int16 counts of lsb_mv {spec.lsb_mv:g}")


@lru_cache(maxsize=8)
def filter_cascade(spec: FrontEndSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Design the recursive filters.

    Returns
    -------
    sections
        (n_sections, 6) second-order sections at `spec.rate_hz`, high-pass first: it takes the offset away
        before the others see it.
    steady
        (n_sections, 2) state after an endless input of 1.
    """
    check_spec(spec)
    return design(spec)


def counts_to_mv(counts: NDArray[np.int16], spec: FrontEndSpec) -> NDArray[np.float32]:
    """Turn counts of any shape into float32 millivolts; exact, as `spec.lsb_mv` is a power of two."""
    millivolts: NDArray[np.float32] = counts.astype(np.float32) * np.float32(spec.lsb_mv)
    return millivolts


def condition(recording: Recording, spec: FrontEndSpec) -> Conditioned:
    """Condition a whole recording; equal to pushing it through a FrontEnd in any chunks.

    Raises
    ------
    RecordError
        If the recording's rate cannot be used.
    """
    front_end = FrontEnd(spec, n_leads=len(recording.leads), rate_hz=recording.rate_hz)
    return front_end.push(recording.samples_mv)


def _join(parts: list[Conditioned]) -> Conditioned:
    if len(parts) == 1:
        return parts[0]
    return Conditioned(
        np.concatenate([part.counts for part in parts], axis=1),
        np.concatenate([part.status for part in parts], axis=1),
        all(part.whole for part in parts),
    )


def push_together(
    front_ends: Sequence[FrontEnd], chunks_mv: Sequence[NDArray[np.float32]]
) -> list[Conditioned]:
    """Push one chunk into each of several front ends: the same bits as one by one, in fewer calls.

    Parameters
    ----------
    front_ends
        Of one `kind`, each once; their numbers of leads may differ.
    chunks_mv
        One for each, of one length.

    Raises
    ------
    RecordError
        As `FrontEnd.push`; then none has taken its chunk.
    """
    for front_end, chunk in zip(front_ends, chunks_mv, strict=True):
        front_end.check(chunk)
    answers: list[Conditioned] = []
    for some in groups([f.n_leads for f in front_ends], _ROWS if COMPILED.loops is None else _COMPILED_ROWS):
        answers += _push_joined(front_ends[some], chunks_mv[some])
    return answers


def _push_joined(
    front_ends: Sequence[FrontEnd], chunks_mv: Sequence[NDArray[np.float32]]
) -> list[Conditioned]:
    if len(front_ends) == 1:
        return [front_ends[0].push(chunks_mv[0])]
    joined = _side_by_side(front_ends)
    conditioned = joined.push(np.concatenate(chunks_mv))
    phase, start = joined.state.phase, 0
    answers: list[Conditioned] = []
    for front_end in front_ends:
        own = slice(start, start + front_end.n_leads)
        front_end.skip(phase)
        status = conditioned.status[own]
        # One that is not whole leaves the others what they are.
        answers.append(Conditioned(conditioned.counts[own], status, conditioned.whole or not status.any()))
        start = own.stop
    return answers


def _side_by_side(front_ends: Sequence[FrontEnd]) -> FrontEnd:
    """Return the one front end of all their leads; it and they share their states, until they are joined otherwise."""
    joined = front_ends[0].joined
    if joined is None or joined.n_leads != sum(f.n_leads for f in front_ends):
        return _move_together(front_ends)
    start = 0
    for front_end in front_ends:
        if front_end.joined is not joined or front_end.first_row != start:
            return _move_together(front_ends)
        start += front_end.n_leads
    joined.skip(front_ends[0].state.phase)
    return joined


def _move_together(front_ends: Sequence[FrontEnd]) -> FrontEnd:
    states = [front_end.state for front_end in front_ends]
    rows = tuple(np.concatenate(parts) for parts in zip(*(state.rows for state in states), strict=True))
    joined = front_ends[0].beside(FrontEndState(states[0].phase, rows))
    start = 0
    for front_end in front_ends:
        front_end.share(joined, start)
        start += front_end.n_leads
    return joined


class FrontEnd:
    """Streaming front end. One per stream; to start anew, build a new one (designs are cached).

    Parameters
    ----------
    spec
        What to do; stands in the bundle's manifest.
    n_leads
        Rows of every chunk; they are independent.
    rate_hz
        Rate of the samples to come.
    state
        Where to go on; its arrays are taken over. The beginning of a stream by default.

    Attributes
    ----------
    joined, first_row
        The front end beside others, and where in it, that shares this one's state; see `push_together`.

    Raises
    ------
    RecordError
        If `rate_hz` is not usable.
    ValueError
        If no filter can be made from `spec`, or `n_leads` is not positive.
    """

    def __init__(
        self, spec: FrontEndSpec, *, n_leads: int, rate_hz: float, state: FrontEndState | None = None
    ) -> None:
        check_rate(rate_hz, source="front end")
        if n_leads < 1:
            raise ValueError(f"n_leads is {n_leads}; a stream has at least one lead")
        self._sections, self._steady = filter_cascade(spec)
        if rate_hz <= 2.0 * spec.lowpass_hz:
            raise RecordError(
                f"front end: a sampling rate of {rate_hz:g} Hz does not carry lowpass_hz {spec.lowpass_hz:g}; "
                "it needs more than twice that"
            )
        self._spec = spec
        self.n_leads = n_leads
        self._rate_hz = rate_hz
        self.joined: FrontEnd | None = None
        self.first_row = 0
        self._begin(state)

    def _begin(self, state: FrontEndState | None) -> None:
        n_leads, rate_hz, spec = self.n_leads, self._rate_hz, self._spec
        held: Sequence[NDArray[Any]] = ()
        phase, history, cascade = 0, None, np.zeros((n_leads, len(self._sections), 2))
        if state is not None:
            phase, (*held, history, cascade) = state.phase, state.rows
        self._holder = GapHolder(n_leads=n_leads, rate_hz=rate_hz, settle_s=spec.settle_s, rows=held)
        self._resampler = Resampler(
            n_leads=n_leads,
            rate_in_hz=rate_hz,
            rate_out_hz=spec.rate_hz,
            pass_hz=spec.lowpass_hz,
            history=history,
            phase=phase,
        )
        self._cascade = cascade

    @property
    def state(self) -> FrontEndState:
        """All that it knows of the past; the arrays themselves, not copies."""
        rows = *self._holder.rows, self._resampler.history, self._cascade
        return FrontEndState(self._resampler.phase, rows)

    @property
    def kind(self) -> Hashable:
        """Front ends of one kind can be pushed together."""
        # The specification by its place: its hash costs more than all that beds with equal ones could share.
        return id(self._spec), self._rate_hz, self._resampler.phase

    def beside(self, state: FrontEndState) -> FrontEnd:
        """Return a front end of the same kind that goes on from another state."""
        n_leads = len(state.rows[0])
        return FrontEnd(self._spec, n_leads=n_leads, rate_hz=self._rate_hz, state=state)

    def share(self, joined: FrontEnd, first_row: int) -> None:
        """Let rows of another front end, which hold the same, be the state from now on."""
        own = slice(first_row, first_row + self.n_leads)
        self._begin(FrontEndState(self._resampler.phase, tuple(row[own] for row in joined.state.rows)))
        self.joined, self.first_row = joined, first_row

    def skip(self, phase: int) -> None:
        """Take that all rows of the state have been moved on by someone else, to this phase."""
        self._resampler.phase = phase

    @property
    def delay_s(self) -> float:
        """Delay of the resampling FIR, the same at all frequencies; 0 where the source has `spec.rate_hz`.

        The recursive filters add their own, which is the same for every source.
        """
        return self._resampler.delay_s

    def push(self, samples_mv: NDArray[np.float32]) -> Conditioned:
        """Condition a chunk of any length.

        Parameters
        ----------
        samples_mv
            (n_leads, n) float32 millivolts; NaN where not measured. Infinities and potentials beyond
            `ecgedge.ecg.MAX_ABS_MV` count as not measured.

        Returns
        -------
        Conditioned
            The m samples that became ready; m may be 0.

        Raises
        ------
        RecordError
            On another shape or type.
        """
        self.check(samples_mv)
        n = samples_mv.shape[1]
        if n == 0:
            return Conditioned(np.empty(samples_mv.shape, np.int16), np.empty(samples_mv.shape, np.uint8))
        return _join([self._push_block(samples_mv[:, i : i + _BLOCK]) for i in range(0, n, _BLOCK)])

    def check(self, samples_mv: NDArray[np.float32]) -> None:
        """Raise RecordError unless `push` would take this chunk."""
        if samples_mv.ndim != 2 or samples_mv.shape[0] != self.n_leads:
            raise RecordError(
                f"front end: a chunk of shape {samples_mv.shape} was pushed; expected ({self.n_leads}, n samples)"
            )
        if samples_mv.dtype != np.float32:
            raise RecordError(
                f"front end: a chunk of {samples_mv.dtype} was pushed; expected float32 millivolts"
            )

    def _push_block(self, samples_mv: NDArray[np.float32]) -> Conditioned:
        """Cut where leads restart, and restart them between the pieces; chunking is harmless, so are cuts."""
        held = self._holder.push(samples_mv)
        parts: list[Conditioned] = []
        start = 0
        for column, leads in held.restarts:
            parts.append(self._filter(held, slice(start, column)))
            self._restart(leads, held.samples_mv[leads, column].astype(np.float64))
            start = column
        parts.append(self._filter(held, slice(start, None)))
        return _join(parts)

    def _restart(self, leads: NDArray[np.bool_], values_mv: NDArray[np.float64]) -> None:
        self._resampler.restart(leads, values_mv)
        self._cascade[leads] = self._steady * values_mv[:, None, None]

    def _filter(self, held: Held, piece: slice) -> Conditioned:
        samples_mv = held.samples_mv[:, piece]
        counts, newest = to_counts(self._resampler, self._cascade, samples_mv, self._spec, self._sections)
        if held.status is None:
            return Conditioned(counts, np.zeros(counts.shape, np.uint8), whole=True)
        return Conditioned(counts, np.take(held.status[:, piece], newest, axis=1))
