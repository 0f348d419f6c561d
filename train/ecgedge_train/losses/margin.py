"""Margin loss with a learned boundary (Wu et al., "Sampling matters in deep embedding learning", ICCV 2017, eq. 4-6).

Symbols: a, p, n anchor, positive and negative embedding, d = sqrt(|.|^2 + 1e-8) their distance, beta the boundary
between near and far, of the anchor's class c(a) or one for all, m margin (0.2), nu the price of a large beta.

    l+ = max(0, d_ap - beta_c(a) + m)        l- = max(0, beta_c(a) - d_an + m)
    loss = (sum of l+ and l- + nu * sum of beta_c(a)) / count

The paper counts the l+ and l- that are not zero (`reduction="terms"`). The code of Jeong et al. (MLHC 2023) adds two
boolean tensors to count them, which is an "or": it counts the triplets with any (`reduction="triplets"`, the default,
so that published margins and rates carry over). They start beta at 1.2 and mean to learn it with a rate of 5e-4 of
its own, but never hand it to the optimiser. Here beta is a tensor of the caller's: a parameter in a group of its own.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from ecgedge_train.losses.triplet import split_triplets

EPSILON = 1e-8
"""Keeps the slope of the root finite where two embeddings are equal."""


def margin_loss(
    embeddings: Tensor,
    triplets: Tensor,
    beta: Tensor,
    classes: Tensor | None = None,
    *,
    margin: float = 0.2,
    nu: float = 0.0,
    reduction: Literal["triplets", "terms"] = "triplets",
) -> Tensor:
    """Margin loss of a batch.

    Parameters
    ----------
    embeddings
        (B, D), not necessarily unit vectors.
    triplets
        (K, 3) integer rows (anchor, positive, negative), as a miner gives them.
    beta
        A scalar, one boundary for all (the way with continuous labels), or (n_classes,).
    classes
        (B,) integer classes, needed with more than one beta only.
    margin, nu
        m and nu.
    reduction
        What the sum is divided by: how many triplets have a term that is not zero, or how many terms are not.

    Returns
    -------
    Tensor
        Scalar; zero, with a gradient of zeros, when no term is left.

    Raises
    ------
    ValueError
        If `triplets` are not triplets, or the classes cannot index beta.
    """
    anchor, positive, negative = split_triplets(embeddings, triplets)
    boundary = _boundary(beta, classes, triplets[:, 0])
    near = functional.relu(_distance(anchor, positive) - boundary + margin)
    far = functional.relu(boundary - _distance(anchor, negative) + margin)
    violated = (near > 0) | (far > 0)
    count = violated.sum() if reduction == "triplets" else (near > 0).sum() + (far > 0).sum()
    # Once nothing violates, nothing is left for beta to trade against, so its price is not charged either.
    price = nu * boundary.sum() * violated.any()
    return (near.sum() + far.sum() + price) / count.clamp(min=1)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y).square().sum(dim=1) + EPSILON).sqrt()


def _boundary(beta: Tensor, classes: Tensor | None, anchors: Tensor) -> Tensor:
    """Return the (K,) beta of each anchor."""
    if beta.numel() == 1:
        return beta.reshape(1).expand(len(anchors))
    if classes is None or classes.is_floating_point():
        raise ValueError(
            f"{beta.numel()} betas need (B,) integer classes, found {None if classes is None else classes.dtype}; "
            "with a continuous label give one beta, or make classes of it (miners.classes_from_cuts)"
        )
    codes = classes[anchors].long()
    if bool(((codes < 0) | (codes >= beta.numel())).any()):
        raise ValueError(
            f"classes of the anchors reach from {int(codes.min())} to {int(codes.max())}, "
            f"there are {beta.numel()} betas"
        )
    return beta[codes]
