"""RhcNet: the dense-block network behind RHCnet and CHAIS.

Schlesinger et al., "A deep learning model for inferring elevated pulmonary capillary wedge pressures from the
12-lead electrocardiogram", JACC: Advances 2022 (1:100003); CHAIS, Communications Medicine 2025 (5:4), takes the
same graph.

Symbols: B batch, T samples (5,000 at 500 Hz, 10 s), E = 416.
Convolutions have k=16, "same" padding, a bias and swish; max-pools take 4 and drop the rest. Stem of 32 channels,
then five blocks of 16, 44, 72, 100 and 128 channels. In a block each of the three convolutions reads the block's
input and all earlier outputs, and only the last output leaves it.
Lengths for T=5000: 5000, 1250, 312, 78, 19, 4; flattened 512, then a linear layer to E. No norm layer anywhere.
Parameters: 3,011,576 to the embedding, 3,042,660 with `RhcHead`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgedge_train.encoders.channels_last import to_channels_last
from ecgedge_train.encoders.resample import LinearResample

Probability = TypeVar("Probability", Tensor, NDArray[np.floating], float)

EMBEDDING_SIZE = 416
STEM_CHANNELS = 32
WIDTHS = (16, 44, 72, 100, 128)
KERNEL = 16
# The linear layer reads 4 time steps, and each of five pools divides by 4.
_FEWEST_SAMPLES, _TOO_MANY_SAMPLES = 4 * 4**5, 5 * 4**5
# Below the smallest spread that a 0.24 uV step in one sample of a record can make: only a flat record is under it.
_FLAT_MV = 1e-6

HEAD_WIDTHS = (64, 48, 24)
HEAD_OUTPUTS = ("logit_mpap_gt_20", "logit_mpcwp_gt_15", "logit_pvr_gt_3", "logit_co_gt_4")


class DenseBlock(nn.Module):
    """Three convolutions, each over the block's input and all earlier outputs; the last output leaves."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in + i * n_out, n_out, (1, KERNEL), padding=(0, KERNEL // 2)) for i in range(3)
        )
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, 1, T) to (B, n_out, 1, T)."""
        first, second, last = self.convs
        x = torch.cat([x, self.swish(_same(first(x)))], dim=1)
        x = torch.cat([x, self.swish(_same(second(x)))], dim=1)
        out: Tensor = self.swish(_same(last(x)))
        return out


class RhcNet(nn.Module):
    """The published encoder, E = 416.

    The published input is z-scored: one mean and one standard deviation over all samples and leads of an ECG. An
    absent lead, zero, would then move the statistics and turn into an offset; so the statistics here are taken
    over the leads that `presence` names, and absent leads are zero behind it. With all 12 leads present, and with
    `presence=None`, it is the published z-score.

    Parameters
    ----------
    dropout
        On the embedding, in training only. The published encoder has none of its own (its dropout of 0.5 is that
        of `RhcHead`, behind each of the three hidden layers).
    resample_samples
        Length that every input is brought to first, 5,000 as published; 0 takes it as it is.

    Attributes
    ----------
    stem
        First convolution over the leads, (32, 12, 1, 16), linear with a bias. It reads z-scored leads: a fold over
        the K measured leads x_K holds as stem(z) = (conv(x_K; W D) - mean * conv(v 1; W)) / sd + bias.
    presence
        None: the presence vector enters through the z-score only.

    Raises
    ------
    ValueError
        If `resample_samples` is not 0 and does not leave the 4 time steps that the last layer reads.
    """

    presence = None
    embedding_size = EMBEDDING_SIZE

    def __init__(self, *, dropout: float = 0.5, resample_samples: int = 5000) -> None:
        super().__init__()
        if resample_samples:
            _require_length(resample_samples)
        self.resample = LinearResample(resample_samples)
        self.stem = nn.Conv2d(12, STEM_CHANNELS, (1, KERNEL), padding=(0, KERNEL // 2))
        self.swish = nn.SiLU()
        self.pool = nn.MaxPool2d((1, 4))
        self.blocks = nn.ModuleList()
        n_in = STEM_CHANNELS
        for width in WIDTHS:
            self.blocks.append(DenseBlock(n_in, width))
            n_in = width
        self.fc = nn.Linear(4 * n_in, EMBEDDING_SIZE)
        self.dropout = nn.Dropout(dropout)
        _init_glorot(self)
        to_channels_last(self)

    def forward(self, ecg_mv: Tensor, presence: Tensor | None = None) -> Tensor:
        """Encode.

        Parameters
        ----------
        ecg_mv
            (B, 12, T) or (B, 12, 1, T) millivolts, absent leads zero.
        presence
            (B, 12), 1 where a lead is measured or derived; None: all are.

        Returns
        -------
        Tensor
            (B, 416).

        Raises
        ------
        ValueError
            If the signal, resampled or not, does not leave 4 time steps (4,096 to 5,119 samples do).
        """
        return self.after_stem(self.stem(self.before_stem(ecg_mv, presence)))

    def before_stem(self, ecg_mv: Tensor, presence: Tensor | None = None) -> Tensor:
        """(B, 12, T) or (B, 12, 1, T) to (B, 12, 1, n_samples): resampled, z-scored, absent leads zero."""
        x = self.resample(ecg_mv.unsqueeze(2) if ecg_mv.dim() == 3 else ecg_mv)
        _require_length(x.shape[-1])
        if presence is None:
            presence = x.new_ones(x.shape[:2])
        return z_score(x, presence).contiguous(memory_format=torch.channels_last)

    def after_stem(self, y: Tensor) -> Tensor:
        """(B, 32, 1, n_samples + 1), the stem's output, to (B, 416)."""
        y = self.swish(_same(y))
        for block in self.blocks:
            y = block(self.pool(y))
        # Keras flattens time before channels.
        flat = y.squeeze(2).transpose(1, 2).flatten(1)
        out: Tensor = self.dropout(self.fc(flat))
        return out


class RhcHead(nn.Module):
    """The published head: three hidden layers, four targets.

    Parameters
    ----------
    embedding_size
        Of the encoder; 416 as published.
    dropout
        Behind each hidden layer; 0.5 as published.
    """

    def __init__(self, embedding_size: int = EMBEDDING_SIZE, *, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = embedding_size
        for width in HEAD_WIDTHS:
            layers += [nn.ReLU(), nn.Linear(n_in, width), nn.Dropout(dropout)]
            n_in = width
        self.hidden = nn.Sequential(*layers)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(n_in, len(HEAD_OUTPUTS))
        _init_glorot(self)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return `HEAD_OUTPUTS`, each (B,): mPAP > 20, mPCWP > 15 mmHg, PVR > 3 WU, CO > 4 L/min."""
        logits = self.fc(self.hidden(embedding))
        return dict(zip(HEAD_OUTPUTS, logits.unbind(1), strict=True))


def unreliability(p_mpap: Probability, p_mpcwp: Probability, p_pvr: Probability) -> Probability:
    """Return U = |p(mPAP) - p(PH)|, the published self-consistency score.

    Pulmonary pressure is high when the wedge pressure or the resistance is: p(PH) = p1 + p2 - p1 p2 with p1 the
    probability of mPCWP > 15 and p2 that of PVR > 3. The paper marks a prediction above 0.15 as unreliable.

    Parameters
    ----------
    p_mpap, p_mpcwp, p_pvr
        Probabilities of one shape.
    """
    return abs(p_mpap - (p_mpcwp + p_pvr - p_mpcwp * p_pvr))


def z_score(x: Tensor, presence: Tensor) -> Tensor:
    """Subtract one mean and divide by one standard deviation a record, over its present leads.

    Parameters
    ----------
    x
        (B, 12, 1, T).
    presence
        (B, 12), 0 or 1.

    Returns
    -------
    Tensor
        The shape of `x`; zeros in absent leads, and everywhere in a flat record.
    """
    mask = presence[:, :, None, None].to(x.dtype)
    n = (mask.sum(dim=(1, 2, 3), keepdim=True) * x.shape[-1]).clamp_min(1.0)
    mean = (x * mask).sum(dim=(1, 2, 3), keepdim=True) / n
    centred = (x - mean) * mask
    variance = centred.square().sum(dim=(1, 2, 3), keepdim=True) / n
    # Clamped before the root, whose slope at zero is infinite.
    return centred / variance.clamp_min(_FLAT_MV**2).sqrt()


def _same(y: Tensor) -> Tensor:
    """Drop the first output of a convolution padded by 8 and 8: TensorFlow's "same" has 7 before the signal."""
    return y[..., 1:]


def _require_length(n_samples: int) -> None:
    if not _FEWEST_SAMPLES <= n_samples < _TOO_MANY_SAMPLES:
        raise ValueError(
            f"RhcNet reads {_FEWEST_SAMPLES} to {_TOO_MANY_SAMPLES - 1} samples, not {n_samples}; "
            "set resample_samples=5000"
        )


def _init_glorot(net: nn.Module) -> None:
    """Draw Keras' default initial weights."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
