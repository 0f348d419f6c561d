"""Dropout whose mask costs a quarter on a CPU (Srivastava et al., JMLR 2014, 15:1929).

torch draws one random number an element, one after the other, which is 4 to 7 % of a training step of ResNet18. Here
each 64-bit number decides four elements by 16 bits each, so the probability is rounded to a 65,536th. On a GPU, and
outside training, this is `nn.Dropout`.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

LEVELS: Final = 1 << 16


class Dropout(nn.Dropout):
    """`nn.Dropout`, faster in training on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with elements set to zero at random, in any shape and memory order."""
        dropped = round(self.p * LEVELS)
        if not self.training or input.device.type != "cpu" or not 0 < dropped < LEVELS:
            return super().forward(input)
        return input * _kept(input, dropped).mul_(1 / (1 - self.p))


def _kept(x: Tensor, dropped: int) -> Tensor:
    """Return zeros and ones, zero with a probability of dropped / LEVELS, in shape, type and memory order of x."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = torch.empty_like(x)
    draws = words.view(torch.int16)[: x.numel()].as_strided(kept.size(), kept.stride())
    return torch.ge(draws, dropped - LEVELS // 2, out=kept)
