"""Augmentation of training windows; evaluation never sees it. Tensors are (B, 12, T) millivolts.

There is no gain and no warp: the amplitude of a P wave and the length of an interval are what is learned from.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_windows(ecg_mv: Tensor, *, max_samples: int, generator: torch.Generator) -> Tensor:
    """Shift each window by a uniform number of samples in [-max, max]; the edge that opens is zero.

    Zero rather than rolled round: a roll would put a step, and a beat that never was, in the middle of the window;
    after the front end's high-pass a short stretch of zero is the baseline.
    """
    if max_samples == 0:
        return ecg_mv
    batch, _, n = ecg_mv.shape
    shift = torch.randint(-max_samples, max_samples + 1, (batch, 1), generator=generator)
    source = torch.arange(n) - shift
    inside = ((source >= 0) & (source < n)).to(ecg_mv.device)
    index = source.clamp(0, n - 1).to(ecg_mv.device)
    shifted = ecg_mv.gather(2, index[:, None, :].expand_as(ecg_mv))
    return shifted * inside[:, None, :]


def add_noise(ecg_mv: Tensor, *, sd_mv: float, generator: torch.Generator) -> Tensor:
    """Add white noise to every lead; leads that are not measured are zeroed by the lead mask afterwards."""
    if sd_mv == 0:
        return ecg_mv
    noise = torch.randn(ecg_mv.shape, generator=generator).to(ecg_mv.device)
    return ecg_mv + sd_mv * noise
