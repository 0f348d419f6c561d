"""Evaluation of a frozen encoder by a linear probe a lead set, on classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate.common import Predict, Rows, Scorer, subgroups
from ecgedge_train.evaluate.metrics import auroc, macro_auroc, point
from ecgedge_train.evaluate.probe import LinearProbe, fit_linear_probe


@dataclass(frozen=True)
class ClassTask:
    """What is to be told apart: C labels, and the truth (len(dataset), C) with NaN where unknown."""

    labels: tuple[str, ...]
    truth: NDArray[np.float32]


@dataclass(frozen=True)
class ClassScores:
    """Test-split truth and probabilities (n, C) of one lead set, for the plots."""

    lead_set: str
    labels: tuple[str, ...]
    truth: NDArray[Any]
    probability: NDArray[Any]


@dataclass(frozen=True)
class ClassEvaluation:
    """Everything `evaluate_classes` found; `probes` by lead set."""

    rows: tuple[ResultRow, ...]
    scores: tuple[ClassScores, ...]
    probes: dict[str, LinearProbe]


def evaluate_classes(
    data: EcgDataset,
    predict: Predict,
    task: ClassTask,
    *,
    lead_sets: Sequence[str],
    untrained: Predict | None = None,
    head_labels: tuple[str, ...] = (),
    resamples: int = 1000,
) -> ClassEvaluation:
    """Fit a probe on the training split for each lead set and score it on the test split.

    Parameters
    ----------
    data, predict, task
        Where from, the frozen model, what to tell apart.
    lead_sets
        As "12", "I,II".
    untrained
        The same network with random weights; its probe's figures stand beside as the baseline, since much of what
        a probe reads is there before any training.
    head_labels
        Labels of the model's own output class_logits, if it has one; it is then scored too, beside the probe.
    resamples
        Of the bootstrap over patients.

    Raises
    ------
    RecordError
        If the test split has no labelled record.
    """
    rows: list[ResultRow] = []
    scores: list[ClassScores] = []
    probes: dict[str, LinearProbe] = {}
    test = labelled(task, data.select(split="test"))
    if len(test) == 0:
        raise RecordError(f"{data.directory}: no labelled record in the test split; build a larger dataset")
    for lead_set in lead_sets:
        outputs = predict(test, lead_set)
        probe = _probe(data, predict, task, lead_set)
        probability = probe.predict(outputs["embedding"])
        plain = None if untrained is None else _untrained(data, untrained, task, test, lead_set)
        scorer = Scorer(data.info.name, lead_set, data.index["patient_id"][test], resamples)
        found = [
            *_rows(data, scorer, task, test, probability, plain),
            *_head_rows(scorer, task, test, outputs, head_labels),
        ]
        rows += [row for row in found if row is not None]
        scores.append(ClassScores(lead_set, task.labels, task.truth[test], probability))
        probes[lead_set] = probe
    return ClassEvaluation(tuple(rows), tuple(scores), probes)


def labelled(task: ClassTask, rows: Rows) -> Rows:
    """Return the rows whose truth is known."""
    return rows[~np.isnan(task.truth[rows]).any(axis=1)]


def _probe(data: EcgDataset, predict: Predict, task: ClassTask, lead_set: str) -> LinearProbe:
    train, tune = (labelled(task, data.select(split=split)) for split in ("train", "tune"))
    return fit_linear_probe(
        predict(train, lead_set)["embedding"],
        task.truth[train],
        tune_embeddings=predict(tune, lead_set)["embedding"],
        tune_truth=task.truth[tune],
        labels=task.labels,
    )


def _untrained(
    data: EcgDataset, untrained: Predict, task: ClassTask, test: Rows, lead_set: str
) -> NDArray[np.float64]:
    return _probe(data, untrained, task, lead_set).predict(untrained(test, lead_set)["embedding"])


def _rows(
    data: EcgDataset,
    scorer: Scorer,
    task: ClassTask,
    test: Rows,
    probability: NDArray[np.float64],
    plain: NDArray[np.float64] | None,
) -> Iterator[ResultRow | None]:
    truth = task.truth[test]
    baseline = 0.5 if plain is None else point(macro_auroc, truth, plain)
    yield scorer.row("macro_auroc", macro_auroc, truth, probability, baseline=baseline)
    for c, label in enumerate(task.labels):
        baseline = 0.5 if plain is None else point(auroc, truth[:, c], plain[:, c])
        yield scorer.row(f"auroc_{label}", auroc, truth[:, c], probability[:, c], baseline=baseline)
    for group, mask in subgroups(data, test):
        yield scorer.row(f"macro_auroc | {group}", macro_auroc, truth, probability, baseline=None, keep=mask)


def _head_rows(
    scorer: Scorer,
    task: ClassTask,
    test: Rows,
    outputs: Mapping[str, NDArray[Any]],
    head_labels: tuple[str, ...],
) -> Iterator[ResultRow | None]:
    shared = [label for label in task.labels if label in head_labels]
    if "class_logits" not in outputs or not shared:
        return
    truth = task.truth[test][:, [task.labels.index(label) for label in shared]]
    logits = outputs["class_logits"][:, [head_labels.index(label) for label in shared]]
    yield scorer.row("head_macro_auroc", macro_auroc, truth, logits, baseline=0.5)
    for c, label in enumerate(shared):
        yield scorer.row(f"head_auroc_{label}", auroc, truth[:, c], logits[:, c], baseline=0.5)
