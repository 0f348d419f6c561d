"""Evaluation of the hemodynamic outputs: mPCWP above 15 and 18 mmHg, the pressure, its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ecgedge.bundle import ResultRow
from ecgedge.progress import tracked
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.agreement import Agreement
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.common import Predict, Rows, Scorer, subgroups
from ecgedge_train.evaluate.conformal import GroupCoverage
from ecgedge_train.evaluate.heads import head_rows, unreliability_rows
from ecgedge_train.evaluate.values import (
    MPCWP,
    ValueScores,
    agreements,
    coverage_by_group,
    known,
    truth_of,
)

LABEL: Final = "mpcwp_mmhg"
CUTS_MMHG: Final = (15, 18)


@dataclass(frozen=True)
class PressureScores:
    """What was measured and what the model says on the test split, with one lead set.

    `ideal` is what the ideal observer of simulated patients says for the same cut; None on real data. `patients`
    says whose record each is.
    """

    lead_set: str
    truth_mmhg: NDArray[np.float64]
    predicted_mmhg: NDArray[np.float64]
    probability: Mapping[int, NDArray[np.float64]]
    interval_mmhg: NDArray[np.float64] | None
    interval_coverage: float
    train_mean_mmhg: float
    ideal: Mapping[int, NDArray[np.float64]] | None
    patients: NDArray[Any] = field(default_factory=lambda: np.empty(0, object))

    def as_values(self) -> ValueScores:
        """Return the pressure alone, without the cuts."""
        return ValueScores(
            lead_set=self.lead_set,
            quantity=MPCWP,
            truth=self.truth_mmhg,
            predicted=self.predicted_mmhg,
            interval=self.interval_mmhg,
            interval_coverage=self.interval_coverage,
            train_mean=self.train_mean_mmhg,
            patients=self.patients,
        )


@dataclass(frozen=True)
class PressureEvaluation:
    """Everything `evaluate_pressure` found; `embedding` (n, E) is that of the first lead set on rows `test`."""

    rows: tuple[ResultRow, ...]
    scores: tuple[PressureScores, ...]
    binary: tuple[BinaryScores, ...]
    agreement: Mapping[str, Agreement]
    coverage: tuple[GroupCoverage, ...]
    test: Rows
    embedding: NDArray[Any]


def evaluate_pressure(
    data: EcgDataset,
    predict: Predict,
    *,
    lead_sets: Sequence[str],
    calibration: Mapping[str, LeadSetCalibration],
    resamples: int = 1000,
) -> PressureEvaluation:
    """Score the hemodynamic outputs on the test split.

    Parameters
    ----------
    data, predict
        Where from; the model: outputs logit_gt_15, logit_gt_18 and mpcwp_mmhg.
    lead_sets
        As "12", "I,II".
    calibration
        By lead set; all of `lead_sets` must be there.
    resamples
        Of the bootstrap over patients.

    Raises
    ------
    RecordError
        If the test split has no pressure.
    """
    test, tune = known(data, LABEL, "test"), known(data, LABEL, "tune")
    train_mean_mmhg = float(truth_of(data, LABEL, known(data, LABEL, "train")).mean())
    rows: list[ResultRow | None] = []
    scores: list[PressureScores] = []
    binary: list[BinaryScores] = []
    coverage: list[GroupCoverage] = []
    embedding: NDArray[Any] = np.empty((len(test), 0))
    for lead_set in tracked("scoring lead sets", lead_sets):
        fitted = calibration[lead_set]
        outputs, tune_outputs = predict(test, lead_set), predict(tune, lead_set)
        score = _score(data, outputs, test, lead_set, fitted, train_mean_mmhg)
        scorer = Scorer(data.info.name, lead_set, score.patients, resamples)
        rows += _rows(data, scorer, score, test)
        rows += head_rows(data, scorer, outputs, test, main_label=LABEL)
        rows += unreliability_rows(scorer, outputs, score.truth_mmhg > 15, score.probability[15])
        binary += _binary(data, lead_set, fitted, (tune, tune_outputs), (test, outputs))
        said = (tune, tune_outputs[LABEL]), (test, outputs[LABEL])
        coverage += coverage_by_group(data, LABEL, lead_set, fitted, *said, resamples=resamples)
        scores.append(score)
        embedding = embedding if len(scores) > 1 else outputs["embedding"]
    return PressureEvaluation(
        rows=tuple(row for row in rows if row is not None),
        scores=tuple(scores),
        binary=tuple(binary),
        agreement=agreements([score.as_values() for score in scores], resamples=resamples),
        coverage=tuple(coverage),
        test=test,
        embedding=embedding,
    )


def _score(
    data: EcgDataset,
    outputs: Mapping[str, NDArray[Any]],
    test: Rows,
    lead_set: str,
    calibration: LeadSetCalibration,
    train_mean_mmhg: float,
) -> PressureScores:
    predicted = outputs[LABEL].astype(np.float64)
    platt = _platt(calibration)
    half = calibration.interval_halfwidth_mmhg
    return PressureScores(
        lead_set=lead_set,
        truth_mmhg=truth_of(data, LABEL, test),
        predicted_mmhg=predicted,
        probability={
            cut: expit(a * outputs[f"logit_gt_{cut}"].astype(np.float64) + b) for cut, (a, b) in platt.items()
        },
        interval_mmhg=None if half is None else np.stack([predicted - half, predicted + half], axis=1),
        interval_coverage=calibration.interval_coverage,
        train_mean_mmhg=train_mean_mmhg,
        ideal=_ideal(data, test),
        patients=data.index["patient_id"][test],
    )


def _platt(calibration: LeadSetCalibration) -> dict[int, tuple[float, float]]:
    return {15: calibration.platt_15, 18: calibration.platt_18}


def _binary(
    data: EcgDataset,
    lead_set: str,
    calibration: LeadSetCalibration,
    tune: tuple[Rows, Mapping[str, NDArray[Any]]],
    test: tuple[Rows, Mapping[str, NDArray[Any]]],
) -> Iterator[BinaryScores]:
    for cut, (a, b) in _platt(calibration).items():
        splits = []
        for rows, outputs in (tune, test):
            above = data.labels((LABEL,), rows)[:, 0] > cut
            logit = outputs[f"logit_gt_{cut}"].astype(np.float64)
            splits.append(BinarySplit(above, logit, expit(a * logit + b), data.index["patient_id"][rows]))
        yield BinaryScores(lead_set, f"gt_{cut}", *splits)


def _ideal(data: EcgDataset, test: Rows) -> dict[int, NDArray[np.float64]] | None:
    names = {cut: f"ideal_p_gt_{cut}" for cut in CUTS_MMHG}
    if any(name not in data.index for name in names.values()):
        return None
    return {cut: data.index[name][test].astype(np.float64) for cut, name in names.items()}


def _rows(data: EcgDataset, scorer: Scorer, score: PressureScores, test: Rows) -> Iterator[ResultRow | None]:
    truth, predicted = score.truth_mmhg, score.predicted_mmhg
    mean = np.full(len(truth), score.train_mean_mmhg)
    for cut in CUTS_MMHG:
        yield from _cut_rows(scorer, score, cut)
    for name, metric in (("rmse_mmhg", metrics.rmse), ("mae_mmhg", metrics.mae)):
        yield scorer.row(name, metric, truth, predicted, baseline=metrics.point(metric, truth, mean))
    yield scorer.row("pearson_r", metrics.pearson, truth, predicted)
    yield scorer.row(
        "bias_mmhg", metrics.bias, truth, predicted, baseline=metrics.point(metrics.bias, truth, mean)
    )
    if score.interval_mmhg is not None:
        interval = score.interval_mmhg
        yield scorer.row(
            "interval_coverage", metrics.coverage, truth, interval, baseline=score.interval_coverage
        )
    for group, mask in subgroups(data, test):
        yield from _group_rows(scorer, score, group, mask)


def _cut_rows(scorer: Scorer, score: PressureScores, cut: int) -> Iterator[ResultRow | None]:
    above = score.truth_mmhg > cut
    p = score.probability[cut]
    yield scorer.row(f"auroc_gt_{cut}", metrics.auroc, above, p, baseline=0.5)
    yield scorer.row(f"auprc_gt_{cut}", metrics.auprc, above, p, baseline=float(above.mean()))
    yield scorer.row(f"ece_gt_{cut}", metrics.ece, above, p)
    prevalence = np.full(len(p), above.mean())
    baseline = metrics.point(metrics.brier, above, prevalence)
    yield scorer.row(f"brier_gt_{cut}", metrics.brier, above, p, baseline=baseline)
    if score.ideal is not None:
        yield scorer.row(f"ideal_auroc_gt_{cut}", metrics.auroc, above, score.ideal[cut], baseline=0.5)


def _group_rows(
    scorer: Scorer, score: PressureScores, group: str, mask: NDArray[np.bool_]
) -> Iterator[ResultRow | None]:
    truth, predicted = score.truth_mmhg, score.predicted_mmhg
    mean = np.full(int(mask.sum()), score.train_mean_mmhg)
    for cut in CUTS_MMHG:
        name, p = f"auroc_gt_{cut} | {group}", score.probability[cut]
        yield scorer.row(name, metrics.auroc, truth > cut, p, baseline=0.5, keep=mask)
    baseline = metrics.point(metrics.rmse, truth[mask], mean)
    yield scorer.row(f"rmse_mmhg | {group}", metrics.rmse, truth, predicted, baseline=baseline, keep=mask)
    yield scorer.row(f"bias_mmhg | {group}", metrics.bias, truth, predicted, keep=mask)
    if score.interval_mmhg is not None:
        yield scorer.row(
            f"interval_coverage | {group}",
            metrics.coverage,
            truth,
            score.interval_mmhg,
            baseline=score.interval_coverage,
            keep=mask,
        )
