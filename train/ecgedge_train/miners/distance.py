"""Triplets by a distance between recordings, without labels: SSL-DML (Jeong et al., MLHC 2023).

Symbols: D distance between ECGs (between medians of beats, waveforms, anything), a anchor, p positive, n negative.

    p = argmin over i != a of D(a, i)        n = one of the n_farthest rows of greatest D(a, i), drawn uniformly

The published code does not look at patients, and may push two ECGs of one patient apart; with `same_patient` it
never does. A negative is always farther than the positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgedge_train.miners.rows import (
    anchor_rows,
    draw_below,
    draw_true,
    no_row_itself,
    no_triplets,
    stack_triplets,
    unknown_as,
)


def distance_triplets(
    distance: Tensor,
    *,
    generator: torch.Generator,
    n_farthest: int = 2,
    random_negative: bool = False,
    same_patient: Tensor | None = None,
    anchors: Tensor | None = None,
) -> Tensor:
    """Pair each anchor with its nearest row and with one of its farthest.

    Parameters
    ----------
    distance
        (A, B), row k the distances of the k-th anchor; (B, B) without `anchors`. A pair at NaN or
        infinity is unknown and in no triplet.
    generator
        CPU generator of the draws.
    n_farthest
        From how many of the farthest rows the negative is drawn.
    random_negative
        Draw the negative from all rows farther than the positive instead.
    same_patient
        (B,) patient codes; a row of the anchor's patient is never its negative.
    anchors
        (A,) indices of the rows that may be anchors; None for all.

    Returns
    -------
    Tensor
        (K, 3) int64; an anchor without a candidate for its negative is left out.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `n_farthest` < 1.
    """
    batch = distance.shape[-1]
    rows = anchor_rows(batch, anchors, distance.device)
    if distance.shape != (len(rows), batch):
        raise ValueError(
            f"expected ({len(rows)}, B) distances, a row an anchor, found {tuple(distance.shape)}"
        )
    if n_farthest < 1:
        raise ValueError(f"n_farthest is {n_farthest}, at least 1 is needed")
    if batch < 3:
        return no_triplets(distance.device)
    known = distance if distance.is_floating_point() else distance.double()
    near, positive = no_row_itself(unknown_as(known, torch.inf), rows, anchors, torch.inf).min(dim=1)
    # What may not be the negative is nearer than any positive.
    far = no_row_itself(unknown_as(known, -torch.inf), rows, anchors, -torch.inf)
    if same_patient is not None:
        far.masked_fill_(same_patient[rows, None] == same_patient, -torch.inf)
    if random_negative:
        negative = draw_true(far > near[:, None], generator)
        return stack_triplets(rows, positive, negative, negative >= 0)
    farthest, columns = far.topk(min(n_farthest, batch), dim=1)
    rank = draw_below((farthest > near[:, None]).sum(dim=1), generator)
    negative = columns.gather(1, rank[:, None])[:, 0]
    return stack_triplets(rows, positive, negative, farthest[:, 0] > near)
