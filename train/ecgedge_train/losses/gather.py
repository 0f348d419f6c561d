"""How a contrastive loss sees the rows of other processes, without knowing of processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Gather:
    """`rows` brings (n, ...) of each process to (W n, ...) in rank order, with gradients; `rank` is one's own place."""

    rank: int = 0
    rows: Callable[[Tensor], Tensor] = _same


ALONE = Gather()
