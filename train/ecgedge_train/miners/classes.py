"""Triplets by class: random (N-pair), semi-hard and soft-hard, as in SSL-DML (Jeong et al., MLHC 2023).

Semi-hard after Schroff et al., FaceNet, CVPR 2015, section 3.2; soft-hard as in Roth et al., "Revisiting training
strategies and generalization performance in deep metric learning", ICML 2020. Symbols: d distance of embeddings,
a anchor, p positive (class of a), n negative (another class), m margin.

    N-pair      p any of the class, n any of another
    semi-hard   p any of the class; n with d_ap < d_an < d_ap + m; without such an n, any of another class
    soft-hard   p with d_ap > min over n of d_an; n with d_an < max over p of d_ap; without such, any

A pressure is not a class: two rows hardly ever have exactly the same. `classes_from_cuts` makes classes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ecgedge_train.miners.rows import anchor_rows, draw_true, no_row_itself, stack_triplets


def classes_from_cuts(labels: Tensor, cuts: Sequence[float]) -> Tensor:
    """Return (B,) int64 classes of continuous labels: how many cuts a label is above, -1 where it is NaN.

    With `cuts=(15, 18)` mmHg a label of 18 is class 1 and 18.1 class 2, as elevated pressure is defined (> 18).

    Raises
    ------
    ValueError
        If the cuts do not increase.
    """
    if not cuts or any(low >= high for low, high in pairwise(cuts)):
        raise ValueError(f"cuts must increase, found {tuple(cuts)}")
    bounds = torch.tensor(cuts, dtype=torch.float64, device=labels.device)
    y = labels.to(torch.float64)
    return torch.where(torch.isnan(y), -1, torch.bucketize(y, bounds))


def embedding_distances(embeddings: Tensor, *, anchors: Tensor | None = None) -> Tensor:
    """Return the (A, B) Euclidean distances of the anchors' embeddings to all, without gradient."""
    z = embeddings.detach()
    return torch.cdist(z if anchors is None else z[anchors], z)


def npair_triplets(classes: Tensor, *, generator: torch.Generator, anchors: Tensor | None = None) -> Tensor:
    """Draw a positive of the anchor's class and a negative of another.

    Parameters
    ----------
    classes
        (B,) integer or bool classes; a negative number is an unknown class, such rows are in no triplet.
    generator
        CPU generator of the draws.
    anchors
        (A,) indices of the rows that may be anchors; None for all.

    Returns
    -------
    Tensor
        (K, 3) int64.

    Raises
    ------
    ValueError
        If `classes` is not one-dimensional, or of floating point.
    """
    rows, same, other = _same_and_other(classes, anchors)
    return _drawn(rows, draw_true(same, generator), draw_true(other, generator))


def semihard_triplets(
    distances: Tensor,
    classes: Tensor,
    *,
    generator: torch.Generator,
    margin: float = 0.2,
    anchors: Tensor | None = None,
) -> Tensor:
    """Draw a positive, and a negative that is farther than it by less than the margin.

    Parameters
    ----------
    distances
        (A, B), row k the distances of the k-th anchor, as `embedding_distances` gives; (B, B) without `anchors`.
    classes, generator, anchors
        As for `npair_triplets`.
    margin
        m, in the unit of the distances.

    Returns
    -------
    Tensor
        (K, 3) int64.

    Raises
    ------
    ValueError
        As `npair_triplets`, or if the distances have another shape.
    """
    rows, same, other = _same_and_other(classes, anchors)
    _check(distances, same)
    positive = draw_true(same, generator)
    d_ap = distances.gather(1, positive.clamp(min=0)[:, None])
    band = other & (distances > d_ap) & (distances < d_ap + margin)
    return _drawn(rows, positive, draw_true(_or_any(band, other), generator))


def softhard_triplets(
    distances: Tensor, classes: Tensor, *, generator: torch.Generator, anchors: Tensor | None = None
) -> Tensor:
    """Draw a positive farther than the nearest negative, and a negative nearer than the farthest positive.

    Parameters
    ----------
    distances
        (A, B), row k the distances of the k-th anchor, as `embedding_distances` gives; (B, B) without `anchors`.
    classes, generator, anchors
        As for `npair_triplets`.

    Returns
    -------
    Tensor
        (K, 3) int64.

    Raises
    ------
    ValueError
        As `npair_triplets`, or if the distances have another shape.
    """
    rows, same, other = _same_and_other(classes, anchors)
    _check(distances, same)
    nearest_negative = distances.masked_fill(~other, torch.inf).amin(dim=1, keepdim=True)
    farthest_positive = distances.masked_fill(~same, -torch.inf).amax(dim=1, keepdim=True)
    positive = draw_true(_or_any(same & (distances > nearest_negative), same), generator)
    negative = draw_true(_or_any(other & (distances < farthest_positive), other), generator)
    return _drawn(rows, positive, negative)


def _same_and_other(classes: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the anchors' rows and (A, B) bool: of the same class and not the anchor, of another known class."""
    if classes.dim() != 1 or classes.is_floating_point():
        raise ValueError(
            f"expected (B,) integer classes, found {tuple(classes.shape)} {classes.dtype}; "
            "make classes of a continuous label with classes_from_cuts"
        )
    rows = anchor_rows(len(classes), anchors, classes.device)
    codes = classes.long()
    known = (codes[rows, None] >= 0) & (codes >= 0)
    equal = codes[rows, None] == codes
    return rows, no_row_itself(known & equal, rows, anchors), known & ~equal


def _check(distances: Tensor, same: Tensor) -> None:
    if distances.shape != same.shape:
        raise ValueError(
            f"expected {tuple(same.shape)} distances, a row an anchor, found {tuple(distances.shape)}"
        )


def _drawn(rows: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the triplets of the anchors for which both could be drawn."""
    return stack_triplets(rows, positive, negative, (positive >= 0) & (negative >= 0))


def _or_any(wanted: Tensor, allowed: Tensor) -> Tensor:
    """Return `wanted`, but `allowed` in the rows where nothing is wanted."""
    return torch.where(wanted.any(dim=1, keepdim=True), wanted, allowed)
