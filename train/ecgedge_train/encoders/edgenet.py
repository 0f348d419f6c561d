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
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 40, 64)
KERNELS = (7, 5, 5, 5)
STEM_CHANNELS = 16
STEM_KERNEL = 17


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, stride 2."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int) -> None:
        super().__init__()
        pad = (0, kernel // 2)
        self.conv1 = nn.Conv2d(n_in, n_out, (1, kernel), stride=(1, 2), padding=pad, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (1, kernel), padding=pad, bias=False)
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

    Attributes
    ----------
    stem
        First convolution over the leads, (16, 12, 1, 17), stride 2, no bias.
    presence
        Linear(12, 16): the presence vector as a bias per channel, added right after the stem.
    """

    def __init__(self, embedding_size: int = 128, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.stem = nn.Conv2d(
            12, STEM_CHANNELS, (1, STEM_KERNEL), stride=(1, 2), padding=(0, STEM_KERNEL // 2), bias=False
        )
        self.presence = nn.Linear(12, STEM_CHANNELS)
        self.bn = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU()
        blocks = []
        n_in = STEM_CHANNELS
        for width, kernel in zip(WIDTHS, KERNELS, strict=True):
            blocks.append(ResidualBlock(n_in, width, kernel=kernel))
            n_in = width
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
        """(B, 16, 1, T/2), stem and presence summed, to (B, E): shared with the folded K-lead network."""
        y = self.blocks(self.relu(self.bn(y)))
        # The mean counts how much of the window shows a feature, the maximum whether any beat does.
        pooled = torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], dim=1)
        out: Tensor = self.fc(self.dropout(pooled))
        return out

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.presence.weight, 0.0, 0.1)
        nn.init.zeros_(self.presence.bias)
