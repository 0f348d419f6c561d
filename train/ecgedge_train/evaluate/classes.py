"""Evaluation of a frozen encoder by a linear probe a lead set, on classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge.progress import tracked
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.common import Predict, Rows, Scorer, subgroups
from ecgedge_train.evaluate.metrics import auprc, auroc, brier, ece, macro_auroc, point
from ecgedge_train.evaluate.probe import LinearProbe, fit_linear_probe, fit_without_tune


@dataclass(frozen=True)
class ClassTask:
    """What is to be told apart: C labels, and the truth (len(dataset), C) with NaN where unknown."""

    labels: tuple[str, ...]
    truth: NDArray[np.float32]


@dataclass(frozen=True)
class Frozen:
    """Embeddings of one frozen encoder by split, "train" and "test" (and "tune" where a probe was fitted)."""

    train: NDArray[Any]
    tune: NDArray[Any]
    test: NDArray[Any]


@dataclass(frozen=True)
class ClassEvaluation:
    """Everything `evaluate_classes` found; `probes` by lead set.

    `train`, `tune` and `test` are the labelled rows; `encoder` and `untrained` hold their embeddings with the first
    lead set.
    """

    rows: tuple[ResultRow, ...]
    probes: dict[str, LinearProbe]
    binary: tuple[BinaryScores, ...]
    train: Rows
    tune: Rows
    test: Rows
    encoder: Frozen
    untrained: Frozen | None


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
    rows: list[ResultRow | None] = []
    binary: list[BinaryScores] = []
    probes: dict[str, LinearProbe] = {}
    embedded: list[tuple[Frozen, Frozen | None]] = []
    test = labelled(task, data.select(split="test"))
    if len(test) == 0:
        raise RecordError(f"{data.directory}: no labelled record in the test split; build a larger dataset")
    train, tune = (labelled(task, data.select(split=split)) for split in ("train", "tune"))
    splits = (train, tune, test)
    for lead_set in tracked("scoring lead sets", lead_sets):
        outputs = predict(test, lead_set)
        encoder = _embed(predict, lead_set, splits[:2], outputs["embedding"])
        plain = None
        if untrained is not None:
            plain = _embed(untrained, lead_set, splits[:2], untrained(test, lead_set)["embedding"])
        probe = _probe(task, encoder, splits)
        probability = probe.predict(encoder.test)
        baseline = None if plain is None else _probe(task, plain, splits).predict(plain.test)
        scorer = Scorer(data.info.name, lead_set, data.index["patient_id"][test], resamples)
        rows += _rows(data, scorer, task, test, probability, baseline)
        rows += _head_rows(scorer, task, test, outputs, head_labels)
        binary += _binary(data, lead_set, task, probe, encoder, splits)
        probes[lead_set] = probe
        embedded.append((encoder, plain))
    found = tuple(row for row in rows if row is not None)
    return ClassEvaluation(found, probes, tuple(binary), *splits, *embedded[0])


def labelled(task: ClassTask, rows: Rows) -> Rows:
    """Return the rows whose truth is known."""
    return rows[~np.isnan(task.truth[rows]).any(axis=1)]


def _embed(predict: Predict, lead_set: str, splits: Sequence[Rows], test: NDArray[Any]) -> Frozen:
    train, tune = (predict(rows, lead_set)["embedding"] for rows in splits)
    return Frozen(train, tune, test)


def _probe(task: ClassTask, encoder: Frozen, splits: Sequence[Rows]) -> LinearProbe:
    return fit_linear_probe(
        encoder.train,
        task.truth[splits[0]],
        tune_embeddings=encoder.tune,
        tune_truth=task.truth[splits[1]],
        labels=task.labels,
    )


def _binary(
    data: EcgDataset,
    lead_set: str,
    task: ClassTask,
    probe: LinearProbe,
    encoder: Frozen,
    splits: Sequence[Rows],
) -> Iterator[BinaryScores]:
    """Yield one class after the other; the tune split is scored by a probe that was not fitted on it."""
    train, *others = splits
    apart = fit_without_tune(encoder.train, task.truth[train], labels=task.labels, strength=probe.strength)
    predicted = (apart.predict(encoder.tune), probe.predict(encoder.test))
    for c, label in enumerate(task.labels):
        sides = [
            BinarySplit(
                task.truth[rows, c] > 0,
                logit(np.clip(p[:, c], 1e-12, 1 - 1e-12)),
                p[:, c],
                data.index["patient_id"][rows],
            )
            for rows, p in zip(others, predicted, strict=True)
        ]
        yield BinaryScores(lead_set, label, *sides)


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
        prevalence = float(truth[:, c].mean())
        yield scorer.row(f"auprc_{label}", auprc, truth[:, c], probability[:, c], baseline=prevalence)
        yield scorer.row(f"ece_{label}", ece, truth[:, c], probability[:, c])
        constant = point(brier, truth[:, c], np.full(len(truth), prevalence))
        yield scorer.row(f"brier_{label}", brier, truth[:, c], probability[:, c], baseline=constant)
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
