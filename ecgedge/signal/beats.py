"""Do two QRS detectors that fail differently find the same beats? bSQI, causal and cheap enough for every lead.

Li, Mark and Clifford, Physiol. Meas. 29 (2008) 15, section 2.2: of the beats that either of two detectors finds, the
share that both find within 150 ms. There the detectors are those of Pan and Tompkins (energy of the slope) and of Zong
(length of the curve). Ours are their cores on conditioned samples, in frames of about 40 ms:

- slope: the energy of the difference over 32 ms, which is centred on 15 Hz as a QRS complex is;
- bend: the amounts of the second difference over 16 ms, summed: shorter, steeper, and linear where the other squares.

Either is summed over three frames; a beat is a frame that is the largest within five to both sides, and above a
share of the third largest of the seconds' maxima (two artefacts in ten seconds move no threshold, and one beat in
three seconds is enough). On an ECG both see QRS complexes. Noise has no frame that stands out, and the two choose
others; so agreement tells of noise that comes and goes, too. It knows nothing of clipping: clipped beats agree.

All of a window's result follows from the window's samples, in a fixed order of operations on each row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

LEAD_IN = 8
"""Samples before a block that its first frame needs: the longest difference."""

SLOPE_SHARE = 0.35
BEND_SHARE = 0.6
"""A beat's height, of the typical largest: chosen on half of the patients of PTB-XL and LUDB (docs/quality.md)."""

_STEP = 2
"""Every other sample is enough: nothing above 40 Hz is left in them."""
_SLOPE_LAG = 4
_SUMMED = 3
_APART = 5
_TOLERANCE = 3
_TYPICAL = 3


@dataclass(frozen=True, eq=False)
class BeatEnergies:
    """What is kept of a block, or of a window: (frames, rows) float32 each, so that blocks follow one another."""

    slope: F32
    bend: F32


def frame_length(block_samples: int) -> int | None:
    """Return the samples of a frame, of which blocks are made: 10 or 8 at 250 Hz. None: they do not divide it."""
    return next((length for length in (10, 8) if block_samples % length == 0), None)


def beat_energies(counts: NDArray[np.int16], *, frame_samples: int) -> BeatEnergies:
    """Measure both detectors' energies in every frame of a block.

    Parameters
    ----------
    counts
        (rows, LEAD_IN + n) int16: the block and the samples before it (zeros before the beginning).
    frame_samples
        Even; n is a multiple of it.
    """
    samples = counts[:, ::_STEP].astype(np.float32)
    start, n = LEAD_IN // _STEP, samples.shape[1] - LEAD_IN // _STEP
    slope = samples[:, start:] - samples[:, start - _SLOPE_LAG : start - _SLOPE_LAG + n]
    np.square(slope, out=slope)
    bend = samples[:, start - 1 : start - 1 + n] * np.float32(-2.0)
    bend += samples[:, start:]
    bend += samples[:, start - 2 : start - 2 + n]
    np.abs(bend, out=bend)
    length = frame_samples // _STEP
    return BeatEnergies(_framed(slope, length), _framed(bend, length))


def window_energies(counts: NDArray[np.int16], *, frame_samples: int) -> BeatEnergies:
    """Measure a whole window, (rows, n): what its blocks give, but for the first frame, which nothing looks at."""
    padded = np.concatenate([np.zeros((len(counts), LEAD_IN), np.int16), counts], axis=1)
    return beat_energies(padded, frame_samples=frame_samples)


def find_beats(energy: F32, *, share: float, second_frames: int) -> NDArray[np.bool_]:
    """Return the frames of a window in which a beat peaks, (frames, rows).

    Parameters
    ----------
    energy
        (frames, rows) of one detector; at least three seconds.
    share
        Of the typical largest that a beat must reach.
    second_frames
        Frames in about a second.
    """
    summed = energy[_SUMMED - 1 :].copy()
    for back in range(1, _SUMMED):
        summed += energy[_SUMMED - 1 - back : len(energy) - back]
    summed[0] = 0.0  # the window's first frame, which has no lead-in, is in it
    inner = slice(_APART, len(summed) - _APART)
    own = summed[inner]
    peaks = own == _largest_near(summed)
    peaks &= own > _threshold(summed, share, second_frames)
    # Of equal neighbours the first: int16 samples do repeat.
    peaks &= own != summed[inner.start - 1 : inner.stop - 1]
    beats = np.zeros(energy.shape, np.bool_)
    beats[_SUMMED - 1 + inner.start : _SUMMED - 1 + inner.stop] = peaks
    return beats


def agreement(energies: BeatEnergies, *, second_frames: int) -> NDArray[np.float64]:
    """Return each row's share of beats that both detectors find; 0 where there is none.

    Parameters
    ----------
    energies
        Of a window, (frames, rows).
    second_frames
        Frames in about a second.
    """
    slope = find_beats(energies.slope, share=SLOPE_SHARE, second_frames=second_frames)
    bend = find_beats(energies.bend, share=BEND_SHARE, second_frames=second_frames)
    met = np.minimum(_count(slope & _widened(bend)), _count(bend & _widened(slope)))
    either = _count(slope) + _count(bend) - met
    share: NDArray[np.float64] = np.divide(met, either, out=np.zeros(len(met)), where=either > 0)
    return share


def _framed(values: F32, length: int) -> F32:
    """Sum frames of so many samples, (rows, samples) to (frames, rows)."""
    framed = values[:, ::length].copy()
    for offset in range(1, length):
        framed += values[:, offset::length]
    return np.ascontiguousarray(framed.T)


def _largest_near(summed: F32) -> F32:
    """Return, for the inner frames, the largest of `_APART` frames to both sides and itself."""
    near, reach, width = summed, 1, 2 * _APART + 1
    while 2 * reach <= width:
        near = np.maximum(near[:-reach], near[reach:])
        reach *= 2
    rest = width - reach
    largest: F32 = np.maximum(near[:-rest], near[rest:])
    return largest


def _threshold(summed: F32, share: float, second_frames: int) -> F32:
    n_seconds = len(summed) // second_frames
    whole = summed[len(summed) - n_seconds * second_frames :]
    largest = whole.reshape(n_seconds, second_frames, -1).max(axis=1)
    typical: F32 = np.partition(largest, n_seconds - _TYPICAL, axis=0)[n_seconds - _TYPICAL]
    threshold: F32 = np.multiply(typical, np.float32(share))
    return threshold


def _widened(beats: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide: NDArray[np.bool_] = beats.copy()
    for step in range(1, _TOLERANCE + 1):
        wide[step:] |= beats[:-step]
        wide[:-step] |= beats[step:]
    return wide


def _count(beats: NDArray[np.bool_]) -> NDArray[np.int64]:
    # More than 255 beats find no room in a window; sums of bytes are ten times as fast as of bools.
    counted: NDArray[np.uint8] = np.add.reduce(beats.view(np.uint8), axis=0, dtype=np.uint8)
    return counted.astype(np.int64)
