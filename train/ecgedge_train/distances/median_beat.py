"""Distance between median beats: ECGs compared beat by beat, whatever the phase in which the window began.

Windows are cut anywhere in the heart cycle, so a distance sample by sample mostly tells how two windows happen to lie
to each other. Here each window becomes one median beat, aligned at the R peak, and its rhythm:

    d(a, b)^2 = |beat_a - beat_b|^2 + (W_MEAN * (RR_a - RR_b))^2 + (W_SD * (SD_a - SD_b))^2

with the median beats over the common leads, scaled to all (see `ecgedge_train.distances.l2`).

Detector, after Pan and Tompkins (IEEE Trans Biomed Eng 1985, 32(3):230) with what a window at rest allows: slope,
squared, summed over the leads (each scaled to its own steep part, so that one large lead does not decide), integrated
over 100 ms; peaks above a share of what the window's beats usually reach, at least a refractory period apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from ecgedge_train.distances.l2 import checked_presence, l2_matrix

RATE_HZ: Final = 250.0
BEFORE, AFTER = 75, 125
"""Samples of a beat before and from R on: -0.3 s to 0.5 s."""
BEAT_SAMPLES: Final = BEFORE + AFTER
MIN_BEATS: Final = 3
"""A median of fewer beats is as bad as its worst beat."""

W_MEAN_PER_S: Final = 20.0
"""0.1 s of RR counts like 2 mV sqrt(sample), about a quarter of what lies between two people's median beats."""
W_SD_PER_S: Final = 20.0

_SLOPE: Final = 2
"""Half the span of the slope, in samples: 16 ms, the flank of a QRS."""
_INTEGRATE: Final = 25
_REFRACTORY: Final = 60
"""240 ms: 250 beats a minute."""
_BLOCK: Final = 500
"""2 s hold at least one beat above 30 beats a minute."""
_THRESHOLD: Final = 0.4
_REACH: Final = 20
"""Half a QRS: where R is looked for around a peak of the integrated slope."""


@dataclass(frozen=True, eq=False)
class MedianBeats:
    """What is left of B windows.

    Attributes
    ----------
    beats_mv
        (B, L, BEAT_SAMPLES) float32; zeros where there are fewer than MIN_BEATS beats.
    rr_mean_s, rr_sd_s
        (B,) float32; zeros likewise.
    n_beats
        (B,) int64, whole beats in the window.
    """

    beats_mv: NDArray[np.float32]
    rr_mean_s: NDArray[np.float32]
    rr_sd_s: NDArray[np.float32]
    n_beats: NDArray[np.int64]


def r_peaks(
    windows: NDArray[np.float32], presence: NDArray[np.float32] | None = None
) -> list[NDArray[np.int64]]:
    """Return where the QRS complexes of each window are.

    Parameters
    ----------
    windows
        (B, L, T) mV at 250 Hz, through the front end.
    presence
        (B, L), 1 where a lead was measured; None: all were.

    Returns
    -------
    list of array
        Ascending sample numbers, one array a window: the centre of the QRS's steepness, which does not jump between
        R and S from beat to beat as the highest sample does.
    """
    energy = _steepness(windows, checked_presence(windows, presence))
    # A running sum, so the rounding of what has left the window stays behind: it may be below zero.
    integrated = np.maximum(uniform_filter1d(energy, _INTEGRATE, axis=1, mode="constant"), 0.0)
    rows = np.sqrt(integrated)
    return [_peaks(row, steep) for row, steep in zip(rows, energy, strict=True)]


def median_beats(windows: NDArray[np.float32], presence: NDArray[np.float32] | None = None) -> MedianBeats:
    """Return the median beat of each window, aligned at R, and its rhythm; parameters as `r_peaks`."""
    batch, leads, samples = windows.shape
    found = MedianBeats(
        np.zeros((batch, leads, BEAT_SAMPLES), np.float32),
        np.zeros(batch, np.float32),
        np.zeros(batch, np.float32),
        np.zeros(batch, np.int64),
    )
    for k, peaks in enumerate(r_peaks(windows, presence)):
        whole = peaks[(peaks >= BEFORE) & (peaks + AFTER <= samples)]
        found.n_beats[k] = len(whole)
        if len(whole) >= MIN_BEATS:
            at = whole[:, None] + np.arange(-BEFORE, AFTER)
            found.beats_mv[k] = np.median(windows[k][:, at], axis=1)
            rr_s = np.diff(peaks) / RATE_HZ
            found.rr_mean_s[k], found.rr_sd_s[k] = rr_s.mean(), rr_s.std()
    return found


def median_beat_matrix(
    windows: NDArray[np.float32], presence: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the distance of every pair by median beat and rhythm.

    A pair in which one window has fewer than MIN_BEATS beats (asystole, noise, a lead off) is compared by the whole
    windows, scaled to the length of a beat.

    Parameters
    ----------
    windows, presence
        As `r_peaks`.

    Returns
    -------
    (B, B) array
        float32, mV times the square root of samples; symmetric, zeros on the diagonal, never NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    measured = checked_presence(windows, presence)
    found = median_beats(windows, measured)
    shape = l2_matrix(found.beats_mv, measured)
    mean = W_MEAN_PER_S * (found.rr_mean_s[:, None] - found.rr_mean_s)
    spread = W_SD_PER_S * (found.rr_sd_s[:, None] - found.rr_sd_s)
    distances: NDArray[np.float32] = np.sqrt(shape**2 + mean**2 + spread**2)
    beating = found.n_beats >= MIN_BEATS
    if not beating.all():
        plain = l2_matrix(windows, measured) * np.float32((BEAT_SAMPLES / windows.shape[2]) ** 0.5)
        distances = np.where(beating[:, None] & beating, distances, plain)
    apart = measured @ measured.T == 0  # a rhythm is known, but a shape is not
    distances[apart] = distances[~apart].max(initial=0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def _steepness(windows: NDArray[np.float32], measured: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (B, T): squared slope over the leads, each as a multiple of its own usual peak."""
    slope = np.zeros_like(windows)
    inner = slice(_SLOPE, -_SLOPE)
    slope[..., inner] = windows[..., 2 * _SLOPE :] - windows[..., : -2 * _SLOPE]
    usual = _usual_peak(np.abs(slope))
    slope /= np.maximum(usual, 1e-3)[..., None]
    energy: NDArray[np.float32] = np.einsum("blt,bl->bt", np.square(slope, out=slope), measured)
    return energy


def _usual_peak(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (...,): the median over blocks of 2 s of the largest value; one artefact does not move it."""
    samples = rows.shape[-1]
    blocks = max(samples // _BLOCK, 1)
    length = samples // blocks
    peaks = rows[..., : blocks * length].reshape(*rows.shape[:-1], blocks, length).max(axis=-1)
    usual: NDArray[np.float32] = np.median(peaks, axis=-1).astype(np.float32)
    return usual


def _peaks(integrated: NDArray[np.float32], steep: NDArray[np.float32]) -> NDArray[np.int64]:
    level = float(_usual_peak(integrated))
    if level <= 0.0:
        return np.zeros(0, np.int64)
    tops, _ = find_peaks(integrated, height=_THRESHOLD * level, distance=_REFRACTORY)
    around = tops[:, None] + np.arange(-_REACH, _REACH + 1)
    weights = steep[np.clip(around, 0, len(steep) - 1)].astype(np.float64)
    centre = (weights * around).sum(axis=1) / weights.sum(axis=1)
    at: NDArray[np.int64] = np.clip(np.rint(centre), 0, len(steep) - 1).astype(np.int64)
    return at
