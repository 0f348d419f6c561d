"""What only the samples before the filters can tell: mains hum, muscle noise, and a device's own rails.

The front end takes hum away, passes nothing above 40 Hz, and rounds the flat tops that an amplifier or a recorder
leaves where its range ends. So these are measured on what the source gives, at its own rate, in blocks of about a
second, and composed over the blocks of a window. Every number of a row follows from that row alone, summed in a fixed
order: the rows of many beds may be stacked, and no bit changes.

Hum and muscle noise last: the first half of each block tells enough of them, at half the cost. 50 and 60 Hz are
multiples of 10 Hz, so the half is folded with a period of 0.1 s (a comb that passes nothing else), and one
correlation per frequency is left.

Muscle noise: the second difference over 4 ms passes 50 to 200 Hz and hardly anything of a T wave. A QRS complex does
pass, but does not last: the quietest fifth of the half counts. Hum passes, too: where there is much of it, there is
nothing to say of muscles.

Rails: a clipped signal stays at its extreme for a while and comes back to the very same value. In a block the first
sample at the extreme begins a plateau, or not; in a window at least `RAIL_BLOCKS` blocks have one at the window's
extreme. The silent line between beats has plateaus, too, and may be the lowest of all: an extreme near the mean is no
rail. On 6,480 leads of PTB-XL and LUDB as recorded, 0.05 % come back to an extreme like that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ecgedge.signal.stretch import COMPILED

F32 = NDArray[np.float32]

TENTHS = 10
RAW_BLOCKS = TENTHS // 2
"""Raw blocks to a window: of every second tenth. What they look for lasts, and this costs half."""

MAINS_HZ = (50.0, 60.0)
RAIL_BLOCKS = 2
RAIL_S = 0.006
"""How long a plateau lasts at least."""

RAIL_DISTANCE = 0.25
"""How far from the mean a rail is at least, of the range of the window."""

_MUSCLE_LAG_S = 0.004
_FIFTHS = 5
_LEAST_RATE_HZ = 200.0
"""At lower rates the second difference lies where the ECG is; archives at such rates have lost what it looks for."""


@dataclass(frozen=True, eq=False)
class RawSpec:
    """How blocks at one rate are measured; see `raw_spec`.

    Attributes
    ----------
    block_samples
        About a second.
    fold_samples
        Period of the comb; divides the block.
    heard_samples
        How many of a block's samples hum and muscle noise are measured on: whole folds, half the block or more.
    tones
        (2 x frequencies, fold_samples) float32: cosines, then sines, so that a correlation is an amplitude.
    muscle_lag
        Samples between the points of the second difference; 0 where the rate is too low.
    plateau_samples
        How many equal samples are a plateau.
    """

    block_samples: int
    fold_samples: int
    heard_samples: int
    tones: F32
    muscle_lag: int
    plateau_samples: int


@dataclass(frozen=True, eq=False)
class RawBlock:
    """One block, or (with an axis of blocks first) several; each array has one number a row.

    Attributes
    ----------
    hum_mv
        Amplitude of the stronger mains tone, float32.
    muscle_mv
        Root mean square of white noise of the same size in the band of the second difference, float32; 0 where the
        rate is too low.
    mean_mv
        Of the samples that hum is measured on, float32.
    high_mv, low_mv
        Extremes, float32.
    top, bottom
        Whether the first sample at the extreme begins a plateau.
    """

    hum_mv: F32
    muscle_mv: F32
    mean_mv: F32
    high_mv: F32
    low_mv: F32
    top: NDArray[np.bool_]
    bottom: NDArray[np.bool_]


@lru_cache(maxsize=32)
def raw_spec(rate_hz: float, block_samples: int | None = None) -> RawSpec:
    """Return how blocks of a source of this rate are measured, of a second or of `block_samples`.

    A rate that is no whole number is taken as the nearest one: over a second that shifts a tone by less than a part
    in two hundred. Mains frequencies from 0.45 of the rate on cannot be told.

    Raises
    ------
    ValueError
        If a block is too short: it must hold half a second, in whole periods of the comb.
    """
    whole = max(10, round(rate_hz))
    fold = whole // math.gcd(whole, 10)
    seen = [hz for hz in MAINS_HZ if hz < 0.45 * rate_hz]
    angle = 2.0 * np.pi * np.outer(seen, np.arange(fold)) / whole
    heard = -(-whole // fold // 2) * fold
    tones = np.concatenate([np.cos(angle), np.sin(angle)]).astype(np.float32) * np.float32(2.0 / heard)
    lag = max(1, round(_MUSCLE_LAG_S * rate_hz)) if rate_hz >= _LEAST_RATE_HZ else 0
    block = whole if block_samples is None else block_samples
    if block < heard:
        raise ValueError(f"a raw block of {block} samples is too short at {rate_hz:g} Hz; it needs {heard}")
    return RawSpec(block, fold, heard, tones, lag, max(2, round(RAIL_S * rate_hz)))


def raw_block(samples_mv: F32, spec: RawSpec) -> RawBlock:
    """Measure a block of every row.

    Parameters
    ----------
    samples_mv
        (rows, spec.block_samples) float32, finite or NaN; C-contiguous for speed. A row with NaN gives NaN, which no
        criterion holds against it: such a lead has a gap.
    spec
        From `raw_spec`.
    """
    folded, bend, (high, low), (top, bottom) = _parts(samples_mv, spec)
    mean = samples_mv[:, 0] + folded.sum(axis=1) / np.float32(spec.heard_samples)
    return RawBlock(_hum(folded, spec), _muscle(bend), mean, high, low, top, bottom)


def _parts(samples_mv: F32, spec: RawSpec) -> tuple[F32, F32, F32, NDArray[np.bool_]]:
    """Return the folded samples, the second differences, and the extremes (high, low), and whether they stay."""
    first = np.stack([samples_mv.argmax(axis=1), samples_mv.argmin(axis=1)])
    if COMPILED.quality is None:
        ends = [_plateau(samples_mv, of_end, spec.plateau_samples) for of_end in first]
        extremes, stays = (np.stack(of_ends) for of_ends in zip(*ends, strict=True))
        return _folded(samples_mv, spec), _bend(samples_mv, spec), extremes, stays
    n_rows = len(samples_mv)
    folded = np.empty((n_rows, spec.fold_samples), np.float32)
    bend = np.empty((n_rows, _bends(spec)), np.float32)
    extremes, stays = np.empty((2, n_rows), np.float32), np.empty((2, n_rows), np.bool_)
    lengths = spec.heard_samples, spec.muscle_lag, spec.plateau_samples
    samples_mv = np.ascontiguousarray(samples_mv)
    COMPILED.quality.raw_parts(samples_mv, first, *lengths, folded, bend, extremes, stays)
    return folded, bend, extremes, stays


def _bends(spec: RawSpec) -> int:
    """Return how many second differences are taken; none where the rate is too low."""
    lag = spec.muscle_lag
    return (spec.heard_samples - 2 * lag) // _FIFTHS * _FIFTHS if lag else 0


def _folded(samples_mv: F32, spec: RawSpec) -> F32:
    """Return the sum of the periods of the comb, (rows, fold_samples), each sample less the row's first."""
    period = spec.fold_samples
    # An electrode's offset is a thousand times the hum; tables of float32 would not cancel it.
    folded = samples_mv[:, :period] - samples_mv[:, :1]
    for start in range(period, spec.heard_samples, period):
        folded += samples_mv[:, start : start + period]
        folded -= samples_mv[:, :1]
    return folded


def _hum(folded: F32, spec: RawSpec) -> F32:
    if not len(spec.tones):
        return np.zeros(len(folded), np.float32)
    parts = np.einsum("rp,tp->rt", folded, spec.tones)
    n = parts.shape[1] // 2
    strongest: F32 = np.hypot(parts[:, :n], parts[:, n:]).max(axis=1)
    return strongest


def _bend(samples_mv: F32, spec: RawSpec) -> F32:
    lag, n = spec.muscle_lag, _bends(spec)
    bend: F32 = samples_mv[:, lag : lag + n] * np.float32(-2.0)
    bend += samples_mv[:, :n]
    bend += samples_mv[:, 2 * lag : 2 * lag + n]
    return bend


def _muscle(bend: F32) -> F32:
    if not bend.shape[1]:
        return np.zeros(len(bend), np.float32)
    fifths = bend.reshape(len(bend), _FIFTHS, -1)
    power = np.einsum("rks,rks->rk", fifths, fifths).min(axis=1) / np.float32(fifths.shape[2])
    # The second difference of white noise has six times its power.
    white: F32 = np.sqrt(power / np.float32(6.0))
    return white


def _plateau(samples_mv: F32, first: NDArray[np.intp], length: int) -> tuple[F32, NDArray[np.bool_]]:
    """Return each row's sample at `first`, and whether the ones after it are equal; none is, past the block's end."""
    rows = np.arange(len(samples_mv))
    extreme = samples_mv[rows, first]
    last = samples_mv.shape[1] - length
    start = np.minimum(first, last)
    flat = first <= last
    for step in range(1, length):
        flat &= samples_mv[rows, start + step] == extreme
    return extreme, flat


def window_hum_mv(hum_mv: F32) -> F32:
    """Return the (upper) median over the blocks, (blocks, ...) to (...)."""
    return _middle(hum_mv)


def window_muscle_mv(muscle_mv: F32) -> F32:
    """Return the (upper) median over the blocks, (blocks, ...) to (...)."""
    return _middle(muscle_mv)


def at_rails(blocks: RawBlock) -> NDArray[np.bool_]:
    """Return which rows come back to their extreme and stay there; arrays (blocks, ...) to (...)."""
    high, low, mean = blocks.high_mv.max(axis=0), blocks.low_mv.min(axis=0), blocks.mean_mv.mean(axis=0)
    tops = (blocks.top & (blocks.high_mv == high)).sum(axis=0)
    bottoms = (blocks.bottom & (blocks.low_mv == low)).sum(axis=0)
    far = np.float32(RAIL_DISTANCE) * (high - low)
    railed: NDArray[np.bool_] = ((tops >= RAIL_BLOCKS) & (high - mean > far)) | (
        (bottoms >= RAIL_BLOCKS) & (mean - low > far)
    )
    return railed


def _middle(by_block: F32) -> F32:
    middle = len(by_block) // 2
    median: F32 = np.partition(by_block, middle, axis=0)[middle]
    return median
