"""Work on many rows, in pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def groups(n_rows: Sequence[int], most: int) -> Iterator[slice]:
    """Cut a sequence of things with so many rows into groups of at most `most` rows, or of one."""
    start = total = 0
    for k, n in enumerate(n_rows):
        if total + n > most and k > start:
            yield slice(start, k)
            start, total = k, 0
        total += n
    yield slice(start, len(n_rows))
