"""Augmentation of training windows; evaluation never sees it. Tensors are (B, 12, T) millivolts.

There is no gain and no warp: the amplitude of a P wave and the length of an interval are what is learned from.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_shifts(batch: int, *, max_samples: int, generator: torch.Generator) -> Tensor:
    """Return (B,) uniform shifts in [-max, max] samples."""
    return torch.randint(-max_samples, max_samples + 1, (batch, 1), generator=generator)[:, 0]


def shift_windows(ecg_mv: Tensor, shifts: Tensor) -> Tensor:
    """Shift each window by its (B,) number of samples; the edge that opens is zero.

    Zero rather than rolled round: a roll would put a step, and a beat that never was, in the middle of the window;
    after the front end's high-pass a short stretch of zero is the baseline.
    """
    n = ecg_mv.shape[2]
    source = torch.arange(n, device=ecg_mv.device) - shifts.to(ecg_mv.device)[:, None]
    inside = (source >= 0) & (source < n)
    index = source.clamp(0, n - 1)
    shifted = ecg_mv.gather(2, index[:, None, :].expand_as(ecg_mv))
    return shifted * inside[:, None, :]


def add_noise(ecg_mv: Tensor, *, sd_mv: float, generator: torch.Generator) -> Tensor:
    """Add white noise to every lead; leads that are not measured are zeroed by the lead mask afterwards.

    Drawn where `generator` lives: on a GPU, drawing 30,000 numbers a window on the CPU would take longer than the
    training step.
    """
    if sd_mv == 0:
        return ecg_mv
    noise = torch.randn(ecg_mv.shape, generator=generator, device=generator.device).to(ecg_mv.device)
    return ecg_mv + sd_mv * noise
