"""Triplet loss as in SSL-DML (Jeong et al., MLHC 2023), after Schroff et al., FaceNet, CVPR 2015, eq. 2.

Symbols: a, p, n anchor, positive and negative embedding (D wide), m margin (0.2).

    term = max(0, |a - p|^2 - |a - n|^2 + m)        squared Euclid; loss = mean over triplets, zeros included
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def triplet_terms(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 0.2) -> Tensor:
    """Return the (K,) hinge terms of K triplets, each given as (K, D)."""
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor - negative).square().sum(dim=1)
    return functional.relu(near - far + margin)


def triplet_loss(
    embeddings: Tensor, triplets: Tensor, *, margin: float = 0.2, unit_norm: bool = False
) -> Tensor:
    """Mean triplet loss.

    Parameters
    ----------
    embeddings
        (B, D).
    triplets
        (K, 3) integer rows (anchor, positive, negative), as a miner gives them.
    margin
        m.
    unit_norm
        Scale the embeddings to unit length first; the published code does not.

    Raises
    ------
    ValueError
        If `triplets` is not (K, 3) with K >= 1, or an anchor is its own positive or negative.
    """
    if triplets.dim() != 2 or triplets.shape[1] != 3 or len(triplets) == 0:
        raise ValueError(f"expected (K, 3) triplets with K >= 1, found {tuple(triplets.shape)}")
    a, p, n = triplets.T
    if bool(((a == p) | (a == n)).any()):
        raise ValueError("a triplet uses its anchor as its own positive or negative")
    z = functional.normalize(embeddings, dim=1) if unit_norm else embeddings
    return triplet_terms(z[a], z[p], z[n], margin=margin).mean()
