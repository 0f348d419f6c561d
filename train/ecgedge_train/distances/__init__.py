"""Distances between ECGs, from which the distance miners take their triplets.

A distance takes a batch of windows and gives the (B, B) matrix: symmetric, zeros on the diagonal, finite. All of
them let go of the interpreter while they compute, so they run in a loader thread beside training. On a GPU,
`ecgedge_train.distances.dtw_triton` gives "dtw" and "dtw_exact" from tensors that are there already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.distances.dtw import dtw_matrix, dtw_pair
from ecgedge_train.distances.l2 import l2_matrix, l2_matrix_torch
from ecgedge_train.distances.median_beat import median_beat_matrix, median_beats

__all__ = [
    "DISTANCES",
    "Distance",
    "dtw_exact_matrix",
    "dtw_matrix",
    "dtw_pair",
    "l2_matrix",
    "l2_matrix_torch",
    "median_beat_matrix",
    "median_beats",
]

Distance = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Windows (B, L, T) float32 mV at 250 Hz and presence (B, L) in, (B, B) float32 out."""


def dtw_exact_matrix(
    windows: NDArray[np.float32], presence: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return DTW at full rate with a band of 10 %; parameters and result as `dtw_matrix`, about 30 times its work."""
    return dtw_matrix(windows, presence, band_fraction=0.10, paa=1)


DISTANCES: Final[Mapping[str, Distance]] = {
    "dtw": dtw_matrix,
    "dtw_exact": dtw_exact_matrix,
    "l2": l2_matrix,
    "median_beat": median_beat_matrix,
}
"""Every distance by name."""
