"""Amounts of the first differences of counts, and their median: how steep a stretch is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def steps_of(counts: NDArray[np.int16]) -> NDArray[np.uint16]:
    """Return the amounts of the first differences, and a 0 as the last of each row; contiguous, as `counts` must be.

    The rows are taken as one line, which is faster. Differences of opposite clipped samples do not fit int16; their
    amounts fit uint16.
    """
    steps = np.empty(counts.shape, np.uint16)
    line = counts.reshape(-1)
    later, earlier = line[1:], line[:-1]
    larger, smaller = np.maximum(later, earlier), np.minimum(later, earlier)
    np.subtract(larger.view(np.uint16), smaller.view(np.uint16), out=steps.reshape(-1)[:-1])
    steps[:, -1] = 0
    return steps


def median_step(steps: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Sort what `steps_of` gave, and return the (lower) median of each row; the 0 stands before all others."""
    steps.sort(axis=1)  # of so few no slower than a partition
    median: NDArray[np.uint16] = steps[:, steps.shape[1] // 2]
    return median
