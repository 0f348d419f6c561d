"""What W2V pretraining has beside the encoder: the product quantizer and the two projections.

Oh et al., CHIL 2022 (PMLR 174), after wav2vec 2.0 (Baevski et al., NeurIPS 2020, sections 2 and 3.2) and
Jang et al., "Categorical reparameterization with Gumbel-softmax", ICLR 2017.

Symbols: B batch, N tokens, M masked tokens of a row, C width of the features, D of the context, G groups (2),
V codes of a group (320), F width of targets and predictions (256).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgedge_train.encoders.w2v import Tokens


def gumbel_temperature(
    update: int, *, start: float = 2.0, floor: float = 0.5, decay: float = 0.999995
) -> float:
    """Return the temperature at an optimiser step, max(floor, start * decay^update): 0.5 from 277,259 on."""
    return float(max(floor, start * decay**update))


class Quantized(NamedTuple):
    """Quantized features.

    `vectors` (..., F); `codes` (..., G) int64, the code that each group chose; `prob_perplexity` and
    `code_perplexity`, scalars from G to G V: of the mean probability of the codes, and of how often they win.
    """

    vectors: Tensor
    codes: Tensor
    prob_perplexity: Tensor
    code_perplexity: Tensor


class GumbelQuantizer(nn.Module):
    """One code of V in each of G groups; a straight-through Gumbel-softmax in training, the best code in eval mode.

    The Gumbel noise comes from torch's own generator, like that of dropout.
    """

    def __init__(self, feature_size: int, *, groups: int = 2, codes: int = 320, size: int = 256) -> None:
        super().__init__()
        if size % groups:
            raise ValueError(f"{size} values cannot be shared among {groups} groups")
        self.groups, self.codes = groups, codes
        self.codebook = nn.Parameter(torch.empty(groups, codes, size // groups))
        self.to_logits = nn.Linear(feature_size, groups * codes)
        nn.init.uniform_(self.codebook)
        nn.init.normal_(self.to_logits.weight)
        nn.init.zeros_(self.to_logits.bias)

    def forward(self, features: Tensor, *, temperature: float = 1.0) -> Quantized:
        """(..., C) to `Quantized`; `temperature` counts in training only."""
        # float32 also under autocast: bfloat16 logits would let rounding choose among 320 codes.
        with torch.autocast(features.device.type, enabled=False):
            return self._quantize(features.to(self.codebook.dtype), temperature)

    def _quantize(self, features: Tensor, temperature: float) -> Quantized:
        logits = self.to_logits(features).view(*features.shape[:-1], self.groups, self.codes)
        best = functional.one_hot(logits.argmax(dim=-1), self.codes).to(logits.dtype)
        chosen = functional.gumbel_softmax(logits, tau=temperature, hard=True) if self.training else best
        vectors = torch.einsum("...gv,gvd->...gd", chosen, self.codebook).flatten(-2)
        return Quantized(
            vectors, chosen.argmax(dim=-1), perplexity(logits.softmax(dim=-1)), perplexity(best).detach()
        )


def perplexity(shares: Tensor) -> Tensor:
    """Return the sum over groups of exp(entropy) of the mean of (..., G, V) probabilities."""
    mean = shares.flatten(0, -3).mean(dim=0)
    return (-(mean * (mean + 1e-7).log()).sum(dim=-1)).exp().sum()


class Predictions(NamedTuple):
    """Both sides of the contrast, for the M masked tokens of each row in order of time.

    `predicted` and `targets` (B, M, F), not unit vectors; `codes` (B, M, G) of the targets; `prob_perplexity` and
    `code_perplexity` as in `Quantized`; `n_codes` is G V.
    """

    predicted: Tensor
    targets: Tensor
    codes: Tensor
    prob_perplexity: Tensor
    code_perplexity: Tensor
    n_codes: int


class W2vHead(nn.Module):
    """Predicts the quantized features of hidden tokens from their context; serves pretraining only.

    Parameters
    ----------
    feature_size, context_size
        C and D of the encoder.
    groups, codes, quantized_size, final_size
        G, V, the quantizer's width, and F.
    """

    def __init__(
        self,
        feature_size: int,
        context_size: int,
        *,
        groups: int = 2,
        codes: int = 320,
        quantized_size: int = 256,
        final_size: int = 256,
    ) -> None:
        super().__init__()
        self.quantizer = GumbelQuantizer(feature_size, groups=groups, codes=codes, size=quantized_size)
        self.project_target = nn.Linear(quantized_size, final_size)
        self.project_context = nn.Linear(context_size, final_size)

    def forward(self, tokens: Tokens, token_mask: Tensor, *, temperature: float = 1.0) -> Predictions:
        """Predict.

        Parameters
        ----------
        tokens
            Of the encoder, with the same mask.
        token_mask
            (B, N) bool with M True in every row.
        temperature
            Of the quantizer, see `gumbel_temperature`.

        Raises
        ------
        ValueError
            If rows of the mask differ in their count.
        """
        quantized = self.quantizer(_masked(tokens.features, token_mask), temperature=temperature)
        return Predictions(
            self.project_context(_masked(tokens.context, token_mask)),
            self.project_target(quantized.vectors),
            quantized.codes,
            quantized.prob_perplexity,
            quantized.code_perplexity,
            self.quantizer.groups * self.quantizer.codes,
        )


def _masked(tokens: Tensor, token_mask: Tensor) -> Tensor:
    """(B, N, X) to (B, M, X)."""
    counts = token_mask.sum(dim=1)
    if bool((counts != counts[0]).any()):
        raise ValueError(
            f"rows of the mask hide {int(counts.min())} to {int(counts.max())} tokens; one count is needed"
        )
    return tokens[token_mask.to(tokens.device)].reshape(len(tokens), -1, tokens.shape[2])
