"""The encoder of W2V+CMSC+RLM: a convolution stem and a transformer.

Oh, Chung, Kwon, Hong and Choi, "Lead-agnostic self-supervised learning for local and global representations of
electrocardiogram", CHIL 2022 (PMLR 174, 338-353). After wav2vec 2.0 (Baevski et al., NeurIPS 2020).

Symbols: B batch, T samples, N tokens (T // 16), C convolution width (256), D transformer width (768).
Parameters of "base" (12 layers): 90,374,016, and 90,883,072 with the pretraining head of quantizer.py; of "small"
(8 layers): 62,531,584 with the head. Ours has 3,328 more, the presence vector's, which start at zero: a published
network stays what it was.

Lead sets: the stem is linear over the leads, so a K-lead network folds into its weights. The presence vector goes in
behind the first norm, not before it: that norm subtracts each channel's mean over time, and a constant added ahead
of it would vanish. So `presence` is None (nothing folds into the stem's bias) and a K-lead network has
`stem_norm.bias + lead_shift(presence vector)` instead.

Windows: that first norm is taken over the whole crop and the transformer looks both ways, so an embedding belongs to
a window of one length and cannot be carried on sample by sample. A bed cuts whole windows, which are the same
however the stream was chunked, so nothing is lost there; a causal norm alone would not make this network causal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ecgedge_train.encoders.resample import LinearResample
from ecgedge_train.encoders.w2v_conv import N_CONVS, PositionalConv, count_tokens, scale_gradient
from ecgedge_train.encoders.w2v_transformer import TransformerLayer


@dataclass(frozen=True)
class W2vSize:
    """Widths of a network: `conv_width` is C, `width` is D."""

    conv_width: int = 256
    width: int = 768
    feedforward: int = 3072
    layers: int = 12
    heads: int = 12
    positional_kernel: int = 128
    positional_groups: int = 16


SizeName = Literal["base", "small", "tiny"]

SIZES: dict[SizeName, W2vSize] = {
    "base": W2vSize(),
    "small": W2vSize(layers=8),
    # Ours, to be trained on a CPU: 1.0 million parameters, a hundredth of the multiplications of "base".
    "tiny": W2vSize(conv_width=64, width=128, feedforward=512, layers=4, heads=4),
}


class Tokens(NamedTuple):
    """What pretraining needs of a batch.

    `context` (B, N, D) leaves the transformer; `features` (B, N, C) are the normed convolution outputs before
    masking, for the quantizer; `penalty` is the mean square of the raw convolution outputs.
    """

    context: Tensor
    features: Tensor
    penalty: Tensor


class W2vEncoder(nn.Module):
    """The encoder; its embedding is the mean of the transformer's outputs over time.

    Parameters
    ----------
    size
        "base", "small" (both published), "tiny", or explicit widths.
    dropout
        On the inputs of transformer and quantizer, in attention and behind each sub-layer; 0.1 as published.
    resample_samples
        Length to which a window is resampled first; 0 takes it as it is. Published networks want 500 Hz: 5000 for
        our windows of 10 s.
    feature_gradient
        Factor on the gradient into the convolutions; 0.1 as published, 1 when training without a quantizer.
    checkpointing
        Compute each transformer layer again in the backward pass instead of keeping its activations.

    Attributes
    ----------
    embedding_size
        D.
    stem
        First convolution over the leads, (C, 12, 2), stride 2, no bias.
    presence
        None; see the head of this file.
    lead_shift
        Linear(12, C): the presence vector as a bias per channel behind the first norm; zero at the start.
    """

    presence = None

    def __init__(
        self,
        *,
        size: SizeName | W2vSize = "tiny",
        dropout: float = 0.1,
        resample_samples: int = 0,
        feature_gradient: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.size = size if isinstance(size, W2vSize) else SIZES[size]
        conv_width, width = self.size.conv_width, self.size.width
        self.embedding_size = width
        self.resample_samples = resample_samples
        self.feature_gradient = feature_gradient
        self.checkpointing = checkpointing
        self.resample = LinearResample(resample_samples)
        self.stem = nn.Conv1d(12, conv_width, 2, stride=2, bias=False)
        self.stem_norm = nn.GroupNorm(conv_width, conv_width)
        self.lead_shift = nn.Linear(12, conv_width)
        self.convs = nn.ModuleList(
            nn.Conv1d(conv_width, conv_width, 2, stride=2, bias=False) for _ in range(N_CONVS - 1)
        )
        self.feature_norm = nn.LayerNorm(conv_width)
        self.projection = nn.Linear(conv_width, width)
        self.mask_embedding = nn.Parameter(torch.empty(width))
        self.layers = nn.ModuleList(
            TransformerLayer(width, feedforward=self.size.feedforward, heads=self.size.heads, dropout=dropout)
            for _ in range(self.size.layers)
        )
        self.dropout = nn.Dropout(dropout)
        self._init_weights()
        # Behind the general rule, because it has its own.
        self.positional = PositionalConv(
            width, kernel=self.size.positional_kernel, groups=self.size.positional_groups
        )
        self.context_norm = nn.LayerNorm(width)

    def forward(self, ecg_mv: Tensor, presence: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        ecg_mv
            (B, 12, T) float32 millivolts, absent leads zero.
        presence
            (B, 12), 1 where a lead is measured or derived.

        Returns
        -------
        Tensor
            (B, D).
        """
        # Over all tokens: the published pooling divides by the count of non-zero entries, which lets a real zero
        # bias the mean and makes an all-zero channel NaN.
        return self.tokens(ecg_mv, presence).context.mean(dim=1)

    def tokens(self, ecg_mv: Tensor, presence: Tensor, token_mask: Tensor | None = None) -> Tokens:
        """Encode without pooling.

        Parameters
        ----------
        ecg_mv, presence
            As for `forward`.
        token_mask
            (B, N) bool, True where a token is replaced by the learned mask vector.

        Raises
        ------
        ValueError
            If the mask has another shape than (B, N).
        """
        raw = scale_gradient(
            self._convolve(self.stem(self.resample(ecg_mv)), presence), self.feature_gradient
        )
        features = self.feature_norm(raw.transpose(1, 2))
        x = self.dropout(self.projection(features))
        if token_mask is not None:
            if token_mask.shape != x.shape[:2]:
                raise ValueError(f"the mask is {tuple(token_mask.shape)}, the tokens {tuple(x.shape[:2])}")
            hidden = token_mask.to(x.device)[:, :, None]
            x = torch.where(hidden, self.mask_embedding.to(x.dtype), x)
        return Tokens(self._transform(x), self.dropout(features), raw.float().square().mean())

    def n_tokens(self, n_samples: int) -> int:
        """Return N for windows of T samples, resampling included."""
        return count_tokens(self.resample_samples or n_samples)

    def _convolve(self, stem_output: Tensor, presence: Tensor) -> Tensor:
        """(B, C, T / 2) behind the stem to (B, C, N)."""
        y = functional.gelu(self.stem_norm(stem_output) + self.lead_shift(presence)[:, :, None])
        for conv in self.convs:
            y = functional.gelu(conv(y))
        return y

    def _transform(self, x: Tensor) -> Tensor:
        x = self.dropout(self.context_norm(x + self.positional(x)))
        for layer in self.layers:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return x

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.lead_shift.weight)
        nn.init.uniform_(self.mask_embedding)
