"""Where training data come from: each cohort knows its files, its labels, its licence and its split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ecgedge.errors import UsageError
from ecgedge_train.cohorts import (
    brugada,
    cinc2021,
    code15,
    folder,
    ludb,
    mimic_iv_ecg,
    ptbdb,
    ptbxl,
    scg_rhc,
    sim,
)
from ecgedge_train.cohorts.base import Cohort, Entry

__all__ = ["COHORTS", "Cohort", "Entry", "open_cohort"]

COHORTS: Final[Mapping[str, Callable[[Path | None, Mapping[str, str]], Cohort]]] = {
    "brugada": brugada.open_brugada,
    "cinc2021": cinc2021.open_cinc2021,
    "code15": code15.open_code15,
    "folder": folder.open_folder,
    "ludb": ludb.open_ludb,
    "mimic-iv-ecg": mimic_iv_ecg.open_mimic,
    "ptbdb": ptbdb.open_ptbdb,
    "ptbxl": ptbxl.open_ptbxl,
    "scg-rhc": scg_rhc.open_scg_rhc,
    "sim": sim.open_sim,
}
"""Source name to the function that plans it from a folder and options."""


def open_cohort(source: str, *, from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan a cohort: which records there are, how to read one, how they are split.

    Raises
    ------
    UsageError
        On an unknown source or option.
    RecordError
        If the folder does not hold the cohort.
    """
    if source not in COHORTS:
        raise UsageError(f"unknown data source {source!r}; known sources: {', '.join(COHORTS)}")
    return COHORTS[source](from_dir, options)
