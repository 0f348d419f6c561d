"""Euclidean distance of whole windows, and what every distance does about leads that are not there.

A pair of ECGs is compared on the leads that both have. So that a pair with few common leads does not look close
for that reason alone, the sum of squares is scaled from the n common leads to all L:

    d(a, b)^2 = L / n * sum over common leads l, samples t of (a_lt - b_lt)^2

A pair with no common lead has no distance; it gets the largest of the batch, so it is never anybody's nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the numpy half must not pay for importing torch
    from torch import Tensor

_Array = TypeVar("_Array", "NDArray[np.float32]", "Tensor")


def l2_matrix(
    windows: NDArray[np.float32], presence: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the Euclidean distance of every pair.

    Parameters
    ----------
    windows
        (B, L, T) mV.
    presence
        (B, L), 1 where a lead was measured; None: all were.

    Returns
    -------
    (B, B) array
        float32, mV times the square root of samples; symmetric, zeros on the diagonal.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    measured = checked_presence(windows, presence)
    # |a|^2 + |b|^2 - 2 a.b loses all digits of a small difference in float32 (two beats 1 % apart would come out
    # 3 % wrong), and in float64 the product still costs no more than a few milliseconds a batch.
    masked = np.multiply(windows, measured[:, :, None], dtype=np.float64)
    power = np.einsum("blt,blt->bl", masked, masked) @ measured.T
    flat = masked.reshape(len(masked), -1)
    squared = power + power.T - 2.0 * (flat @ flat.T)
    plain: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0.0)).astype(np.float32)
    distances = scale_to_all_leads(plain, measured)
    np.fill_diagonal(distances, 0.0)
    return distances


def l2_matrix_torch(windows: Tensor, presence: Tensor | None = None) -> Tensor:
    """Return what `l2_matrix` returns, on the device of `windows`."""
    measured = windows.new_ones(windows.shape[:2]) if presence is None else presence.to(windows)
    masked = (windows * measured[:, :, None]).double()
    power = masked.square().sum(dim=2) @ measured.double().T
    flat = masked.flatten(1)
    squared = power + power.T - 2.0 * (flat @ flat.T)
    distances = scale_to_all_leads(squared.clamp(min=0.0).sqrt().float(), measured)
    return distances.fill_diagonal_(0.0)


def checked_presence(
    windows: NDArray[np.float32], presence: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return (B, L) float32 ones and zeros.

    Raises
    ------
    ValueError
        If `windows` is not (B, L, T) or `presence` not (B, L).
    """
    if windows.ndim != 3 or 0 in windows.shape:
        raise ValueError(f"windows have shape {windows.shape}; expected (batch, leads, samples)")
    if presence is None:
        return np.ones(windows.shape[:2], np.float32)
    if presence.shape != windows.shape[:2]:
        raise ValueError(f"presence has shape {presence.shape}; expected {windows.shape[:2]}")
    return (presence > 0).astype(np.float32)


def scale_to_all_leads(distances: _Array, measured: _Array) -> _Array:
    """Scale distances over the common leads to all leads; the largest stands where there is no common lead.

    Parameters
    ----------
    distances
        (B, B), finite.
    measured
        (B, L) ones and zeros.
    """
    common = measured @ measured.T
    comparable = common > 0
    scaled: _Array = distances * (measured.shape[1] / common.clip(min=1)) ** 0.5 * comparable
    filled: _Array = scaled + scaled.max() * ~comparable
    return filled
