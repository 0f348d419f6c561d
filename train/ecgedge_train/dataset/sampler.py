"""Which rows make which batch: pure functions of (seed, epoch), so resuming mid-epoch is arithmetic.

Every process of a training over several devices makes the same global batches and takes its slice of each: ranks
have nothing to agree on, and a run may go on with another number of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PatientGroups:
    """The rows of each patient, made once for all epochs by `group_by_patient`.

    Attributes
    ----------
    rows
        (n,) row numbers, those of one patient side by side.
    start, size
        (P,) where in `rows` a patient begins, and how many rows it has.
    """

    rows: Rows
    start: Rows
    size: Rows


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
    order = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int64, copy=False)
    return _cut(order, batch_size, drop_last=drop_last)


def pair_batches(
    patients: PatientGroups | NDArray[Any],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    drop_last: bool = False,
) -> list[Rows]:
    """Draw one pair of recordings a patient and cut the pairs into batches (PCLR).

    Each patient is drawn once an epoch, so a batch never holds two items of one patient and no negative is
    false. A patient with one recording gives (row, row); its two views then differ by crop and lead mask.

    Parameters
    ----------
    patients
        (n,) patient of each row, or their `group_by_patient`, which spares the sorting of every epoch.
    batch_size
        Pairs a batch.
    seed, epoch
        As in `batches`.

    Returns
    -------
    list of (b, 2) arrays
        Row numbers.

    Raises
    ------
    ValueError
        If there are no rows or `batch_size` is not positive.

    Notes
    -----
    Diamant et al., "Patient contrastive learning", PLoS Comput Biol 18(2) e1009862 (2022).
    """
    groups = patients if isinstance(patients, PatientGroups) else group_by_patient(patients)
    _require_positive(len(groups.rows), batch_size)
    size, start, by_patient = groups.size, groups.start, groups.rows
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(size))
    first = rng.integers(0, size)
    # 1 .. size-1 further on, so the second differs from the first wherever it can.
    step = np.where(size > 1, rng.integers(1, np.maximum(size, 2)), 0)
    second = (first + step) % size
    pairs = np.stack([by_patient[start + first], by_patient[start + second]], axis=1)[order]
    return _cut(pairs.astype(np.int64, copy=False), batch_size, drop_last=drop_last)


def group_by_patient(patient_ids: NDArray[Any]) -> PatientGroups:
    """Group rows by patient; patients in ascending order of their id, rows in ascending order within each."""
    codes = patient_codes(patient_ids)
    size = np.bincount(codes).astype(np.int64, copy=False)
    rows = np.argsort(codes, kind="stable").astype(np.int64, copy=False)
    return PatientGroups(rows, np.cumsum(size) - size, size)


def patient_codes(patient_ids: NDArray[Any]) -> Rows:
    """Return (n,) numbers 0 .. P-1, one for each patient, in the order of the ids.

    The same as `np.unique(patient_ids, return_inverse=True)[1]`. Text goes through a hash table first: sorting five
    million Python strings takes ten times as long as sorting those that differ.
    """
    if patient_ids.dtype != object:
        return np.unique(patient_ids, return_inverse=True)[1].astype(np.int64, copy=False)
    encoded = pa.array(patient_ids).dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    code_of: Rows = np.empty(len(order), np.int64)
    code_of[order] = np.arange(len(order))
    codes: Rows = code_of[encoded.indices.to_numpy()]
    return codes


def _cut(items: Rows, batch_size: int, *, drop_last: bool) -> list[Rows]:
    stop = len(items) - len(items) % batch_size if drop_last else len(items)
    return [items[i : i + batch_size] for i in range(0, stop, batch_size)]


def _require_positive(n: int, batch_size: int) -> None:
    if n < 1 or batch_size < 1:
        raise ValueError(f"no batches of {batch_size} can be made from {n} rows; both must be at least 1")
