"""Quality at a fraction of the work: what is kept of each block of a window gives the verdict of `assess`, to the bit.

Sums of whole numbers add up exactly, and so do extremes. Only the median of the slopes needs all of them; but where
no block's own median is above `CLEAN_SPREAD` of the window's rms, the window's is not either, and the lead scores 1 as
it stands. Only the other leads are looked at again. A block is judged when it is complete, while it is in the cache.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.quality import (
    CLEAN_SPREAD,
    Missing,
    Quality,
    judge,
    missing,
    rail_share,
    slopes,
    spread_of,
)
from ecgedge.signal.windows import Window

_LEAST_BLOCK = 64
"""Shorter blocks cost more than they save."""


def block_length(*, window_samples: int, hop_samples: int, first_end: int) -> int | None:
    """Return the samples of a block: windows and their halves begin and end at its multiples. None: there is none."""
    block = gcd(gcd(window_samples, hop_samples), first_end)
    n_blocks = window_samples // block
    # An even block has an odd number of slopes inside; with half of them and more below its median, so has the window.
    fits = n_blocks % 2 == 0 and block % 2 == 0 and block >= _LEAST_BLOCK
    return block if fits else None


class Meter:
    """Judges the windows of a stream, which is given to it block by block.

    Parameters
    ----------
    n_leads, window_samples, block_samples
        Two blocks a window at least, see `block_length`.
    spec
        The front end that made the counts.
    """

    def __init__(self, *, n_leads: int, window_samples: int, block_samples: int, spec: FrontEndSpec) -> None:
        n_blocks = window_samples // block_samples
        self._window, self._block, self._spec = window_samples, block_samples, spec
        self._ones = np.ones(block_samples)
        # By block, the oldest first: sums of samples, squares, products of neighbours (with the one before it, too).
        self._sums = np.zeros((n_blocks, 3, n_leads))
        self._ends = np.zeros((n_blocks, 2, n_leads))  # first sample, and its product with the one before
        self._last = np.zeros(n_leads)
        self._low = np.zeros((n_blocks, n_leads), np.int16)
        self._high = np.zeros((n_blocks, n_leads), np.int16)
        self._median = np.zeros((n_blocks, n_leads), np.uint16)
        self._troubled = [False] * n_blocks

    def push(self, counts: NDArray[np.int16], status: NDArray[np.uint8]) -> None:
        """Take the next block, (n_leads, block_samples) each."""
        for kept in (self._sums, self._ends, self._low, self._high, self._median):
            kept[:-1] = kept[1:]
        exact = counts.astype(np.float64)
        first = exact[:, 0]
        across = first * self._last
        sums, ends = self._sums[-1], self._ends[-1]
        np.matmul(exact, self._ones, out=sums[0])
        sums[1] = np.matmul(exact[:, np.newaxis], exact[:, :, np.newaxis])[:, 0, 0]
        sums[2] = np.matmul(exact[:, np.newaxis, :-1], exact[:, 1:, np.newaxis])[:, 0, 0] + across
        ends[0], ends[1] = first, across
        self._last = exact[:, -1].copy()
        counts.min(axis=1, out=self._low[-1])
        counts.max(axis=1, out=self._high[-1])
        slope = slopes(counts)
        middle = self._block // 2 - 1
        slope.partition(middle, axis=1)
        self._median[-1] = slope[:, middle]
        self._troubled = [*self._troubled[1:], bool(status.any())]

    def assess(self, window: Window) -> Quality:
        """Judge the window that ends with the newest block, as `ecgedge.signal.assess` does."""
        n = self._window
        total, squares, near = self._sums.sum(axis=0)
        sd = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
        first, across = self._ends[0]
        rms = np.sqrt((2.0 * squares - first**2 - self._last**2 - 2.0 * (near - across)) / (n - 1))
        spread = np.zeros(len(rms))
        np.divide(self._median.max(axis=0), rms, out=spread, where=rms > 0.0)
        doubtful = np.flatnonzero(spread > CLEAN_SPREAD)
        if doubtful.size:
            spread[doubtful] = spread_of(window.counts[doubtful], rms[doubtful])
        n_leads = len(rms)
        low = self._low.reshape(2, -1, n_leads).min(axis=1)
        high = self._high.reshape(2, -1, n_leads).max(axis=1)
        whole: Missing = [None] * n_leads, False, 0.0
        return judge(
            missing(window.status) if any(self._troubled) else whole,
            sd=sd,
            spread=spread,
            extent=(high.astype(np.float64) - low).min(axis=0),
            at_rail=rail_share(window.counts, self._spec, low=int(low.min()), high=int(high.max())),
            spec=self._spec,
        )
