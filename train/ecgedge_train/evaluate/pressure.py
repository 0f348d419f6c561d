"""Evaluation of the hemodynamic outputs: mPCWP above 15 and 18 mmHg, the pressure, its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.common import Predict, Rows, Scorer, subgroups

LABEL: Final = "mpcwp_mmhg"
CUTS_MMHG: Final = (15, 18)


@dataclass(frozen=True)
class PressureScores:
    """What was measured and what the model says on the test split, with one lead set.

    `ideal` is what the ideal observer of simulated patients says for the same cut; None on real data.
    """

    lead_set: str
    truth_mmhg: NDArray[np.float64]
    predicted_mmhg: NDArray[np.float64]
    probability: Mapping[int, NDArray[np.float64]]
    interval_mmhg: NDArray[np.float64] | None
    interval_coverage: float
    train_mean_mmhg: float
    ideal: Mapping[int, NDArray[np.float64]] | None


@dataclass(frozen=True)
class PressureEvaluation:
    """Everything `evaluate_pressure` found."""

    rows: tuple[ResultRow, ...]
    scores: tuple[PressureScores, ...]


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
    test = _known(data, "test")
    train_mean_mmhg = float(data.labels((LABEL,), _known(data, "train")).astype(np.float64).mean())
    rows: list[ResultRow] = []
    scores: list[PressureScores] = []
    for lead_set in lead_sets:
        score = _score(data, predict(test, lead_set), test, lead_set, calibration[lead_set], train_mean_mmhg)
        scorer = Scorer(data.info.name, lead_set, data.index["patient_id"][test], resamples)
        rows += [row for row in _rows(data, scorer, score, test) if row is not None]
        scores.append(score)
    return PressureEvaluation(tuple(rows), tuple(scores))


def _known(data: EcgDataset, split: str) -> Rows:
    rows = data.select(split=split)
    known: Rows = rows[~np.isnan(data.labels((LABEL,), rows)[:, 0])]
    if len(known) == 0:
        raise RecordError(
            f"{data.directory}: no record with {LABEL} in split {split!r}; build a larger dataset"
        )
    return known


def _score(
    data: EcgDataset,
    outputs: Mapping[str, NDArray[Any]],
    test: Rows,
    lead_set: str,
    calibration: LeadSetCalibration,
    train_mean_mmhg: float,
) -> PressureScores:
    predicted = outputs[LABEL].astype(np.float64)
    platt = {15: calibration.platt_15, 18: calibration.platt_18}
    half = calibration.interval_halfwidth_mmhg
    return PressureScores(
        lead_set=lead_set,
        truth_mmhg=data.labels((LABEL,), test)[:, 0].astype(np.float64),
        predicted_mmhg=predicted,
        probability={
            cut: expit(a * outputs[f"logit_gt_{cut}"].astype(np.float64) + b) for cut, (a, b) in platt.items()
        },
        interval_mmhg=None if half is None else np.stack([predicted - half, predicted + half], axis=1),
        interval_coverage=calibration.interval_coverage,
        train_mean_mmhg=train_mean_mmhg,
        ideal=_ideal(data, test),
    )


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
    if score.ideal is not None:
        yield scorer.row(f"ideal_auroc_gt_{cut}", metrics.auroc, above, score.ideal[cut], baseline=0.5)


def _group_rows(
    scorer: Scorer, score: PressureScores, group: str, mask: NDArray[np.bool_]
) -> Iterator[ResultRow | None]:
    truth, predicted = score.truth_mmhg, score.predicted_mmhg
    mean = np.full(int(mask.sum()), score.train_mean_mmhg)
    yield scorer.row(
        f"auroc_gt_18 | {group}", metrics.auroc, truth > 18, score.probability[18], baseline=0.5, keep=mask
    )
    baseline = metrics.point(metrics.rmse, truth[mask], mean)
    yield scorer.row(f"rmse_mmhg | {group}", metrics.rmse, truth, predicted, baseline=baseline, keep=mask)
    if score.interval_mmhg is not None:
        yield scorer.row(
            f"interval_coverage | {group}",
            metrics.coverage,
            truth,
            score.interval_mmhg,
            baseline=score.interval_coverage,
            keep=mask,
        )
