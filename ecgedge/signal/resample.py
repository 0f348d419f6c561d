"""Causal polyphase resampling with explicit state: the same bits however the stream is cut.

The ratio of the rates is a fraction L/M. In thought, L - 1 zeros are put after every input sample, a
low-pass FIR prototype h runs at L times the input rate, and every M-th value is kept. Only the taps that
meet an input sample are ever computed: output k is

    y[k] = sum over j of h[(k M mod L) + j L] * x[floor(k M / L) - j]        (k counts from 0)

so that output k is ready together with input sample floor(k M / L), and n inputs give ceil(n L / M)
outputs (Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3).

The sum runs tap by tap in a fixed order, one multiplication and one addition of whole arrays at a time.
A matrix product would be no faster here, and BLAS picks its order of summation by the array's size:
the same sample would get other bits in another chunk. Where L is 1 the one branch is the whole linear-phase prototype,
and its equal taps are multiplied once: h[j] (x[..-j] + x[..-(n - 1 - j)]).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STOP_DB = 65.0
"""Design attenuation; the 60 dB that are promised stay after each branch has been normalised."""

_MAX_UP = 5000
"""Largest L: rates in steps of 0.05 Hz are exact, any other is met within 0.02 %, the drift of poor clocks."""

_ZERO = 1e-15
"""Where the sinc crosses zero, rounding leaves 1e-17: of a half-band filter (500 to 250 Hz) nearly every second tap."""

_FEW = 300
"""Up to so many products per lead (outputs times taps), calls cost more than arithmetic (measured, 12 leads)."""


def rate_ratio(rate_in_hz: float, rate_out_hz: float) -> Fraction:
    """Return L/M, the output rate over the input rate, with L at most 5000."""
    inverse = Fraction(rate_in_hz) / Fraction(rate_out_hz)
    return 1 / inverse.limit_denominator(_MAX_UP)


@lru_cache(maxsize=32)
def polyphase_taps(
    ratio: Fraction, *, rate_in_hz: float, pass_hz: float, stop_hz: float
) -> NDArray[np.float64]:
    """Design the Kaiser-windowed prototype and split it into L branches.

    Parameters
    ----------
    ratio
        L/M.
    rate_in_hz
        Rate of the input.
    pass_hz, stop_hz
        Edges of the pass band and of the stop band (60 dB), both of the linear-phase prototype.

    Returns
    -------
    NDArray
        (L, n_taps) float64, read-only; `taps[p, j]` is h[p + j L]. Each row sums to 1: with unequal sums a
        constant input (an electrode offset of 300 mV) would come out as a tone at L/M's image frequencies.
    """
    up = ratio.numerator
    width = 2.0 * math.pi * (stop_hz - pass_hz) / (up * rate_in_hz)
    # Kaiser's estimate of the length (Oppenheim and Schafer, Discrete-Time Signal Processing, eq. 7.76).
    n_taps = math.ceil(((_STOP_DB - 7.95) / (2.285 * width) + 1.0) / up)
    length = n_taps * up
    t = np.arange(length) - (length - 1) / 2.0
    cutoff = (pass_hz + stop_hz) / (
        up * rate_in_hz
    )  # of the prototype's Nyquist rate, middle of the transition
    prototype = cutoff * np.sinc(cutoff * t) * np.kaiser(length, 0.1102 * (_STOP_DB - 8.7))
    taps = np.ascontiguousarray(prototype.reshape(n_taps, up).T)
    taps[np.abs(taps) < _ZERO] = 0.0
    taps /= taps.sum(axis=1, keepdims=True)
    taps.setflags(write=False)
    return taps


class Resampler:
    """Bring `n_leads` rows from one rate to another; state is the last inputs and a phase.

    Parameters
    ----------
    n_leads
        Rows; they are independent, so the leads of many beds may be stacked.
    rate_in_hz, rate_out_hz
        Rates. Where they are equal, samples pass unchanged.
    pass_hz
        Everything up to here passes unharmed; images and aliases fold to above it.
    history, phase
        Where to go on, see below; the beginning of a stream by default.

    Attributes
    ----------
    history
        (n_leads, n_taps - 1) float64, the last inputs; changed in place.
    phase
        How many inputs ago, modulo M, the stream began: all else that there is to know of the past.
    taps, pairs
        (L, n_taps), the branches; and which of the first half of the first are not 0.
    """

    def __init__(
        self,
        *,
        n_leads: int,
        rate_in_hz: float,
        rate_out_hz: float,
        pass_hz: float,
        history: NDArray[np.float64] | None = None,
        phase: int = 0,
    ) -> None:
        self.ratio = rate_ratio(rate_in_hz, rate_out_hz)
        self.taps = np.ones((1, 1))
        if self.ratio != 1:
            stop_hz = min(rate_in_hz, rate_out_hz) - pass_hz
            self.taps = polyphase_taps(self.ratio, rate_in_hz=rate_in_hz, pass_hz=pass_hz, stop_hz=stop_hz)
        self.pairs = np.flatnonzero(self.taps[0, : self.taps.shape[1] // 2])
        self.delay_s = (self.taps.size - 1) / (2.0 * self.ratio.numerator * rate_in_hz)
        self.history = np.zeros((n_leads, self.taps.shape[1] - 1)) if history is None else history
        self.phase = phase

    def n_outputs(self, n_inputs: int) -> int:
        """Return how many outputs the next `n_inputs` samples will give."""
        return self._outputs_until(self.phase + n_inputs) - self._outputs_until(self.phase)

    def restart(self, leads: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
        """Take `values` (one per chosen lead) as the whole past of these leads: the steady state."""
        self.history[leads] = values[:, None]

    def push(self, samples: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Resample a chunk.

        Parameters
        ----------
        samples
            (n_leads, n) float32 or float64, finite.

        Returns
        -------
        outputs
            (n_leads, m) float64, contiguous; never the caller's array.
        newest
            (m,) int64: for each output, the column of `samples` that it became ready with.
        """
        newest, phase = self.advance(samples.shape[1])
        if self.ratio == 1:
            return samples.astype(np.float64), newest
        if self.ratio.numerator == 1 and newest.size * self.taps.shape[1] > _FEW:
            outputs = self._decimate(samples, int(newest[0]), newest.size)
            self._remember(samples)
            return outputs, newest
        buffer = np.concatenate([self.history, samples], axis=1, dtype=np.float64)
        self._remember(samples)
        if newest.size == 0:
            return np.empty((samples.shape[0], 0)), newest
        columns = newest + self.history.shape[1]
        if newest.size * self.taps.shape[1] > _FEW:
            return self._interpolate(buffer, columns, phase), newest
        return self._few(buffer, columns, phase), newest

    def _remember(self, samples: NDArray[np.floating[Any]]) -> None:
        n, n_history = samples.shape[1], self.history.shape[1]
        if n < n_history:
            self.history[:, : n_history - n] = self.history[:, n:].copy()
        self.history[:, max(0, n_history - n) :] = samples[:, max(0, n - n_history) :]

    def _outputs_until(self, n_inputs: int) -> int:
        return -(-n_inputs * self.ratio.numerator // self.ratio.denominator)

    def advance(self, n_inputs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Move on by so many samples; return of each output that they make ready the column and the branch, (m,)."""
        outputs = np.arange(self._outputs_until(self.phase), self._outputs_until(self.phase + n_inputs))
        newest, phase = np.divmod(outputs * self.ratio.denominator, self.ratio.numerator)
        newest -= self.phase
        self.phase = (self.phase + n_inputs) % self.ratio.denominator
        return newest, phase

    def _few(
        self, buffer: NDArray[np.float64], columns: NDArray[np.int64], phase: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Filter a short chunk in few calls. `accumulate`, unlike `sum`, adds strictly in order: same bits."""
        taps = self.taps.T[:, phase]
        n = len(taps)
        terms = np.take(buffer, columns - np.arange(n)[:, None], axis=1)
        if self.ratio.numerator == 1:
            half = n // 2
            terms[:, :half] += terms[:, : n - half - 1 : -1]
            terms, taps = terms[:, : n - half], taps[: n - half]
        terms *= taps
        np.add.accumulate(terms, axis=1, out=terms)
        return np.ascontiguousarray(terms[:, -1])

    def _decimate(self, samples: NDArray[np.floating[Any]], first: int, n: int) -> NDArray[np.float64]:
        """Filter for L = 1: one branch, outputs M columns apart, so slices of every M-th column do.

        Calls see the rows as one line, which is three times as fast; what they compute across the end of a row is left.
        """
        step, n_rows, n_history = self.ratio.denominator, len(samples), self.history.shape[1]
        width = -(-(n_history + samples.shape[1]) // step)
        every = np.empty((step, n_rows, width))
        every[:, :, -1] = 0.0  # where there are no samples for it
        for start, columns in enumerate(every):
            n_past = -(-(n_history - start) // step)
            fresh = samples[:, (start - n_history) % step :: step]
            columns[:, :n_past] = self.history[:, start::step]
            columns[:, n_past : n_past + fresh.shape[1]] = fresh
        lines = every.reshape(step, -1)
        length = (n_rows - 1) * width + n

        def inputs(tap: int) -> NDArray[np.float64]:
            column, start = divmod(first + n_history - tap, step)
            line: NDArray[np.float64] = lines[start, column : column + length]
            return line

        taps = self.taps[0].tolist()
        last, half = len(taps) - 1, len(taps) // 2
        padded = np.empty((n_rows, width))
        total, term = padded.reshape(-1)[:length], np.empty(length)
        out = total
        for j in self.pairs.tolist():
            np.multiply(np.add(inputs(j), inputs(last - j), out=out), taps[j], out=out)
            if out is term:
                np.add(total, term, out=total)
            out = term
        if len(taps) % 2:
            np.add(total, np.multiply(inputs(half), taps[half], out=term), out=total)
        return np.ascontiguousarray(padded[:, :n])

    def _interpolate(
        self, buffer: NDArray[np.float64], columns: NDArray[np.int64], phase: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Filter for any L: gather, per tap, the input and the coefficient of every output."""
        weights = self.taps.T[:, phase]
        total = np.take(buffer, columns, axis=1)
        total *= weights[0]
        term = np.empty_like(total)
        for j in range(1, len(weights)):
            np.take(buffer, columns - j, axis=1, out=term, mode="clip")
            np.multiply(term, weights[j], out=term)
            np.add(total, term, out=total)
        return total
