"""Splits for cohorts that publish none: a stable hash of the patient's id, so nothing else can move a patient.

SHA-256 over "SEED:PATIENT" gives one of twenty equal folds; folds 1-14 train, 15-17 tune and 18-20 test, that
is 70, 15 and 15 % of the patients. A patient keeps the split when records are added, removed or reordered.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ecgedge_train.cohorts.base import Split

FOLDS: Final = 20
_LAST_TRAIN_FOLD: Final = 14
_LAST_TUNE_FOLD: Final = 17


def fold_of_patient(patient_id: str, *, seed: int) -> int:
    """Return the patient's fold, 1 to `FOLDS`; another seed gives an independent assignment."""
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % FOLDS + 1


def split_of_fold(fold: int) -> Split:
    """Return the split of a fold of `fold_of_patient`.

    Raises
    ------
    ValueError
        If the fold is not in 1..`FOLDS`.
    """
    if not 1 <= fold <= FOLDS:
        raise ValueError(f"fold {fold} is not in 1..{FOLDS}")
    return "train" if fold <= _LAST_TRAIN_FOLD else "tune" if fold <= _LAST_TUNE_FOLD else "test"
