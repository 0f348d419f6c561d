"""What every miner needs: the anchors' rows, a uniform draw from each row's candidates, the triplets that came off."""

from __future__ import annotations

import torch
from torch import Tensor


def anchor_rows(batch: int, anchors: Tensor | None, device: torch.device) -> Tensor:
    """Return the (A,) indices of the rows that may be anchors; all rows when `anchors` is None."""
    return torch.arange(batch, device=device) if anchors is None else anchors.to(device)


def no_row_itself(pairs: Tensor, rows: Tensor, anchors: Tensor | None) -> Tensor:
    """Set, in place, (A, B) bool `pairs` to False where an anchor meets itself; `rows` are those of the anchors."""
    if anchors is None:
        return pairs.fill_diagonal_(0)
    pairs[torch.arange(len(rows), device=rows.device), rows] = False
    return pairs


def draw_below(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return a uniform integer in [0, count) for each of the (A,) counts, -1 where the count is zero."""
    u = torch.rand(counts.shape, generator=generator).to(counts.device)
    return torch.minimum((u * counts).long(), counts - 1)


def draw_true(candidates: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each row of (A, B) bool the column of one of its True entries, each as likely; -1 without any."""
    rank = draw_below(candidates.sum(dim=1), generator)
    running = candidates.cumsum(dim=1)
    column = torch.searchsorted(running, rank[:, None] + 1)[:, 0]  # the first column that is the rank-th True
    return torch.where(rank >= 0, column, -1)


def stack_triplets(anchors: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the (K, 3) triplets, less those whose positive or negative is -1."""
    found = (positive >= 0) & (negative >= 0)
    return torch.stack([anchors, positive, negative], dim=1)[found]


def no_triplets(device: torch.device) -> Tensor:
    """Return (0, 3)."""
    return torch.empty(0, 3, dtype=torch.int64, device=device)
