"""Weights in the memory order that convolutions in bfloat16, and on tensor cores, want."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(module: nn.Module) -> None:
    """Bring every rank-4 weight of the module into channels-last order, in place."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
