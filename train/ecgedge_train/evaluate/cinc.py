"""The score of the PhysioNet/CinC 2021 challenge (Reyna et al. 2021): partly right answers count by clinical weight.

Each record shares one unit out over the pairs (true class, answered class); a table of weights gives every pair its
reward. 1 is a perfect answer, 0 is to answer "normal" always.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge_train.cohorts.cinc2021 import SCORED
from ecgedge_train.evaluate.binary import BinaryScores
from ecgedge_train.evaluate.bootstrap import patient_bootstrap
from ecgedge_train.evaluate.metrics import Floats

SINUS_RHYTHM: Final = "426783006"
"""SNOMED CT code of the challenge's normal class."""
_TINY: Final = 1e-12
_THRESHOLDS: Final = tuple(round(0.02 * k, 2) for k in range(1, 45))


@dataclass(frozen=True)
class CincWeights:
    """The challenge's weights.csv: classes (C), each with the codes that count as the same, and rewards (C, C)."""

    classes: tuple[frozenset[str], ...]
    rewards: NDArray[np.float64]

    def position(self, label: str) -> int | None:
        """Return the row of a class of the cohort or of a SNOMED code, or None if the challenge does not score it."""
        same = SCORED.get(label, (label,))
        return next((i for i, codes in enumerate(self.classes) if not codes.isdisjoint(same)), None)


def read_weights(path: Path) -> CincWeights:
    """Read weights.csv: a header row and a first column of SNOMED codes, equal ones joined by "|".

    Raises
    ------
    RecordError
        If the file is missing or not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = [row for row in csv.reader(file) if row]
        classes = tuple(frozenset(part.strip() for part in cell.split("|")) for cell in header[1:])
        rewards = np.array([[float(cell) for cell in line[1:]] for line in lines])
        named = tuple(frozenset(part.strip() for part in line[0].split("|")) for line in lines)
    except (OSError, ValueError, IndexError) as error:
        raise RecordError(
            f"{path}: no table of weights can be read ({error}); take the challenge's weights.csv"
        ) from error
    if not classes or named != classes or rewards.shape != (len(classes), len(classes)):
        raise RecordError(
            f"{path}: {len(classes)} columns and {len(named)} rows that are not the same classes in one order; "
            "take the challenge's weights.csv"
        )
    return CincWeights(classes, rewards)


def cinc2021_terms(
    truth: NDArray[Any], prediction: NDArray[Any], weights: NDArray[Any], normal_class: int
) -> NDArray[np.float64]:
    """Return (N, 3) rewards of each record: as answered, if answered rightly, if answered "normal".

    Parameters
    ----------
    truth, prediction
        (N, C) of bool.
    weights
        (C, C); rows true, columns answered.
    normal_class
        Position of the normal class.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    t, p = np.asarray(truth, bool), np.asarray(prediction, bool)
    size = t.shape[-1]
    if t.shape != p.shape or np.shape(weights) != (size, size) or not 0 <= normal_class < size:
        raise ValueError(f"truth {t.shape}, prediction {p.shape} and weights {np.shape(weights)} do not fit")
    inactive = np.zeros_like(t)
    inactive[:, normal_class] = True
    return np.stack([_rewards(t, answer, np.asarray(weights)) for answer in (p, t, inactive)], axis=1)


def cinc2021_score(
    truth: NDArray[Any], prediction: NDArray[Any], weights: NDArray[Any], normal_class: int
) -> float:
    """Return the normalised score; NaN where answering "normal" is already right throughout.

    The parameters are those of `cinc2021_terms`.
    """
    terms = cinc2021_terms(truth, prediction, weights, normal_class)
    return float(score_of_terms(np.empty(0), terms, np.ones((1, len(terms))))[0])


def score_of_terms(_: NDArray[Any], terms: NDArray[Any], weights: Floats) -> Floats:
    """Return the score of weighted records from `cinc2021_terms`; a metric for `patient_bootstrap`."""
    answered, right, inactive = (weights @ terms).T
    below = right - inactive
    undefined = np.full_like(below, np.nan)
    score = np.divide(answered - inactive, below, out=undefined, where=np.abs(below) > _TINY)
    return np.asarray(score, np.float64)


def cinc_rows(
    binary: Sequence[BinaryScores], weights: CincWeights, *, dataset: str, resamples: int = 1000
) -> tuple[ResultRow, ...]:
    """Score each lead set; one threshold for all classes is chosen on the tune split.

    Raises
    ------
    RecordError
        If no class of the run is one of the challenge, or normal rhythm is not among them.
    """
    by_lead_set: dict[str, list[BinaryScores]] = {}
    for scores in binary:
        if weights.position(scores.target) is not None:
            by_lead_set.setdefault(scores.lead_set, []).append(scores)
    if not by_lead_set:
        seen = ", ".join(sorted({scores.target for scores in binary}))
        raise RecordError(
            f"no class here is one of the challenge's weights, by its name or SNOMED CT code; the classes are: {seen}"
        )
    return tuple(
        _cinc_row(scores, weights, dataset, lead_set, resamples) for lead_set, scores in by_lead_set.items()
    )


def _cinc_row(
    scores: Sequence[BinaryScores], weights: CincWeights, dataset: str, lead_set: str, resamples: int
) -> ResultRow:
    places = [place for s in scores if (place := weights.position(s.target)) is not None]
    normal = weights.position(SINUS_RHYTHM)
    classes = sorted(set(places))
    if normal not in classes:
        raise RecordError(
            f"normal sinus rhythm ({SINUS_RHYTHM}), which the challenge score needs, is not a class here"
        )
    rewards, normal = weights.rewards[np.ix_(classes, classes)], classes.index(normal)
    tune, test = (
        (_merged([s.truth for s in side], places), _merged([s.p for s in side], places))
        for side in ([s.tune for s in scores], [s.test for s in scores])
    )
    best = max(_THRESHOLDS, key=lambda t: cinc2021_score(tune[0], tune[1] >= t, rewards, normal))
    terms = cinc2021_terms(test[0], test[1] >= best, rewards, normal)
    patients = scores[0].test.patients
    found = patient_bootstrap(score_of_terms, np.zeros(len(terms)), terms, patients, resamples=resamples)
    return ResultRow(
        dataset, lead_set, "cinc2021_score", found.value, found.low, found.high, 0.0, found.patients
    )


def _merged(columns: Sequence[NDArray[Any]], places: Sequence[int]) -> NDArray[Any]:
    """Stack (N, C), codes that the challenge counts as the same joined by their maximum."""
    return np.stack(
        [
            np.max([column for column, at in zip(columns, places, strict=True) if at == place], axis=0)
            for place in sorted(set(places))
        ],
        axis=1,
    )


def _rewards(truth: NDArray[np.bool_], answer: NDArray[np.bool_], weights: NDArray[Any]) -> Floats:
    either = np.maximum((truth | answer).sum(axis=1), 1)
    reward: Floats = ((truth.astype(np.float64) @ weights) * answer).sum(axis=1) / either
    return reward
