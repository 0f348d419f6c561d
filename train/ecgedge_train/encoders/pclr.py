"""The residual network of PCLR.

Diamant et al., "Patient contrastive learning: a performant, expressive, and practical approach to
electrocardiogram modeling", PLoS Computational Biology 2022 (e1009862); published graphs for 12 leads, lead I and
lead II.

Symbols: B batch, T samples, s stride of a unit, E = 320.
A stem, then four pre-activation units after Ribeiro et al. 2020, each with two streams x (activated) and y (sum):
    y = conv1(maxpool_s(y));  x = relu(bn(conv16(x)));  y = conv16_s(x) + y;  x = relu(bn(y))
and the mean of x over time is the embedding. Every norm has eps 1e-3 and momentum 0.99 (0.01 as torch counts).

| variant | input            | stem               | strides    | lengths            | parameters |
|---------|------------------|--------------------|------------|--------------------|------------|
| 12      | 12 leads x 4,096 | conv16, norm, relu | 4, 4, 4, 4 | 1024, 256, 64, 16  | 6,394,912  |
| I       | lead I x 4,096   | conv16, norm, relu | 4, 4, 4, 4 | 1024, 256, 64, 16  | 6,383,648  |
| II      | lead II x 2,500  | conv16, relu       | 2, 4, 4, 4 | 1250, 313, 79, 20  | 6,383,392  |
| C3PO    | 12 leads x 2,500 | conv16, norm, relu | 2, 4, 4, 4 | 1250, 313, 79, 20  | 6,394,912  |

(Parameters as Keras counts them: running means and variances included.) Inputs are 10 s in millivolts, brought to
that many samples by linear interpolation, with no filter and no scaling.

TensorFlow's "same" padding is kept to the sample: out = ceil(n / s), p = max((out - 1) s + k - n, 0), of which
p // 2 stand before the signal. For k=16 that is 7 before and 8 after at stride 1, 6 and 6 at stride 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.encoders.channels_last import to_channels_last
from ecgedge_train.encoders.resample import LinearResample

Variant = Literal["12", "I", "II", "C3PO"]

EMBEDDING_SIZE = 320
STEM_CHANNELS = 64
WIDTHS = (128, 196, 256, 320)
KERNEL = 16
# Keras truncates its normal initializer at two standard deviations and widens it to keep the variance.
_TRUNCATED_SD = 0.87962566103423978


@dataclass(frozen=True)
class VariantSpec:
    """What tells one published graph from another."""

    leads: tuple[str, ...]
    n_samples: int
    stem_norm: bool
    first_stride: int


VARIANTS: dict[str, VariantSpec] = {
    "12": VariantSpec(STANDARD_LEADS, 4096, stem_norm=True, first_stride=4),
    "I": VariantSpec(("I",), 4096, stem_norm=True, first_stride=4),
    "II": VariantSpec(("II",), 2500, stem_norm=False, first_stride=2),
    "C3PO": VariantSpec(STANDARD_LEADS, 2500, stem_norm=True, first_stride=2),
}


def same_padding(n: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many samples TensorFlow's "same" puts before and after a signal of `n` samples."""
    out = -(-n // stride)
    total = max((out - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv2d):
    """A convolution over time, height 1, without bias, padded as TensorFlow's "same"."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(n_in, n_out, (1, kernel), stride=(1, stride), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, 1, T) to (B, n_out, 1, ceil(T / stride))."""
        before, after = same_padding(x.shape[-1], kernel=self.kernel_size[1], stride=self.stride[1])
        # Equal padding goes to the convolution itself, which then needs no padded copy of its input.
        if before == after:
            return functional.conv2d(x, self.weight, stride=self.stride, padding=(0, before))
        return functional.conv2d(functional.pad(x, (before, after)), self.weight, stride=self.stride)


class SameMaxPool(nn.Module):
    """Maximum over `stride` samples, padded as TensorFlow's "same", with minus infinity."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) to (B, C, 1, ceil(T / stride))."""
        padding = same_padding(x.shape[-1], kernel=self.stride, stride=self.stride)
        if padding != (0, 0):
            x = functional.pad(x, padding, value=-math.inf)
        return functional.max_pool2d(x, (1, self.stride))


class Unit(nn.Module):
    """One residual unit over the two streams."""

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = SameConv(n_in, n_out, KERNEL)
        self.bn1 = _norm(n_out)
        self.conv2 = SameConv(n_out, n_out, KERNEL, stride=stride)
        self.pool = SameMaxPool(stride)
        self.shortcut = SameConv(n_in, n_out, 1)
        self.bn2 = _norm(n_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (activated, sum), (B, n_out, 1, ceil(T / stride)) each, from the same of the unit before."""
        total = self.conv2(self.relu(self.bn1(self.conv1(x)))) + self.shortcut(self.pool(y))
        return self.relu(self.bn2(total)), total


class PclrResNet(nn.Module):
    """The published encoder of PCLR, E = 320.

    Parameters
    ----------
    variant
        "12", "I", "II" or "C3PO": see the table at the head of this file.
    resample_samples
        Length that every input is brought to first; 0 takes it as it is. The published lengths are
        `VARIANTS[variant].n_samples`.

    Attributes
    ----------
    stem
        First convolution over the leads, (64, 12 or 1, 1, 16). Its padding is 8 on both sides, one more than
        "same" has before the signal, and `after_stem` drops the first output: the same numbers, from a
        convolution that an exporter can fold lead sets into.
    stem_leads
        The rows of the 12 leads that the stem reads.
    presence
        None: this network does not look at the presence vector.

    Raises
    ------
    ValueError
        If the variant is unknown.
    """

    presence = None
    embedding_size = EMBEDDING_SIZE

    def __init__(self, *, variant: Variant = "12", resample_samples: int = 0) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"unknown PCLR variant {variant!r}; known: {', '.join(get_args(Variant))}")
        spec = VARIANTS[variant]
        self.variant = variant
        self.stem_leads = tuple(STANDARD_LEADS.index(lead) for lead in spec.leads)
        self.resample = LinearResample(resample_samples)
        self.stem = nn.Conv2d(
            len(spec.leads), STEM_CHANNELS, (1, KERNEL), padding=(0, KERNEL // 2), bias=False
        )
        self.stem_bn: nn.Module = _norm(STEM_CHANNELS) if spec.stem_norm else nn.Identity()
        self.relu = nn.ReLU()
        self.units = nn.ModuleList()
        n_in = STEM_CHANNELS
        for width, stride in zip(WIDTHS, (spec.first_stride, 4, 4, 4), strict=True):
            self.units.append(Unit(n_in, width, stride=stride))
            n_in = width
        _init_convolutions(self)
        to_channels_last(self)

    def forward(self, ecg_mv: Tensor, presence: Tensor | None = None) -> Tensor:
        """(B, 12, T) or (B, 12, 1, T) millivolts to (B, 320); `presence` (B, 12) is not used."""
        del presence
        return self.after_stem(self.stem(self.before_stem(ecg_mv)))

    def before_stem(self, ecg_mv: Tensor) -> Tensor:
        """(B, 12, T) or (B, 12, 1, T) to (B, 12 or 1, 1, n_samples): the leads read, resampled."""
        x = ecg_mv.unsqueeze(2) if ecg_mv.dim() == 3 else ecg_mv
        if len(self.stem_leads) == 1:
            x = x[:, self.stem_leads[0]].unsqueeze(1)
        out: Tensor = self.resample(x).contiguous(memory_format=torch.channels_last)
        return out

    def after_stem(self, y: Tensor) -> Tensor:
        """(B, 64, 1, n_samples + 1), the stem's output, to (B, 320)."""
        x: Tensor = self.relu(self.stem_bn(y[..., 1:]))
        y = x
        for unit in self.units:
            x, y = unit(x, y)
        return x.mean(dim=(2, 3))


def _norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=1e-3, momentum=0.01)


def _init_convolutions(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            sd = math.sqrt(2.0 / (module.in_channels * module.kernel_size[1])) / _TRUNCATED_SD
            nn.init.trunc_normal_(module.weight, 0.0, sd, -2 * sd, 2 * sd)
