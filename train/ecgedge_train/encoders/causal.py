"""Layers over time that see the past only: padded before the signal, never behind it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class CausalConv2d(nn.Conv2d):
    """A convolution over time whose last input is the sample of its output; `padding` stays 0."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, 1, T) to (B, n_out, 1, ceil(T / stride))."""
        return super().forward(functional.pad(x, (self.kernel_size[1] - 1, 0)))


class CausalMaxPool2d(nn.MaxPool2d):
    """A maximum over the last samples of what a ReLU gave; `padding` stays 0."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, 1, T), not negative, to (B, n, 1, ceil(T / stride))."""
        # Zeros, not -inf: behind a ReLU they are the same, and an engine's 8 bits have no infinity.
        _, kernel = cast("tuple[int, int]", self.kernel_size)
        out: Tensor = super().forward(functional.pad(x, (kernel - 1, 0)))
        return out


def conv_over_time(n_in: int, n_out: int, kernel: int, *, stride: int = 1, causal: bool) -> nn.Conv2d:
    """Return a convolution (1, kernel) without bias, padded so that ceil(T / stride) samples come out."""
    if causal:
        return CausalConv2d(n_in, n_out, (1, kernel), stride=(1, stride), bias=False)
    return nn.Conv2d(n_in, n_out, (1, kernel), stride=(1, stride), padding=(0, kernel // 2), bias=False)


def padded_stem(n_out: int, kernel: int, *, stride: int, causal: bool) -> tuple[nn.Conv2d, int]:
    """Return the first convolution over 12 leads, and how many of its last outputs look ahead.

    The causal one is padded on both sides, and the encoder drops the last outputs: so it stays a convolution that an
    exporter can fold lead sets into.
    """
    padding = kernel - 1 if causal else kernel // 2
    stem = nn.Conv2d(12, n_out, (1, kernel), stride=(1, stride), padding=(0, padding), bias=False)
    return stem, (kernel - 1) // stride if causal else 0
