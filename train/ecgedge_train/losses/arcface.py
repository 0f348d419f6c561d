"""ArcFace: a softmax over identities with an angular margin (Deng et al., CVPR 2019, eq. 3).

Symbols: theta_j angle between an embedding and the centre of identity j, y its own identity, s scale, m margin (rad).

    logit_j = s cos(theta_j) for j != y        logit_y = s cos(theta_y + m)

Past theta_y = pi - m the cosine would rise again and reward a worse angle; there logit_y = s (cos(theta_y) - m sin m).
Oh et al. (CHIL 2022) identify patients with s 192 and m 1.0; the paper's own values are s 64 and m 0.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def arcface_logits(cosine: Tensor, targets: Tensor, *, scale: float = 64.0, margin: float = 0.5) -> Tensor:
    """Return (B, n_identities) logits, for a cross-entropy.

    Parameters
    ----------
    cosine
        (B, n_identities), cos(theta).
    targets
        (B,) integer, y.
    scale, margin
        s, and m in radians.

    Raises
    ------
    ValueError
        If the margin is not in [0, pi).
    """
    if not 0 <= margin < math.pi:
        raise ValueError(f"margin is {margin}, it must be in [0, pi) radians")
    own = cosine.gather(1, targets[:, None])
    sine = (1 - own.square()).clamp(min=1e-12).sqrt()  # the slope of the root at 0 is infinite
    shifted = own * math.cos(margin) - sine * math.sin(margin)
    straight = own - margin * math.sin(margin)
    logit = torch.where(own > -math.cos(margin), shifted, straight)
    return scale * cosine.scatter(1, targets[:, None], logit)


def arcface_loss(
    embeddings: Tensor, centres: Tensor, targets: Tensor, *, scale: float = 64.0, margin: float = 0.5
) -> Tensor:
    """Mean cross-entropy over identities.

    Parameters
    ----------
    embeddings
        (B, D).
    centres
        (n_identities, D), learned; neither these nor the embeddings need to be unit vectors.
    targets
        (B,) integer identities.
    scale, margin
        s, and m in radians.

    Raises
    ------
    ValueError
        If the margin is not in [0, pi).
    """
    cosine = functional.normalize(embeddings, dim=1) @ functional.normalize(centres, dim=1).T
    return functional.cross_entropy(arcface_logits(cosine, targets, scale=scale, margin=margin), targets)
