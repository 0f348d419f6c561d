"""Triplet loss as in SSL-DML (Jeong et al., MLHC 2023), after Schroff et al., FaceNet, CVPR 2015, eq. 2.

Symbols: a, p, n anchor, positive and negative embedding (D wide), m margin (0.2).

    term = max(0, |a - p|^2 - |a - n|^2 + m)        squared Euclid; loss = mean over triplets, zeros included

Without a triplet (a miner may find none in a batch) the loss is zero, with a gradient of zeros: a step like any other.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def split_triplets(embeddings: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the anchors', positives' and negatives' embeddings, each (K, D).

    Raises
    ------
    ValueError
        If `triplets` is not (K, 3), or an anchor is its own positive or negative.
    """
    if triplets.dim() != 2 or triplets.shape[1] != 3:
        raise ValueError(f"expected (K, 3) triplets, found {tuple(triplets.shape)}")
    if bool((triplets[:, :1] == triplets[:, 1:]).any()):
        raise ValueError("a triplet uses its anchor as its own positive or negative")
    # One look-up for all three: its backward, an addition into the rows, is the slowest part of the loss.
    anchor, positive, negative = functional.embedding(triplets.T, embeddings).unbind()
    return anchor, positive, negative


def triplet_terms(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 0.2) -> Tensor:
    """Return the (K,) hinge terms of K triplets, each given as (K, D)."""
    near, far = anchor - positive, anchor - negative
    # |near|^2 - |far|^2 as one product: half the operations forward and backward, and its digits are no fewer.
    gap = ((near - far) * (near + far)).sum(dim=1)
    return functional.relu(gap + margin)


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
        If `triplets` is not (K, 3), or an anchor is its own positive or negative.
    """
    z = functional.normalize(embeddings, dim=1) if unit_norm else embeddings
    terms = triplet_terms(*split_triplets(z, triplets), margin=margin)
    return terms.sum() / max(len(terms), 1)
