"""Dynamic time warping of multi-lead ECGs, a whole batch at once.

Dependent DTW: all leads share one warping path (Shokoohi-Yekta et al., "Generalizing DTW to the multi-dimensional
case requires an adaptive approach", Data Min Knowl Disc 2017, section 2.2, DTW_D). With a_i the L values at time i,

    D(i, j) = |a_i - b_j|^2 + min(D(i-1, j-1), D(i-1, j), D(i, j-1)),      dtw(a, b) = sqrt(D(n, n))

Time is warped, leads are not. (Code has been published that hands (leads, time) to a library that expects
(time, leads); it warps twelve leads against each other, which comes out as the Euclidean distance.)

Two approximations make it cheap enough to run beside training:

- a Sakoe-Chiba band, |i - j| <= band_fraction * n (IEEE Trans ASSP 1978, 26(1):43);
- piecewise aggregate approximation (Keogh et al., KAIS 2001, 3(3):263): every `paa` samples become their mean.
  The sum is multiplied by `paa`, so distances keep the scale of the full rate.

How it is computed. Cells along a row wait for each other, pairs do not, so 32 pairs go side by side in the innermost,
contiguous axis. They share one ECG a: its values are scalars, and the 32 others are its successors a+1 ... a+32
in the ring of the batch, which a copy in memory holds side by side. Going half way round the ring meets every pair
once. For each row, first the costs of the whole band (no dependency, a plain stream of multiply-adds), then the
recurrence.

numba is imported, and the kernel compiled (about 3 s), at the first call. The kernel holds no GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.distances.l2 import checked_presence, scale_to_all_leads

LANES: Final = 32
"""Pairs side by side. Two AVX-512 vectors; with 16, LLVM leaves the recurrence scalar."""
LEADS_A_PASS: Final = 4

Floats = NDArray[np.float32]
Kernel = Callable[[Floats, Floats, Floats, int, int, int], None]


def dtw_matrix(
    windows: Floats,
    presence: Floats | None = None,
    *,
    band_fraction: float = 0.05,
    paa: int = 4,
    threads: int = 1,
) -> Floats:
    """Return the DTW distance of every pair.

    Parameters
    ----------
    windows
        (B, L, T) mV, finite.
    presence
        (B, L), 1 where a lead was measured; None: all were. A pair is compared on its common leads, scaled to all
        (see `ecgedge_train.distances.l2`).
    band_fraction
        Half width of the band as a share of the length; 1 allows every path, 0 none but the diagonal.
    paa
        Samples averaged into one; 1 keeps the full rate. A last, shorter group is averaged on its own.
    threads
        Threads to share the pairs among; the result does not depend on it.

    Returns
    -------
    (B, B) array
        float32, mV times the square root of samples; symmetric, zeros on the diagonal.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `band_fraction` or `paa` is out of range.
    """
    measured = checked_presence(windows, presence)
    frames = piecewise_mean(windows * measured[:, :, None], paa)
    batch, _, n = frames.shape
    squared = np.zeros((batch, batch), np.float32)
    ring, ring_leads = _ring(frames, measured)
    radius, fill = band_radius(n, band_fraction), _kernel()
    if threads == 1:
        fill(ring, ring_leads, squared, 0, batch, radius)
    else:
        cuts = [batch * k // threads for k in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(fill, ring, ring_leads, squared, a, b, radius) for a, b in pairwise(cuts)]
        for job in jobs:
            job.result()
    plain: Floats = np.sqrt(squared * np.float32(paa))
    distances = scale_to_all_leads(plain, measured)
    np.fill_diagonal(distances, 0.0)
    return distances


def dtw_pair(a: Floats, b: Floats, *, band_fraction: float = 1.0, paa: int = 1) -> float:
    """Return the DTW distance of two ECGs, (L, T) mV each, of one length; all paths at full rate by default.

    Raises
    ------
    ValueError
        As `dtw_matrix`, or if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"two ECGs of one shape are compared, found {a.shape} and {b.shape}")
    return float(dtw_matrix(np.stack([a, b]), band_fraction=band_fraction, paa=paa)[0, 1])


def band_radius(n: int, band_fraction: float) -> int:
    """Return the largest |i - j| of a band on n x n cells.

    Raises
    ------
    ValueError
        If `band_fraction` is not between 0 and 1.
    """
    if not 0.0 <= band_fraction <= 1.0:
        raise ValueError(f"band_fraction is {band_fraction:g}; it is a share of the length, from 0 to 1")
    return min(n - 1, round(band_fraction * n))


def piecewise_mean(windows: Floats, paa: int) -> Floats:
    """Return (..., ceil(T / paa)) means of `paa` neighbours.

    Raises
    ------
    ValueError
        If `paa` is not between 1 and T.
    """
    n = windows.shape[-1]
    if not 1 <= paa <= n:
        raise ValueError(f"paa is {paa}; expected 1 to {n} samples")
    whole = n // paa * paa
    # Strided sums: a mean over a last axis of 4 spends its time in numpy's loop, not on numbers.
    frames = windows[..., 0:whole:paa].astype(np.float32)
    for offset in range(1, paa):
        frames += windows[..., offset:whole:paa]
    frames /= np.float32(paa)
    if whole == n:
        return frames
    return np.concatenate([frames, windows[..., whole:].mean(axis=-1, keepdims=True)], axis=-1)


def _ring(frames: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """Lay the batch out as a ring: (n, leads, lanes) samples and (leads, lanes) measured leads.

    Lane k is record k mod B, and there are enough lanes that each record has all its successors to its right.
    Leads are padded with zeros to whole passes.
    """
    batch, leads, n = frames.shape
    ahead = -(-(batch // 2) // LANES) * LANES
    padded = -(-leads // LEADS_A_PASS) * LEADS_A_PASS
    by_time = np.zeros((n, padded, batch), np.float32)
    by_time[:, :leads] = frames.transpose(2, 1, 0)
    lead_rows = np.ones((padded, batch), np.float32)  # a padded lead is no missing lead
    lead_rows[:leads] = measured.T
    records = np.arange(batch + ahead) % batch
    return by_time[:, :, records], lead_rows[:, records]


@lru_cache(maxsize=1)
def _kernel() -> Kernel:
    """Compile the kernel: fill the squared distances of anchors `start` to `stop`, in place."""
    import numba  # noqa: PLC0415 - half a second to import, for those who mine by DTW only

    # Contracted multiply-adds, and a minimum that is one instruction because there is no NaN.
    compiled: Any = numba.njit(cache=False, nogil=True, fastmath={"contract", "nnan", "nsz"})
    gather_lanes, gather_weights = compiled(_gather_lanes), compiled(_gather_weights)
    walk = compiled(_walk_with(compiled))

    def fill(ring: Floats, ring_leads: Floats, squared: Floats, start: int, stop: int, radius: int) -> None:
        batch = len(squared)
        half = batch // 2
        for a in range(start, stop):
            anchor = ring[:, :, a].copy()
            for offset in range(1, half + 1, LANES):
                others = gather_lanes(ring, a + offset)
                weights = gather_weights(ring_leads, a, a + offset, 2 * radius + 1)
                cells = walk(anchor, others, weights, radius)
                for lane in range(min(LANES, half + 1 - offset)):
                    b = (a + offset + lane) % batch
                    # In an even ring the opposite record is met from both sides; once is enough.
                    if 2 * (offset + lane) != batch or a < half:
                        squared[a, b] = squared[b, a] = cells[lane]

    kernel: Kernel = compiled(fill)
    return kernel


def _walk_with(compiled: Any) -> Callable[[Floats, Floats, Floats, int], Floats]:
    """Return the function that takes 32 pairs from the first row of D to the last, for numba to compile."""
    add_leads, add_measured_leads = compiled(_add_leads), compiled(_add_measured_leads)
    extend_paths = compiled(_extend_paths)

    def walk(anchor: Floats, others: Floats, weights: Floats, radius: int) -> Floats:
        n = len(anchor)
        costs = np.empty((2 * radius + 1) * LANES, np.float32)
        # Column j of a row stands at (j + 1) * LANES; what lies left and right of the band is infinite.
        row = np.full((n + 1) * LANES, np.float32(np.inf), np.float32)
        above = np.full((n + 1) * LANES, np.float32(np.inf), np.float32)
        above[:LANES] = 0.0
        for i in range(n):
            start, stop = max(0, i - radius) * LANES, min(n, i + radius + 1) * LANES
            band = costs[: stop - start]
            band[:] = 0.0
            if weights.size > 0:
                add_measured_leads(band, anchor[i], others, weights, start)
            else:
                add_leads(band, anchor[i], others, start)
            row[start : start + LANES] = np.float32(np.inf)
            extend_paths(band, above[start:], row[start:])
            row, above = above, row
        return above[n * LANES :]

    return walk


def _gather_lanes(ring: Floats, first: int) -> Floats:
    """Return (leads, n * LANES): the lanes from `first` on, time by time."""
    n, leads, _ = ring.shape
    others = np.empty((leads, n * LANES), np.float32)
    for j in range(n):
        for lead in range(leads):
            others[lead, j * LANES : (j + 1) * LANES] = ring[j, lead, first : first + LANES]
    return others


def _gather_weights(ring_leads: Floats, a: int, first: int, columns: int) -> Floats:
    """Return (leads, columns * LANES): 1 where a lane's pair shares the lead; nothing if all leads are there."""
    leads, _ = ring_leads.shape
    if ring_leads.all():
        return np.empty((leads, 0), np.float32)
    weights = np.empty((leads, columns * LANES), np.float32)
    for lead in range(leads):
        both = ring_leads[lead, a] * ring_leads[lead, first : first + LANES]
        for column in range(columns):
            weights[lead, column * LANES : (column + 1) * LANES] = both
    return weights


def _add_leads(band: Floats, a: Floats, others: Floats, start: int) -> None:
    """Add the squared differences between one time of the anchor, (leads,), and the lanes from `start` on.

    Four leads a pass: the sum stays in a register instead of going through memory for every lead.
    """
    stop = start + band.size
    for lead in range(0, len(a), LEADS_A_PASS):
        a0, a1, a2, a3 = a[lead], a[lead + 1], a[lead + 2], a[lead + 3]
        b0, b1 = others[lead, start:stop], others[lead + 1, start:stop]
        b2, b3 = others[lead + 2, start:stop], others[lead + 3, start:stop]
        for e in range(band.size):
            d0, d1, d2, d3 = a0 - b0[e], a1 - b1[e], a2 - b2[e], a3 - b3[e]
            band[e] += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3


def _add_measured_leads(band: Floats, a: Floats, others: Floats, weights: Floats, start: int) -> None:
    """As `_add_leads`, without the leads that a lane's pair does not share."""
    stop = start + band.size
    for lead in range(0, len(a), LEADS_A_PASS):
        a0, a1, a2, a3 = a[lead], a[lead + 1], a[lead + 2], a[lead + 3]
        b0, b1 = others[lead, start:stop], others[lead + 1, start:stop]
        b2, b3 = others[lead + 2, start:stop], others[lead + 3, start:stop]
        w0, w1, w2, w3 = weights[lead], weights[lead + 1], weights[lead + 2], weights[lead + 3]
        for e in range(band.size):
            d0, d1, d2, d3 = a0 - b0[e], a1 - b1[e], a2 - b2[e], a3 - b3[e]
            band[e] += w0[e] * d0 * d0 + w1[e] * d1 * d1 + w2[e] * d2 * d2 + w3[e] * d3 * d3


def _extend_paths(band: Floats, above: Floats, row: Floats) -> None:
    """Fill one row of D over its band; lane block 0 of `above` and `row` is the column before the band."""
    for j in range(band.size // LANES):
        for lane in range(LANES):
            e = j * LANES + lane
            diagonal, up, left = above[e], above[e + LANES], row[e]
            best = diagonal if diagonal < up else up
            best = best if best < left else left
            row[e + LANES] = band[e] + best
