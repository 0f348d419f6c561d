"""Loss of W2V+CMSC+RLM.

Oh et al., CHIL 2022 (PMLR 174), after wav2vec 2.0 (Baevski et al., NeurIPS 2020, section 3.2).

Symbols: B crops, M masked tokens of a crop, K negatives (100) of a token, F width, T temperature (0.1),
c_i prediction and q_i target of token i, V codes in all (640).

    l_i = -log( exp(cos(c_i, q_i) / T) / sum over j in {i and K negatives} of exp(cos(c_i, q_j) / T) )
    loss = mean l_i + 0.1 (V - perplexity) / V + 10 mean(feature^2) + CMSC

Negatives are other masked tokens of the same crop; one whose target is the positive's own (the same codes) leaves
the sum. The published code adds up l_i and multiplies the rest by the number of tokens before it divides by it: the
same thing, because every row has the same number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.quantizer import Predictions


class W2vLoss(NamedTuple):
    """The loss and its weighted parts, scalars that add up to `total`."""

    total: Tensor
    info_nce: Tensor
    diversity: Tensor
    penalty: Tensor
    cmsc: Tensor


def w2v_loss(
    predictions: Predictions,
    negatives: Tensor,
    *,
    penalty: Tensor,
    cmsc: Tensor,
    temperature: float = 0.1,
    diversity_weight: float = 0.1,
    penalty_weight: float = 10.0,
    cmsc_weight: float = 1.0,
) -> W2vLoss:
    """Put the parts together.

    Parameters
    ----------
    predictions
        Of `W2vHead`.
    negatives
        (B, M, K), of `sample_negatives`.
    penalty
        Mean square of the convolution outputs, of `W2vEncoder.tokens`.
    cmsc
        Of `cmsc_loss`; a zero for plain W2V.
    temperature
        T.
    diversity_weight, penalty_weight, cmsc_weight
        Weights of the parts beside InfoNCE.
    """
    contrast = info_nce(
        predictions.predicted,
        predictions.targets,
        negatives,
        codes=predictions.codes,
        temperature=temperature,
    ).mean()
    spread = diversity_weight * diversity_loss(predictions.prob_perplexity, predictions.n_codes)
    size, pairs = penalty_weight * penalty, cmsc_weight * cmsc
    return W2vLoss(contrast + spread + size + pairs, contrast, spread, size, pairs)


def sample_negatives(batch: int, n_masked: int, *, generator: torch.Generator, count: int = 100) -> Tensor:
    """Draw, with replacement, K other masked tokens of the same crop for each masked token.

    Returns
    -------
    Tensor
        (B, M, K) int64 in [0, M) on the CPU, never a token's own number.

    Raises
    ------
    ValueError
        If M < 2.
    """
    if n_masked < 2:
        raise ValueError(f"{n_masked} masked tokens leave no negatives; mask at least 2")
    drawn = torch.randint(n_masked - 1, (batch, n_masked, count), generator=generator)
    return drawn + (drawn >= torch.arange(n_masked)[:, None])


def info_nce(
    predicted: Tensor, targets: Tensor, negatives: Tensor, *, codes: Tensor, temperature: float = 0.1
) -> Tensor:
    """Return the (B, M) terms l_i; for the parameters see `info_nce_logits`."""
    logits = info_nce_logits(predicted, targets, negatives, codes=codes, temperature=temperature)
    return logits.logsumexp(dim=-1) - logits[..., 0]


def info_nce_logits(
    predicted: Tensor, targets: Tensor, negatives: Tensor, *, codes: Tensor, temperature: float = 0.1
) -> Tensor:
    """Return cosines over temperature.

    Parameters
    ----------
    predicted, targets
        (B, M, F), of any length.
    negatives
        (B, M, K) numbers of tokens in [0, M).
    codes
        (B, M, G) integers; targets of the same codes are the same.
    temperature
        T.

    Returns
    -------
    Tensor
        (B, M, 1 + K): the positive, then the negatives, -inf where one is equal to the positive.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if predicted.shape != targets.shape or negatives.shape[:2] != targets.shape[:2]:
        shapes = [tuple(x.shape) for x in (predicted, targets, negatives)]
        raise ValueError(f"expected (B, M, F), (B, M, F) and (B, M, K), found {shapes}")
    negatives = negatives.to(targets.device)
    unit = functional.normalize(predicted.float(), dim=-1), functional.normalize(targets.float(), dim=-1)
    # All M x M cosines, of which K in a row are picked: copying the negatives out would take K F / M times the room.
    cosines = torch.einsum("bif,bjf->bij", *unit)
    # Codes, not vectors: one code's vectors may differ in their last bit between rows of a matrix product.
    same = (codes[:, :, None] == codes[:, None, :]).all(dim=-1)
    others = cosines.gather(2, negatives).masked_fill(same.gather(2, negatives), -torch.inf)
    return torch.cat([cosines.diagonal(dim1=1, dim2=2)[..., None], others], dim=-1) / temperature


def diversity_loss(prob_perplexity: Tensor, n_codes: int) -> Tensor:
    """Return (V - perplexity) / V: 0 when all codes are used alike, near 1 when one wins always."""
    return (n_codes - prob_perplexity) / n_codes
