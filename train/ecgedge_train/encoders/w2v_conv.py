"""Convolutions of the W2V+CMSC+RLM encoder: lengths, the scaled gradient, the positional convolution.

Symbols: B batch, T samples, N tokens, C convolution width, D transformer width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

N_CONVS = 4
"""Convolutions of width 2 and step 2, without padding: one token is 16 samples and sees no others."""


def count_tokens(n_samples: int) -> int:
    """Return N for T samples: 2500 to 156, 5000 to 312, 1250 to 78."""
    for _ in range(N_CONVS):
        n_samples //= 2
    return n_samples


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """Return `x`, bit for bit, with its gradient multiplied by `scale`."""
    if scale == 1.0 or not x.requires_grad:
        return x
    kept = x.detach()
    return kept + scale * (x - kept)  # x - kept is an exact zero


class PositionalConv(nn.Module):
    """Relative position from a wide grouped convolution over the tokens.

    Weight norm runs over all but the kernel axis, as published: one gain per kernel position. With the published
    128 tokens it sees 4.1 s at 500 Hz, half of it in the future.
    """

    def __init__(self, width: int, *, kernel: int, groups: int) -> None:
        super().__init__()
        self.even = kernel % 2 == 0
        conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, 0.0, math.sqrt(4.0 / (kernel * width)))
        nn.init.zeros_(conv.bias if conv.bias is not None else conv.weight)
        self.conv = weight_norm(conv, dim=2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        y = self.conv(tokens.transpose(1, 2))
        if self.even:  # padding k/2 on both sides is one token too much
            y = y[:, :, :-1]
        return functional.gelu(y).transpose(1, 2)
