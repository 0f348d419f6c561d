"""Angular loss, alone and with N-pair (Wang et al., "Deep metric learning with angular loss", ICCV 2017, eq. 8-9).

Symbols: a, p, n_j anchor, positive and negatives scaled to unit length, alpha the bound of the angle at n of the
triangle a p n, t = tan(alpha).

    term = log(1 + sum over j of exp(4 t^2 (a + p) . n_j - 2 (1 + t^2) a . p))        angular = mean over triplets
    loss = npair + w * angular + l * mean |x|        |x| the lengths of the raw embeddings

Jeong et al. (MLHC 2023): alpha 45 degrees, w 2, l 0.005, one negative an anchor in the angular part and those of the
whole batch in the N-pair part; see `npair` about the latter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.losses.npair import log_one_plus_sum_exp, npair_loss
from ecgedge_train.losses.triplet import split_triplets


def angular_terms(anchor: Tensor, positive: Tensor, negatives: Tensor, *, alpha_deg: float = 45.0) -> Tensor:
    """Return the (K,) terms of K anchors and positives, each (K, D), with M negatives each, (K, M, D)."""
    a, p, n = (functional.normalize(x, dim=-1) for x in (anchor, positive, negatives))
    t2 = math.tan(math.radians(alpha_deg)) ** 2
    outer = (n @ (a + p)[:, :, None])[:, :, 0]
    return log_one_plus_sum_exp(4 * t2 * outer - 2 * (1 + t2) * (a * p).sum(dim=1, keepdim=True))


def angular_loss(embeddings: Tensor, triplets: Tensor, *, alpha_deg: float = 45.0) -> Tensor:
    """Mean angular loss of (B, D) embeddings and (K, 3) triplets; zero, with a gradient, without a triplet.

    Raises
    ------
    ValueError
        If `triplets` is not (K, 3), or an anchor is its own positive or negative.
    """
    anchor, positive, negative = split_triplets(embeddings, triplets)
    terms = angular_terms(anchor, positive, negative[:, None], alpha_deg=alpha_deg)
    return terms.sum() / max(len(terms), 1)


def angular_npair_loss(
    embeddings: Tensor,
    triplets: Tensor,
    *,
    alpha_deg: float = 45.0,
    angular_weight: float = 2.0,
    length_weight: float = 0.005,
    shared_negatives: bool = False,
    classes: Tensor | None = None,
) -> Tensor:
    """N-pair loss, angular loss and a price on the length of the embeddings.

    Parameters
    ----------
    embeddings
        (B, D).
    triplets
        (K, 3) integer rows (anchor, positive, negative), of a class miner.
    alpha_deg
        alpha in degrees.
    angular_weight, length_weight
        w and l.
    shared_negatives, classes
        Which negatives the N-pair part has, see `npair_loss`; `shared_negatives=True` alone is as published.

    Raises
    ------
    ValueError
        If `triplets` is not (K, 3), or an anchor is its own positive or negative.
    """
    pairs = npair_loss(embeddings, triplets, shared_negatives=shared_negatives, classes=classes)
    angles = angular_loss(embeddings, triplets, alpha_deg=alpha_deg)
    lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1)
    return pairs + angular_weight * angles + length_weight * lengths.mean()
