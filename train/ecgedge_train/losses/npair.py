"""N-pair loss (Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NeurIPS 2016, eq. 6).

Symbols: a, p anchor and positive embedding, n_j its negatives; raw vectors, not unit ones.

    term = log(1 + sum over j of exp(a . n_j - a . p))        loss = mean over triplets

Which n_j: Jeong et al. (MLHC 2023) mine one negative an anchor, but a broadcast in their code sets the negatives of
all triplets against each anchor, rows of the anchor's own class among them (`shared_negatives=True`). Our default is
the triplet's own; sharing with `classes` keeps the many negatives and leaves out those of the anchor's class.
They clamp the exponent to +-50, which stops the gradient of the worst pairs; a log-sum-exp needs no clamp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgedge_train.losses.triplet import split_triplets


def npair_terms(anchor: Tensor, positive: Tensor, negatives: Tensor, *, keep: Tensor | None = None) -> Tensor:
    """Return the (K,) terms.

    Parameters
    ----------
    anchor, positive
        (K, D).
    negatives
        (K, M, D), or (M, D) when all anchors share them.
    keep
        (K, M) bool, which negatives count; None for all.
    """
    inner = anchor @ negatives.T if negatives.dim() == 2 else (negatives @ anchor[:, :, None])[:, :, 0]
    return log_one_plus_sum_exp(inner - (anchor * positive).sum(dim=1, keepdim=True), keep)


def log_one_plus_sum_exp(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return log(1 + sum over the kept columns of exp(x)) of each row of (K, M), without overflow."""
    if keep is not None:
        x = x.masked_fill(~keep, -torch.inf)
    return torch.cat([x.new_zeros(len(x), 1), x], dim=1).logsumexp(dim=1)


def npair_loss(
    embeddings: Tensor, triplets: Tensor, *, shared_negatives: bool = False, classes: Tensor | None = None
) -> Tensor:
    """Mean N-pair loss.

    Parameters
    ----------
    embeddings
        (B, D).
    triplets
        (K, 3) integer rows (anchor, positive, negative), as a miner gives them.
    shared_negatives
        Set the negatives of all triplets against each anchor, as published, not only the triplet's own.
    classes
        (B,) integer classes; shared negatives of the anchor's class do not count.

    Returns
    -------
    Tensor
        Scalar; zero, with a gradient of zeros, when there is no triplet.

    Raises
    ------
    ValueError
        If `triplets` is not (K, 3), or an anchor is its own positive or negative.
    """
    anchor, positive, negative = split_triplets(embeddings, triplets)
    if not shared_negatives:
        terms = npair_terms(anchor, positive, negative[:, None])
    else:
        keep = None if classes is None else classes[triplets[:, :1]] != classes[triplets[:, 2]]
        terms = npair_terms(anchor, positive, negative, keep=keep)
    return terms.sum() / max(len(terms), 1)
