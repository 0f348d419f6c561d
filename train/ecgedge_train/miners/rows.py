"""What every miner needs: the anchors' rows, a uniform draw from each row's candidates, the triplets that came off."""

from __future__ import annotations

import torch
from torch import Tensor


def anchor_rows(batch: int, anchors: Tensor | None, device: torch.device) -> Tensor:
    """Return the (A,) indices of the rows that may be anchors; all rows when `anchors` is None."""
    return torch.arange(batch, device=device) if anchors is None else anchors.to(device)


def no_row_itself(pairs: Tensor, rows: Tensor, anchors: Tensor | None, value: float = 0.0) -> Tensor:
    """Set, in place, (A, B) `pairs` to `value` where an anchor meets itself; `rows` are those of the anchors."""
    if anchors is None:
        return pairs.fill_diagonal_(value)
    pairs[torch.arange(len(rows), device=rows.device), rows] = value
    return pairs


def unknown_as(distances: Tensor, value: float) -> Tensor:
    """Return a copy of distances with `value` where they are NaN or infinite, that is unknown."""
    return distances.nan_to_num(nan=value, posinf=value)


def draw_below(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return a uniform integer in [0, count) for each of the (A,) counts; 0 where the count is zero."""
    u = torch.rand(counts.shape, generator=generator).to(counts.device)
    return (u * counts).long()  # u is at most 1 - 2^-24, and no such product rounds up to its count


def draw_true(candidates: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each row of (A, B) bool the column of one of its True entries, each as likely; -1 without any."""
    running = candidates.cumsum(dim=1)
    counts = running[:, -1]
    rank = draw_below(counts, generator)
    column = torch.searchsorted(running, rank[:, None] + 1)[:, 0]  # the first column that is the rank-th True
    return torch.where(counts > 0, column, -1)


def stack_triplets(anchors: Tensor, positive: Tensor, negative: Tensor, found: Tensor) -> Tensor:
    """Return the (K, 3) triplets that were found; `found` is (A,) bool."""
    triplets = torch.stack([anchors, positive, negative])
    return (triplets if bool(found.all()) else triplets[:, found]).T


def no_triplets(device: torch.device) -> Tensor:
    """Return (0, 3)."""
    return torch.empty(0, 3, dtype=torch.int64, device=device)
