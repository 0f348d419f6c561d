"""The front end for whole recordings in one compiled pass: the same counts as `ecgedge.signal.condition`.

A stream needs state and must take gaps; an archive of plain ten-second records needs neither, and there the
interpreter's rounds of whole-array calls are most of the cost. This is the same arithmetic in the same order,
sample by sample, with the leads side by side so that the processor works on several at once:

    y[t] = taps[p, 0] x[t] + taps[p, 1] x[t - 1] + ...        polyphase FIR, `ecgedge.signal.resample`;
                                                              where it only decimates, equal taps once
    out  = b0 in + z1;  z1 = b1 in - a1 out + z2;  z2 = b2 in - a2 out      each section, as scipy's sosfilt
    count = rint(clip(out) / lsb)

No product is fused with a sum, so the bits are those of `condition`. Whether that holds on this machine (a
compiler of scipy may have fused) is tried once per process on a signal of noise, in float64, before the first
count is handed out; where it does not hold, or a sample is missing, `condition` does the work.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.signal import sosfilt

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import MAX_ABS_MV, Recording
from ecgedge.signal import condition
from ecgedge.signal.front_end import filter_cascade
from ecgedge.signal.resample import Resampler, polyphase_taps, rate_ratio


def quick_counts(recording: Recording, spec: FrontEndSpec) -> NDArray[np.int16]:
    """Return what `condition(recording, spec).counts` returns, sooner.

    Parameters
    ----------
    recording
        (n_leads, n_samples) float32 millivolts; with NaN in it, `condition` is called.
    spec
        The front end.

    Returns
    -------
    NDArray
        (n_leads, m) int16.

    Raises
    ------
    RecordError
        If the recording's rate cannot be used.
    """
    if recording.rate_hz <= 2.0 * spec.lowpass_hz or not _same_bits(spec):
        return condition(recording, spec).counts
    samples = np.ascontiguousarray(recording.samples_mv.T)
    if not _measured(samples):
        return condition(recording, spec).counts
    filtered = _filtered_mv(samples, recording.rate_hz, spec)
    counts = np.empty(filtered.T.shape, np.int16)
    _round(filtered, spec.clip_mv, spec.lsb_mv, counts)
    return counts


def _filtered_mv(samples: NDArray[np.float32], rate_hz: float, spec: FrontEndSpec) -> NDArray[np.float64]:
    """Resample and filter (n, leads) into (m, leads)."""
    taps, up, down = _resampling(rate_hz, spec)
    filtered = np.empty((-(-samples.shape[0] * up // down), samples.shape[1]))
    if up == 1 and down > 1:
        _decimate(samples, taps[0], down, filtered)
    else:
        _resample(samples, taps, up, down, filtered)
    sections, steady = filter_cascade(spec)
    state = steady[:, :, None] * samples[0].astype(np.float64)
    _cascade(sections, state[:, 0].copy(), state[:, 1].copy(), filtered)
    return filtered


@lru_cache(maxsize=32)
def _resampling(rate_hz: float, spec: FrontEndSpec) -> tuple[NDArray[np.float64], int, int]:
    ratio = rate_ratio(rate_hz, spec.rate_hz)
    if ratio == 1:
        return np.ones((1, 1)), 1, 1
    stop_hz = min(rate_hz, spec.rate_hz) - spec.lowpass_hz
    taps = polyphase_taps(ratio, rate_in_hz=rate_hz, pass_hz=spec.lowpass_hz, stop_hz=stop_hz)
    return taps.copy(), ratio.numerator, ratio.denominator


@lru_cache(maxsize=8)
def _same_bits(spec: FrontEndSpec) -> bool:
    """Compare with the streaming parts on 2 s of noise at 500 and 360 Hz, in float64: one wrong bit shows."""
    noise = np.random.default_rng(0).normal(0.0, 1.0, (1000, 3)).astype(np.float32)
    sections, steady = filter_cascade(spec)
    for rate_hz in (500.0, 360.0):
        first = noise[0].astype(np.float64)
        resampler = Resampler(
            n_leads=3, rate_in_hz=rate_hz, rate_out_hz=spec.rate_hz, pass_hz=spec.lowpass_hz
        )
        resampler.restart(np.ones(3, np.bool_), first)
        resampled, _ = resampler.push(noise.T.astype(np.float64))
        theirs, _ = sosfilt(sections, resampled, axis=-1, zi=steady[:, None, :] * first[None, :, None])
        if not np.array_equal(_filtered_mv(noise, rate_hz, spec).T, theirs):
            return False
    return True


@njit(cache=False, nogil=True)
def _measured(samples: NDArray[np.float32]) -> bool:
    """Say whether every sample is a number that an electrode can give (n, leads)."""
    for t in range(samples.shape[0]):
        for lead in range(samples.shape[1]):
            if not abs(samples[t, lead]) <= MAX_ABS_MV:
                return False
    return True


@njit(cache=False, nogil=True)
def _resample(
    samples: NDArray[np.float32], taps: NDArray[np.float64], up: int, down: int, out: NDArray[np.float64]
) -> None:
    """Resample (n, leads) into (m, leads); before the first sample lies the steady state of the first."""
    n_leads = samples.shape[1]
    for k in range(out.shape[0]):
        newest, phase = k * down // up, k * down % up
        for lead in range(n_leads):
            out[k, lead] = np.float64(samples[newest, lead]) * taps[phase, 0]
        for j in range(1, taps.shape[1]):
            row = max(newest - j, 0)
            for lead in range(n_leads):
                out[k, lead] += np.float64(samples[row, lead]) * taps[phase, j]


@njit(cache=False, nogil=True)
def _decimate(
    samples: NDArray[np.float32], taps: NDArray[np.float64], down: int, out: NDArray[np.float64]
) -> None:
    """Do what `_resample` does where there is one branch: equal taps, from the ends inwards, are multiplied once."""
    n_leads, last, half = samples.shape[1], len(taps) - 1, len(taps) // 2
    out[:] = 0.0
    for k in range(out.shape[0]):
        newest = k * down
        for j in range(half):
            if taps[j] != 0.0:
                near, far = max(newest - j, 0), max(newest - last + j, 0)
                for lead in range(n_leads):
                    pair = np.float64(samples[near, lead]) + np.float64(samples[far, lead])
                    out[k, lead] += pair * taps[j]
        if len(taps) % 2:
            middle = max(newest - half, 0)
            for lead in range(n_leads):
                out[k, lead] += np.float64(samples[middle, lead]) * taps[half]


@njit(cache=False, nogil=True)
def _cascade(
    sections: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Filter (m, leads) in place; the two states of a section are (n_sections, leads)."""
    for k in range(out.shape[0]):
        for s in range(sections.shape[0]):
            b0, b1, b2 = sections[s, 0], sections[s, 1], sections[s, 2]
            a1, a2 = sections[s, 4], sections[s, 5]
            for lead in range(out.shape[1]):
                x = out[k, lead]
                y = b0 * x + first[s, lead]
                first[s, lead] = b1 * x - a1 * y + second[s, lead]
                second[s, lead] = b2 * x - a2 * y
                out[k, lead] = y


@njit(cache=False, nogil=True)
def _round(filtered: NDArray[np.float64], clip_mv: float, lsb_mv: float, counts: NDArray[np.int16]) -> None:
    for k in range(filtered.shape[0]):
        for lead in range(filtered.shape[1]):
            value = min(max(filtered[k, lead], -clip_mv), clip_mv)
            counts[lead, k] = np.int16(np.rint(value / lsb_mv))
