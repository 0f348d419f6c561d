"""EdgeNet: the small encoder that a bedside device runs.

A dense, narrow residual network written with rank-4 `Conv2d` of height 1, which every engine (ONNX Runtime,
TensorRT, OpenVINO) runs without reshapes. Dense rather than depthwise: at 16 to 64 channels a dense kernel is as
fast on these engines and keeps INT8 accurate.

Symbols: B batch, T samples (2,500 at 250 Hz), C channels, E embedding size.
The stem sees 68 ms at a stride of 8 ms, and no further step follows before the first residual block: the P wave's
duration (100 against 120 ms) and its terminal part in V1 (40 ms) have to survive.

Lead sets: the stem is linear over the leads and comes before any norm, and the presence vector enters as one bias
per channel right behind it. So a K-lead network is exact, not an approximation:
stem weight @ derivation matrix(K), bias = presence(presence vector(K)). See `ecgedge.leads`.

Sizes, at T=2500 and E=128: "s" has 84,480 weights and 14.4 M multiplications, "m" 507,456 and 75.0 M (5.2 times).

Causal: every convolution is padded before the signal only. The feature of time step j, j = 0, 1, ..., then sees the
samples 0 to 32 j and none after, so that features can be kept while a stream goes on; mean and maximum over time are
running statistics of them. The windows centred on a sample that the other form has see half of their context later.

Widths: a size names the channels of the stem and of each block. Structured pruning takes whole channels away, and then
the channels between the two convolutions of a block differ from those that leave it; `widths` names them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ecgedge_train.encoders.causal import conv_over_time, padded_stem

Size = Literal["s", "m"]

KERNELS = (7, 5, 5, 5)
STEM_KERNEL = 17
STEM_STRIDE = 2
N_WIDTHS = 1 + 2 * len(KERNELS)
"""Of the stem, and two of each block."""


@dataclass(frozen=True)
class SizeSpec:
    """Channels of the stem and of the four blocks."""

    stem: int
    widths: tuple[int, int, int, int]

    def all_widths(self) -> tuple[int, ...]:
        """Return the nine numbers of `EdgeNet.widths`."""
        return (self.stem, *(width for width in self.widths for _ in range(2)))


SIZES: dict[str, SizeSpec] = {
    "s": SizeSpec(16, (16, 32, 40, 64)),
    "m": SizeSpec(32, (32, 80, 128, 160)),
}


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, stride 2; `n_inner` channels between them."""

    def __init__(self, n_in: int, n_inner: int, n_out: int, *, kernel: int, causal: bool = False) -> None:
        super().__init__()
        self.conv1 = conv_over_time(n_in, n_inner, kernel, stride=2, causal=causal)
        self.bn1 = nn.BatchNorm2d(n_inner)
        self.conv2 = conv_over_time(n_inner, n_out, kernel, causal=causal)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, (1, 1), stride=(1, 2), bias=False), nn.BatchNorm2d(n_out)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, 1, T) to (B, n_out, 1, ceil(T / 2))."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class EdgeNet(nn.Module):
    """The device's encoder.

    Parameters
    ----------
    embedding_size
        E.
    dropout
        On the pooled features, in training only.
    size
        "s" for small devices, "m" with five times the work.
    causal
        Pad before the signal only; the names and shapes of the weights do not change.
    widths
        Channels of a pruned network: of the stem, then between the convolutions of each block and leaving it. Empty
        for those of `size`.

    Attributes
    ----------
    widths
        All nine, whatever they came from.
    stem
        First convolution over the leads, (widths[0], 12, 1, 17), stride 2, no bias. In the causal form its padding
        is 16 on both sides and `after_stem` drops the last 8 outputs, those that would look ahead: so it stays a
        convolution that an exporter can fold lead sets into.
    presence
        Linear(12, widths[0]): the presence vector as a bias per channel, added right after the stem.

    Raises
    ------
    ValueError
        If the size is unknown, or the widths are not nine.
    """

    def __init__(
        self,
        embedding_size: int = 128,
        *,
        dropout: float = 0.1,
        size: Size = "s",
        causal: bool = False,
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown EdgeNet size {size!r}; known: {', '.join(SIZES)}")
        self.widths = tuple(widths) or SIZES[size].all_widths()
        if len(self.widths) != N_WIDTHS:
            raise ValueError(f"{len(self.widths)} widths given; the stem and two a block make {N_WIDTHS}")
        n_stem, *of_blocks = self.widths
        self.embedding_size = embedding_size
        self.stem, self.ahead = padded_stem(n_stem, STEM_KERNEL, stride=STEM_STRIDE, causal=causal)
        self.presence = nn.Linear(12, n_stem)
        self.bn = nn.BatchNorm2d(n_stem)
        self.relu = nn.ReLU()
        blocks = []
        n_in = n_stem
        for n_inner, n_out, kernel in zip(of_blocks[::2], of_blocks[1::2], KERNELS, strict=True):
            blocks.append(ResidualBlock(n_in, n_inner, n_out, kernel=kernel, causal=causal))
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * n_in, embedding_size)
        self._init_weights()

    def forward(self, ecg_mv: Tensor, presence: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        ecg_mv
            (B, 12, T) or (B, 12, 1, T) float32 millivolts, absent leads zero.
        presence
            (B, 12), 1 where a lead is measured or derived.

        Returns
        -------
        Tensor
            (B, E).
        """
        x = ecg_mv.unsqueeze(2) if ecg_mv.dim() == 3 else ecg_mv
        y = self.stem(x) + self.presence(presence)[:, :, None, None]
        return self.after_stem(y)

    def after_stem(self, y: Tensor) -> Tensor:
        """Stem and presence summed, (B, C, 1, about T/2), to (B, E): shared with the folded K-lead network."""
        return self.from_features(self.time_features(y))

    def from_features(self, y: Tensor) -> Tensor:
        """Features over time, (B, C, 1, n), to (B, E)."""
        # The mean counts how much of the window shows a feature, the maximum whether any beat does.
        pooled = torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], dim=1)
        out: Tensor = self.fc(self.dropout(pooled))
        return out

    def time_features(self, y: Tensor) -> Tensor:
        """Stem and presence summed to the features before pooling, (B, C, 1, ceil(T / 32))."""
        if self.ahead:
            y = y[..., : -self.ahead]
        out: Tensor = self.blocks(self.relu(self.bn(y)))
        return out

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.presence.weight, 0.0, 0.1)
        nn.init.zeros_(self.presence.bias)
