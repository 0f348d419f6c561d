"""ResNet18 in one dimension, the encoder of SSL-DML.

Jeong, Stultz and Ghassemi, "Deep metric learning for the hemodynamics inference with electrocardiogram signals",
MLHC 2023 (PMLR 219).

Symbols: B batch, T samples (2,496 in the paper, 250 Hz), E embedding size.
Lengths for T=2496: stem 1248, max-pool 624, stages 624, 312, 156, 78.
Parameters: 8,803,072 (E=128), 8,868,736 (E=256), 8,737,921 (E=1, the supervised network).

Two things differ from the published code, on purpose. It draws the weights from N(0, 2/(k^2 Cout)), a formula
for two-dimensional kernels which is 3.9 times too small for the stem; `init="published"` keeps that, the default
is He's N(0, 2/(k Cout)). And it makes a new random last layer at every call of its embedding; ours is made once.

The layers are two-dimensional of height 1 with weights and activations in channels-last order: the same numbers
from the same kernels as the published Conv1d (whose weights load after `unsqueeze(2)`), and 1.1 times as many
training steps a second on a CPU, in float32 and under bfloat16 autocast alike.

Widths (ours, not published): structured pruning takes whole channels away. All that a stage adds up has the same
channels, and the first stage adds to what the stem gives, so a stage has one width for these and one for the inside of
each of its two blocks; `widths` names them all.

Causal (ours, not published): convolutions and the max-pool are padded before the signal only. The feature of time
step j then sees the samples 0 to 32 j and none after, so that features can be kept while a stream goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ecgedge_train.encoders.causal import CausalMaxPool2d, conv_over_time, padded_stem
from ecgedge_train.encoders.channels_last import to_channels_last

Init = Literal["he", "published"]

WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
N_WIDTHS = 3 * len(WIDTHS)
"""Three of each stage: of its sums, and inside its two blocks."""
STEM_KERNEL = 15
POOL = 3
KERNEL = 7


class BasicBlock(nn.Module):
    """Two convolutions (k=7) around a shortcut; dropout after the first ReLU, as published."""

    def __init__(
        self, n_in: int, n_inner: int, n_out: int, *, stride: int, dropout: float, causal: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = conv_over_time(n_in, n_inner, KERNEL, stride=stride, causal=causal)
        self.bn1 = nn.BatchNorm2d(n_inner)
        self.conv2 = conv_over_time(n_inner, n_out, KERNEL, causal=causal)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, (1, 1), stride=(1, stride), bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, 1, T) to (B, n_out, 1, ceil(T / stride))."""
        y = self.dropout(self.relu(self.bn1(self.conv1(x))))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class ResNet18(nn.Module):
    """The published ResNet18-1D.

    Parameters
    ----------
    embedding_size
        E, the width of the last linear layer.
    dropout
        After the first ReLU of each block; 0.2 as published.
    init
        "he" (right for one dimension) or "published" (see the head of this file).
    causal
        Pad before the signal only; the names and shapes of the weights do not change.
    widths
        Channels of a pruned network: of each stage's sums (the first's are the stem's), then inside its first and its
        second block. Empty for the published ones.

    Attributes
    ----------
    widths
        All twelve, whatever they came from.
    stem
        First convolution over the leads, (widths[0], 12, 1, 15): lead subsets fold into it. In the causal form it is
        padded on both sides and `time_features` drops the last 7 outputs, those that would look ahead.
    presence
        None: this network does not look at the presence vector.

    Raises
    ------
    ValueError
        If the widths are not twelve.
    """

    presence = None

    def __init__(
        self,
        embedding_size: int = 128,
        *,
        dropout: float = 0.2,
        init: Init = "he",
        causal: bool = False,
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.widths = tuple(widths) or tuple(width for width in WIDTHS for _ in range(3))
        if len(self.widths) != N_WIDTHS:
            raise ValueError(f"{len(self.widths)} widths given; three a stage make {N_WIDTHS}")
        self.embedding_size = embedding_size
        n_in = self.widths[0]
        self.stem, self.ahead = padded_stem(n_in, STEM_KERNEL, stride=2, causal=causal)
        self.bn1 = nn.BatchNorm2d(n_in)
        self.relu = nn.ReLU()
        self.maxpool = (
            CausalMaxPool2d((1, POOL), stride=(1, 2))
            if causal
            else nn.MaxPool2d((1, POOL), stride=(1, 2), padding=(0, 1))
        )
        self.stages = nn.Sequential()
        for stage, stride in enumerate(STRIDES):
            width, *inner = self.widths[3 * stage : 3 * stage + 3]
            first = BasicBlock(n_in, inner[0], width, stride=stride, dropout=dropout, causal=causal)
            second = BasicBlock(width, inner[1], width, stride=1, dropout=dropout, causal=causal)
            self.stages.append(nn.Sequential(first, second))
            n_in = width
        self.fc = nn.Linear(n_in, embedding_size)
        _init_convolutions(self, init)
        # Half of the gain: with weights in another order they would be rearranged at every call.
        to_channels_last(self)

    def forward(self, ecg_mv: Tensor, presence: Tensor | None = None) -> Tensor:
        """(B, 12, T) or (B, 12, 1, T) millivolts to (B, E); `presence` (B, 12) is not used."""
        del presence
        x = ecg_mv.unsqueeze(2) if ecg_mv.dim() == 3 else ecg_mv
        return self.after_stem(self.stem(x.contiguous(memory_format=torch.channels_last)))

    def after_stem(self, y: Tensor) -> Tensor:
        """(B, 64, 1, T/2), the stem's output, to (B, E): shared with the folded K-lead network."""
        return self.from_features(self.time_features(y))

    def from_features(self, y: Tensor) -> Tensor:
        """Features over time, (B, 512, 1, n), to (B, E)."""
        out: Tensor = self.fc(y.mean(dim=(2, 3)))
        return out

    def time_features(self, y: Tensor) -> Tensor:
        """Return the features before pooling, (B, 512, 1, ceil(T / 32)), of the stem's output."""
        if self.ahead:
            y = y[..., : -self.ahead]
        out: Tensor = self.stages(self.maxpool(self.relu(self.bn1(y))))
        return out


def _init_convolutions(net: nn.Module, init: Init) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            k, n_out = module.kernel_size[1], module.out_channels
            fan = k * n_out if init == "he" else k * k * n_out
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan))
