"""Triplets by distance of a continuous label, as in supervised DML (Jeong et al., MLHC 2023, section 3).

Symbols: y label (mPCWP in mmHg there), a anchor, p positive, n negative, all of one batch.

    p = argmin over i != a of |y_i - y_a|        n = argmax over i of |y_i - y_a|        ties: the lowest index
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgedge_train.miners.rows import anchor_rows, no_row_itself, no_triplets, stack_triplets, unknown_as


def label_distance_triplets(labels: Tensor, *, anchors: Tensor | None = None) -> Tensor:
    """Pair each anchor with the row of nearest and of farthest label.

    Parameters
    ----------
    labels
        (B,) of any real dtype, bool included; NaN where unknown, such rows are in no triplet.
    anchors
        (A,) indices of the rows that may be anchors; None for all.

    Returns
    -------
    Tensor
        (K, 3) int64. An anchor whose nearest label is as far as its farthest is left out: nothing to tell apart.

    Raises
    ------
    ValueError
        If `labels` is not one-dimensional.
    """
    if labels.dim() != 1:
        raise ValueError(f"expected (B,) labels, found {tuple(labels.shape)}")
    rows = anchor_rows(len(labels), anchors, labels.device)
    if len(labels) < 3:
        return no_triplets(labels.device)
    y = labels.detach().to(torch.float64)  # differences of unsigned or bool labels would wrap or be refused
    gap = ((y if anchors is None else y[rows])[:, None] - y).abs_()
    # The anchor itself, at 0, is never the farthest: it is not farther than the nearest.
    far, negative = unknown_as(gap, -torch.inf).max(dim=1)
    near, positive = no_row_itself(unknown_as(gap, torch.inf), rows, anchors, torch.inf).min(dim=1)
    return stack_triplets(rows, positive, negative, far > near)
