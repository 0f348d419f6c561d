"""What a window's quality is made of, as compiled loops: its tenths' numbers, and a first look at many beds' windows.

Nearly all windows are clean. `glance` takes in what beds lack of their windows, in the memory of their meters, and
finds those that are clean by the very criteria of `ecgedge.signal.quality.judge`: its float64 operations one by one, so
that a score and a standard deviation have the same bits. Of all others it only says that they are not surely clean;
those are judged with whole arrays, in the one place that knows reasons and doubts. Imported by
`ecgedge.signal.stretch` alone.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import types
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from ecgedge.signal.compiling import floats_at, jit, part

_I16 = types.Array(types.int16, 2, "C", readonly=True)
_F32 = types.Array(types.float32, 3, "C", readonly=True)
_ROWS = types.Array(types.float32, 2, "C", readonly=True)
_I64 = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.Array(types.int64, 2, "C", readonly=True)
_LIMITS = types.Array(types.float64, 1, "C", readonly=True)
_F64 = types.Array(types.float64, 2, "C", readonly=True)
_PLANE = types.float64[:, ::1]

_TENTHS, _NUMBERS, _RAW_BLOCKS, _N_RAW, _STEP = 10, 10, 5, 7, 5
"""As in `ecgedge.signal.raw`, `quality`, `raw_track` and `limb`; a cached loop would not notice a change there."""

_SLOPE = 6
"""Place of the median slope among a tenth's numbers."""

_SURELY = 0.99
"""Where a sum's order could matter to the last bit, only what is this far from its limit is surely below it."""

_FLOAT32 = 1e-6
"""More than what a mean of float32 is off by, of its size."""


@jit(_I16, types.int64, _PLANE, types.uint16[:, ::1])
def tenths(
    counts: NDArray[np.int16], rail: int, numbers: NDArray[np.float64], amounts: NDArray[np.uint16]
) -> None:
    """Take the numbers of tenths that follow from their counts, but the median; see `ecgedge.signal.quality`.

    Parameters
    ----------
    counts
        (rows, n).
    rail
        The clipping level.
    numbers
        (6, rows): sum, sum of squares, sum of the differences' squares, least, greatest, how many are at the rail.
    amounts
        (rows, n): of the differences, and a 0 as the last of each row.
    """
    n = counts.shape[1]
    for row in range(len(counts)):
        line, steps = counts[row], amounts[row]
        total = squares = differences = at_rail = 0
        low = high = line[0]
        for k in range(n):
            count = np.int64(line[k])
            total += count
            squares += count * count
            at_rail += abs(count) >= rail
            low, high = min(low, line[k]), max(high, line[k])
        for k in range(n - 1):
            difference = np.int64(line[k + 1]) - np.int64(line[k])
            steps[k] = abs(difference)
            differences += difference * difference
        steps[n - 1] = 0
        numbers[0, row], numbers[1, row], numbers[2, row] = total, squares, differences
        numbers[3, row], numbers[4, row], numbers[5, row] = low, high, at_rail


@part
def _stays(line: NDArray[np.float32], first: int, length: int) -> bool:
    """Tell whether the samples after `first` are equal to it, `length` of them in all."""
    if first > line.size - length:
        return False
    same = True
    for k in range(first + 1, first + length):
        same &= line[k] == line[first]
    return same


@jit(_ROWS, _TABLE, *[types.int64] * 3, *[types.float32[:, ::1]] * 3, types.boolean[:, ::1])
def raw_parts(
    samples: NDArray[np.float32],
    first: NDArray[np.int64],
    heard: int,
    lag: int,
    plateau: int,
    folded: NDArray[np.float32],
    bend: NDArray[np.float32],
    extremes: NDArray[np.float32],
    stays: NDArray[np.bool_],
) -> None:
    """Take in one pass what `ecgedge.signal.raw` makes of samples, with the same float32 operations.

    Parameters
    ----------
    samples
        (rows, n).
    first
        (2, rows): where the greatest and the least sample of each row stand first.
    heard, lag, plateau
        Samples to be folded, between the points of the second difference, and of a plateau.
    folded, bend
        (rows, samples of a fold) and (rows, second differences): the answers.
    extremes, stays
        (2, rows): the samples at `first`, and whether they begin a plateau.
    """
    period, n_bends = folded.shape[1], bend.shape[1]
    for row in range(len(samples)):
        line, sums, bends = samples[row], folded[row], bend[row]
        zero = line[0]
        for k in range(period):
            sums[k] = line[k] - zero
        for start in range(period, heard, period):
            some = line[
                start:
            ]  # of an index that is added to, the compiler would ask each time if it is negative
            for k in range(period):
                sums[k] = sums[k] + some[k] - zero
        middle, last = line[lag:], line[2 * lag :]
        for k in range(n_bends):
            bends[k] = middle[k] * np.float32(-2.0) + line[k] + last[k]
        for which in range(2):
            extremes[which, row] = line[first[which, row]]
            stays[which, row] = _stays(line, first[which, row], plateau)


@part
def _take_in(
    numbers: NDArray[np.float64], first: int, lacks: int, oldest: int, ring: NDArray[np.float64]
) -> None:
    """Write the numbers of the tenths that are new, twice each, where the oldest ones lie."""
    n_leads = ring.shape[2]
    for k in range(lacks):
        place = (oldest + k) % _TENTHS
        for number in range(_NUMBERS):
            new, again = ring[place, number], ring[place + _TENTHS, number]
            for lead in range(n_leads):
                value = numbers[number, first + lead * lacks + k]
                new[lead] = value
                again[lead] = value


@part
def _take_in_limb(
    counts: NDArray[np.int16],
    first: int,
    lacks: int,
    oldest: int,
    limb: NDArray[np.int64],
    some: NDArray[np.int32],
    ring: NDArray[np.float64],
) -> None:
    """Write the limb leads' products in the tenths that are new, as `ecgedge.signal.limb.limb_products` says them."""
    for k in range(lacks):
        place = (oldest + k) % _TENTHS
        for i in range(limb.size):
            line, every = counts[first + limb[i] * lacks + k], some[i]
            for at in range(every.size):
                every[at] = line[at * _STEP]
        for i in range(limb.size):
            for j in range(i + 1):
                one, other, total = some[i], some[j], np.int64(0)
                for at in range(one.size):
                    total += np.int64(one[at]) * np.int64(other[at])
                ring[place, i, j] = ring[place, j, i] = total
                ring[place + _TENTHS, i, j] = ring[place + _TENTHS, j, i] = total


@part
def _agree(products: NDArray[np.float64], misfit: NDArray[np.float64], most: float) -> bool:
    """Tell whether the limb leads surely do not contradict each other; `most` is the largest share, squared."""
    residual = amount = 0.0
    for i in range(len(misfit)):
        for j in range(len(misfit)):
            total = 0.0
            for tenth in range(_TENTHS):
                total += products[tenth, i, j]
            residual += misfit[i, j] * total
            if i == j:
                amount += total
    return residual <= most * _SURELY * amount


@part
def _middle(blocks: NDArray[np.float32], number: int, lead: int) -> np.float32:
    """Return the median over the blocks; NaN where one is not known."""
    a, b, c = blocks[0, number, lead], blocks[1, number, lead], blocks[2, number, lead]
    d, e = blocks[3, number, lead], blocks[4, number, lead]
    total: np.float32 = a + b + c + d + e
    if np.isnan(total):
        return total
    f, g = max(min(a, b), min(c, d)), min(max(a, b), max(c, d))
    middle: np.float32 = max(min(f, g), min(max(f, g), e))
    return middle


@part
def _may_be_railed(blocks: NDArray[np.float32], lead: int, distance: float, least: float) -> bool:
    """Tell whether a lead may come back to its extreme and stay there, or this cannot be told."""
    high, low, mean, known = -np.inf, np.inf, 0.0, 0.0
    for k in range(_RAW_BLOCKS):
        top, bottom = float(blocks[k, 3, lead]), float(blocks[k, 4, lead])
        high, low, mean = max(high, top), min(low, bottom), mean + blocks[k, 2, lead] / _RAW_BLOCKS
        known += top + bottom
    tops = bottoms = 0
    for k in range(_RAW_BLOCKS):
        tops += blocks[k, 5, lead] > 0.0 and blocks[k, 3, lead] == high
        bottoms += blocks[k, 6, lead] > 0.0 and blocks[k, 4, lead] == low
    near = _SURELY * distance * (high - low) - _FLOAT32 * (abs(high) + abs(low))
    above = tops < least or high - mean < near
    below = bottoms < least or mean - low < near
    return not (above and below and np.isfinite(known + mean))


@part
def _order(kept: NDArray[np.float64], slopes: NDArray[np.float64]) -> None:
    """Sort the tenths' median slopes of every lead, neighbours by turns, which works on several leads at once."""
    n_leads = slopes.shape[1]
    for tenth in range(_TENTHS):
        for lead in range(n_leads):
            slopes[tenth, lead] = kept[tenth, _SLOPE, lead]
    for turn in range(_TENTHS):
        for k in range(turn % 2, _TENTHS - 1, 2):
            for lead in range(n_leads):
                one, other = slopes[k, lead], slopes[k + 1, lead]
                slopes[k, lead], slopes[k + 1, lead] = min(one, other), max(one, other)


@part
def _is_clean(
    kept: NDArray[np.float64],
    lead: int,
    slopes: NDArray[np.float64],
    limits: NDArray[np.float64],
    sd_mv: NDArray[np.float64],
    score: NDArray[np.float64],
) -> bool:
    """Give a lead's standard deviation and score; tell whether nothing of its counts is held against it."""
    n, n_steps, lsb_mv, mean_mv, flat_mv = limits[0], limits[1], limits[2], limits[3], limits[4]
    clipped, noise, clean_range, baseline_mv, worst = limits[5], limits[6], limits[7], limits[8], limits[9]
    total = squares = steps = railed = 0.0
    least, most = kept[0, 0, lead], kept[0, 0, lead]
    extent = np.inf
    for half in range(0, _TENTHS, _TENTHS // 2):
        low, high = kept[half, 3, lead], kept[half, 4, lead]
        for tenth in range(half, half + _TENTHS // 2):
            of_tenth = kept[tenth]
            total += of_tenth[0, lead]
            squares += of_tenth[1, lead]
            steps += of_tenth[2, lead]
            railed += of_tenth[5, lead]
            least, most = min(least, of_tenth[0, lead]), max(most, of_tenth[0, lead])
            low, high = min(low, of_tenth[3, lead]), max(high, of_tenth[4, lead])
        extent = min(extent, high - low)
    mean, rms = total / n, sqrt(steps / n_steps)
    sd_mv[lead] = sqrt(max(squares / n - mean * mean, 0.0)) * lsb_mv
    spread = burst = 0.0
    if rms > 0.0:
        spread = (slopes[_TENTHS // 2 - 1, lead] + slopes[_TENTHS // 2, lead]) / 2.0 / rms
        burst = slopes[_TENTHS - 1, lead] / rms
    score[lead] = min(1.0, (noise - spread) / clean_range)
    fault = spread > noise or railed / n > clipped or extent * lsb_mv < flat_mv
    return not (fault or burst > worst or (most - least) * mean_mv > baseline_mv)


@jit(_I16, _F64, _F32, _TABLE, _I64, _F64, _LIMITS, _PLANE, _PLANE, types.boolean[::1])
def glance(
    counts: NDArray[np.int16],
    numbers: NDArray[np.float64],
    raw: NDArray[np.float32],
    meters: NDArray[np.int64],
    limb: NDArray[np.int64],
    misfit: NDArray[np.float64],
    limits: NDArray[np.float64],
    sd_mv: NDArray[np.float64],
    score: NDArray[np.float64],
    clean: NDArray[np.bool_],
) -> None:
    """Take in what beds lack of their windows, all of it measured, and look at each.

    Parameters
    ----------
    counts
        (beds x leads x tenths that are new, n).
    numbers
        (N_NUMBERS, the same): what `tenth_numbers` says of them.
    raw
        (beds x RAW_BLOCKS, N_RAW, leads), or none of it.
    meters
        (beds, 3): of each meter the address of its ring, that of its products, and the place of the oldest tenth.
    limb, misfit
        The limb leads' rows, and P of `ecgedge.signal.limb`.
    limits
        (15,): samples and steps of a window, the counts' unit, what a sum's difference is in mean mV; then the
        criteria, see `ecgedge.signal.meter`.
    sd_mv, score
        (beds, leads): the answer; the score of a lead that is not clean means nothing.
    clean
        (beds,): whether nothing is held against any of a bed's leads.
    """
    n_beds, n_leads = sd_mv.shape
    lacks = len(counts) // (n_beds * n_leads)
    muscle, hum, distance, least, most = limits[10], limits[11], limits[12], limits[13], limits[14]
    slopes = np.empty((_TENTHS, n_leads))
    some = np.empty((limb.size, -(-counts.shape[1] // _STEP)), np.int32)
    for bed in range(n_beds):
        first, oldest = bed * n_leads * lacks, meters[bed, 2]
        ring = carray(floats_at(meters[bed, 0]), (2 * _TENTHS, _NUMBERS, n_leads))
        products = carray(floats_at(meters[bed, 1]), (2 * _TENTHS, limb.size, limb.size))
        _take_in(numbers, first, lacks, oldest, ring)
        _take_in_limb(counts, first, lacks, oldest, limb, some, products)
        newest = (oldest + lacks) % _TENTHS
        kept = ring[newest : newest + _TENTHS]
        _order(kept, slopes)
        good = _agree(products[newest : newest + _TENTHS], misfit, most)
        for lead in range(n_leads):
            good &= _is_clean(kept, lead, slopes, limits, sd_mv[bed], score[bed])
        if len(raw):
            blocks = raw[bed * _RAW_BLOCKS : (bed + 1) * _RAW_BLOCKS]
            for lead in range(n_leads):
                sd = sd_mv[bed, lead]
                good &= _middle(blocks, 1, lead) <= muscle * sd and _middle(blocks, 0, lead) <= hum * sd
                good &= not _may_be_railed(blocks, lead, distance, least)
        clean[bed] = good
