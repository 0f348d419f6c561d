"""The distances that a GPU computes itself, from windows that are there already."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from ecgedge_train.distances.l2 import l2_matrix_torch

ON_GPU: Final = ("dtw", "dtw_exact", "l2")
"""Names of `DISTANCES` that are left to the GPU where there is one; the others come from the loader."""


def distance_on_gpu(name: str, windows: Tensor, presence: Tensor) -> Tensor:
    """Return the (B, B) distances of (B, L, T) windows on a CUDA device; `name` is one of `ON_GPU`."""
    if name == "l2":
        return l2_matrix_torch(windows, presence)
    # Comes with PyTorch's CUDA builds only.
    from ecgedge_train.distances.dtw_triton import dtw_matrix_cuda  # noqa: PLC0415 - needs triton

    if name == "dtw":
        return dtw_matrix_cuda(windows, presence)
    return dtw_matrix_cuda(windows, presence, band_fraction=0.10, paa=1)
