"""Which rows make which batch: pure functions of (seed, epoch), so resuming mid-epoch is arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def batches(n: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False) -> list[Rows]:
    """Cut a permutation of range(n) into batches.

    Parameters
    ----------
    n, batch_size
        Number of rows; rows a batch (the last may be smaller unless `drop_last`).
    seed, epoch
        Equal (seed, epoch) give equal batches: to resume at step k, take `batches(...)[k:]`.

    Raises
    ------
    ValueError
        If `n` or `batch_size` is not positive.
    """
    _require_positive(n, batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int64)
    return _cut(order, batch_size, drop_last=drop_last)


def pair_batches(
    patient_ids: NDArray[Any], batch_size: int, *, seed: int, epoch: int, drop_last: bool = False
) -> list[Rows]:
    """Draw one pair of recordings a patient and cut the pairs into batches (PCLR).

    Each patient is drawn once an epoch, so a batch never holds two items of one patient and no negative is
    false. A patient with one recording gives (row, row); its two views then differ by crop and lead mask.

    Parameters
    ----------
    patient_ids
        (n,) patient of each row.
    batch_size
        Pairs a batch.
    seed, epoch
        As in `batches`.

    Returns
    -------
    list of (b, 2) arrays
        Positions in `patient_ids`.

    Raises
    ------
    ValueError
        If there are no rows or `batch_size` is not positive.

    Notes
    -----
    Diamant et al., "Patient contrastive learning", PLoS Comput Biol 18(2) e1009862 (2022).
    """
    _require_positive(len(patient_ids), batch_size)
    _, group = np.unique(patient_ids, return_inverse=True)
    by_patient = np.argsort(group, kind="stable")
    size = np.bincount(group)
    start = np.cumsum(size) - size
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(size))
    first = rng.integers(0, size)
    # 1 .. size-1 further on, so the second differs from the first wherever it can.
    step = np.where(size > 1, rng.integers(1, np.maximum(size, 2)), 0)
    second = (first + step) % size
    pairs = np.stack([by_patient[start + first], by_patient[start + second]], axis=1)[order]
    return _cut(pairs.astype(np.int64), batch_size, drop_last=drop_last)


def _cut(items: Rows, batch_size: int, *, drop_last: bool) -> list[Rows]:
    stop = len(items) - len(items) % batch_size if drop_last else len(items)
    return [items[i : i + batch_size] for i in range(0, stop, batch_size)]


def _require_positive(n: int, batch_size: int) -> None:
    if n < 1 or batch_size < 1:
        raise ValueError(f"no batches of {batch_size} can be made from {n} rows; both must be at least 1")
