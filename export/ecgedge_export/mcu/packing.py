"""Weights in the order in which the C reads them; see kernels/convolution.c."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgedge_export.mcu.program import Convolution

_FOUR = (0, 2, 1, 3)


@dataclass(frozen=True)
class Runs:
    """The pieces of memory that one output reads: how many, their length in fours, from one start to the next."""

    n: int
    length: int
    between: int

    @property
    def fours(self) -> int:
        """Length in fours, rounded up."""
        return -(-self.length // 4)


def runs_of(step: Convolution) -> Runs:
    """Return one run if all that an output reads is one piece, else one a tap."""
    _, kernel, per_group = step.weight.shape
    if step.groups == 1 and step.dilation == 1:
        return Runs(1, kernel * per_group, 0)
    return Runs(kernel, per_group, step.dilation * step.source.channels)


def packed_weights(step: Convolution) -> NDArray[np.int8]:
    """Return a convolution's weights, flat: see the head of kernels/convolution.c."""
    runs, n_out = runs_of(step), len(step.weight)
    rows = step.weight.reshape(step.groups, n_out // step.groups, runs.n, runs.length)
    odd = rows.shape[1] % 2
    rows = np.pad(rows, ((0, 0), (0, odd), (0, 0), (0, 4 * runs.fours - runs.length)))
    fours = rows.reshape(step.groups, -1, 2, runs.n, runs.fours, 4)[..., _FOUR]
    return np.ascontiguousarray(fours.transpose(0, 1, 3, 4, 2, 5)).ravel()


def depthwise_weights(step: Convolution) -> NDArray[np.int8]:
    """Return (tap, channel out), flat."""
    return np.ascontiguousarray(step.weight[:, :, 0].T).ravel()
