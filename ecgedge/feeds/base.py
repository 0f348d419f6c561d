"""The contract of every feed: an async iterator of chunks, with what it can say about itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode


@dataclass(frozen=True)
class FeedInfo:
    """What a feed declares before its first chunk.

    `chunk_s` is the usual length of a chunk. A `live` feed keeps the time of the world: no playing speed applies.
    """

    uri: str
    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    chunk_s: float
    live: bool = False


@dataclass(frozen=True)
class Chunk:
    """A stretch of samples.

    Attributes
    ----------
    t_s
        Stream (device) time of the first sample, in seconds.
    samples_mv
        (n_leads, n) float32 millivolts; NaN marks samples that were not measured: one lead NaN means that
        lead is off, all leads NaN means a gap.
    seq
        Counts up by one per chunk sent; a hole is a lost chunk.
    """

    t_s: float
    samples_mv: NDArray[np.float32]
    seq: int


class Feed(Protocol):
    """Where samples come from. Iterating ends when the feed ends; a lost feed raises FeedError."""

    @property
    def info(self) -> FeedInfo:
        """What the feed declares."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Start to deliver chunks."""
        ...

    async def close(self) -> None:
        """Release what the feed holds; safe to call twice."""
        ...
