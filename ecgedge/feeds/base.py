"""The contract of every feed: an async iterator of chunks, with what it can say about itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode


@dataclass(frozen=True)
class FeedInfo:
    """What a feed declares before its first chunk.

    Attributes
    ----------
    chunk_s
        The usual length of a chunk.
    live
        Whether it keeps the time of the world: then no playing speed applies.
    resolution_mv
        The step between two neighbouring values; None where the source does not say.
    band_hz
        What the source's own filters leave; None where it does not say.
    calibrated
        Whether the source says that its millivolts are true (True), that they are not (False), or nothing (None).
    """

    uri: str
    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    chunk_s: float
    live: bool = False
    resolution_mv: float | None = None
    band_hz: tuple[float, float] | None = None
    calibrated: bool | None = None


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
    arrived_s
        When its last sample came, on this machine's clock that is never set (`time.monotonic`); None where the feed
        does not know better than who reads it.
    """

    t_s: float
    samples_mv: NDArray[np.float32]
    seq: int
    arrived_s: float | None = None


class Feed(Protocol):
    """Where samples come from. Iterating ends when the feed ends; a lost feed raises FeedError."""

    @property
    def info(self) -> FeedInfo:
        """What the feed declares."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """What came and could not be delivered as it came, by name; only what has happened stands in it."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Start to deliver chunks."""
        ...

    async def close(self) -> None:
        """Release what the feed holds; safe to call twice."""
        ...
