"""Evaluation of a number of any name, such as ef_percent: error, correlation, agreement, interval, beside the mean.

mPCWP has more to it (a probability a cut, operating points, the ideal observer), see pressure.py; what a number of any
name needs too, both take from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge.progress import tracked
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.agreement import Agreement, agreement
from ecgedge_train.evaluate.common import Predict, Rows, Scorer, group_labels, subgroups
from ecgedge_train.evaluate.conformal import AbsoluteErrors, GroupCoverage, group_coverage
from ecgedge_train.evaluate.heads import head_rows

PROBED: Final = "probed_value"
"""The output of `probed`."""
RIDGE_STRENGTHS: Final = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
"""Penalties on standardized features that are tried on the tune split."""


@dataclass(frozen=True)
class Quantity:
    """How a label is spoken of in a report.

    Attributes
    ----------
    section
        Heading of its plots.
    name, unit
        As in "mPCWP", "mmHg"; the unit is "" where the label's own name is all that is known.
    metric
        What the names of its metrics end in, as in rmse_mmhg.
    digits
        Format of its values in legends.
    """

    section: str
    name: str
    unit: str
    metric: str
    digits: str

    def in_unit(self, text: str) -> str:
        """Return a heading with the unit in brackets, if there is one."""
        return f"{text} ({self.unit})" if self.unit else text


MPCWP: Final = Quantity("Pressure", "mPCWP", "mmHg", "mmhg", ".1f")


def quantity_of(label: str) -> Quantity:
    """Return how a label other than mPCWP is spoken of: by its own name."""
    return Quantity("Agreement", label, "", label, ".3g")


@dataclass(frozen=True)
class ValueScores:
    """What was measured and what the model says on the test split, with one lead set; arrays are (n,).

    `interval` is (n, 2), None where there is none; `patients` says whose record each is.
    """

    lead_set: str
    quantity: Quantity
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    interval: NDArray[np.float64] | None
    interval_coverage: float
    train_mean: float
    patients: NDArray[Any]


@dataclass(frozen=True)
class ValueEvaluation:
    """Everything `evaluate_values` found; `embedding` (n, E) is that of the first lead set on rows `test`."""

    label: str
    rows: tuple[ResultRow, ...]
    scores: tuple[ValueScores, ...]
    agreement: Mapping[str, Agreement]
    coverage: tuple[GroupCoverage, ...]
    test: Rows
    embedding: NDArray[Any]

    @property
    def headlines(self) -> tuple[str, ...]:
        """The metrics that are looked at first."""
        return (*(f"{name}_{self.label}" for name in ("rmse", "mae", "pearson_r")), "interval_coverage")


def evaluate_values(
    data: EcgDataset,
    predict: Predict,
    *,
    label: str,
    output: str,
    lead_sets: Sequence[str],
    calibration: Mapping[str, LeadSetCalibration],
    cuts: Mapping[str, float] | None = None,
    resamples: int = 1000,
) -> ValueEvaluation:
    """Score one output on the test split against the label it was made for.

    Parameters
    ----------
    data, predict
        Where from; the model.
    label, output
        The column of the dataset; the name of what the model says of it. All other outputs are scored beside it, each
        against the label of its own name.
    lead_sets
        As "12", "I,II".
    calibration
        By lead set; one that is not there gets no interval.
    cuts
        Name of a logit to the value that it asks to be exceeded.
    resamples
        Of the bootstrap over patients.

    Raises
    ------
    RecordError
        If a split has no record with that label.
    """
    test, tune = known(data, label, "test"), known(data, label, "tune")
    mean = float(truth_of(data, label, known(data, label, "train")).mean())
    rows: list[ResultRow | None] = []
    scores: list[ValueScores] = []
    coverage: list[GroupCoverage] = []
    embedding: NDArray[Any] = np.empty((len(test), 0))
    for lead_set in tracked("scoring lead sets", lead_sets):
        fitted, outputs = calibration.get(lead_set), predict(test, lead_set)
        predicted = outputs[output].astype(np.float64)
        half = None if fitted is None else fitted.interval_halfwidth_mmhg
        score = ValueScores(
            lead_set=lead_set,
            quantity=quantity_of(label),
            truth=truth_of(data, label, test),
            predicted=predicted,
            interval=None if half is None else np.stack([predicted - half, predicted + half], axis=1),
            interval_coverage=0.0 if fitted is None else fitted.interval_coverage,
            train_mean=mean,
            patients=data.index["patient_id"][test],
        )
        scorer = Scorer(data.info.name, lead_set, score.patients, resamples)
        rows += _rows(data, scorer, score, test)
        rows += _cut_rows(scorer, score, outputs, cuts or {})
        # The main output has a name of its own in the model, under which another label may stand in the dataset.
        others = {name: said for name, said in outputs.items() if name != output}
        rows += head_rows(data, scorer, others, test, main_label=label)
        if fitted is not None:
            said = (tune, predict(tune, lead_set)[output]), (test, predicted)
            coverage += coverage_by_group(data, label, lead_set, fitted, *said, resamples=resamples)
        scores.append(score)
        embedding = embedding if len(scores) > 1 else outputs["embedding"]
    return ValueEvaluation(
        label=label,
        rows=tuple(row for row in rows if row is not None),
        scores=tuple(scores),
        agreement=agreements(scores, resamples=resamples),
        coverage=tuple(coverage),
        test=test,
        embedding=embedding,
    )


def agreements(scores: Sequence[ValueScores], *, resamples: int) -> dict[str, Agreement]:
    """Return Bland-Altman figures by lead set."""
    return {s.lead_set: agreement(s.truth, s.predicted, s.patients, resamples=resamples) for s in scores}


def known(data: EcgDataset, label: str, split: str) -> Rows:
    """Return the rows of a split whose label is known.

    Raises
    ------
    RecordError
        If there is none.
    """
    rows = data.select(split=split)
    found: Rows = rows[~np.isnan(data.labels((label,), rows)[:, 0])]
    if len(found) == 0:
        raise RecordError(
            f"{data.directory}: no record with {label} in split {split!r}; build a larger dataset"
        )
    return found


def truth_of(data: EcgDataset, label: str, rows: Rows) -> NDArray[np.float64]:
    """Return (n,) values of a label; NaN where unknown."""
    return data.labels((label,), rows)[:, 0].astype(np.float64)


def coverage_by_group(
    data: EcgDataset,
    label: str,
    lead_set: str,
    calibration: LeadSetCalibration,
    tune: tuple[Rows, NDArray[Any]],
    test: tuple[Rows, NDArray[Any]],
    *,
    resamples: int,
) -> tuple[GroupCoverage, ...]:
    """Return how often the interval holds in each subgroup; `tune` and `test` are rows and what was said of them."""
    half = calibration.interval_halfwidth_mmhg
    if half is None:
        return ()
    errors = [
        AbsoluteErrors(
            np.abs(said.astype(np.float64) - truth_of(data, label, rows)),
            data.index["patient_id"][rows],
            group_labels(data, rows),
        )
        for rows, said in (tune, test)
    ]
    return group_coverage(
        lead_set,
        tune=errors[0],
        test=errors[1],
        pooled_halfwidth=half,
        coverage=calibration.interval_coverage,
        resamples=resamples,
    )


def probed(data: EcgDataset, predict: Predict, label: str) -> Predict:
    """Return a model that says `PROBED`: ridge regression of a label on the frozen embedding, one fit a lead set.

    The penalty is chosen on the tune split; the fit that is used is then made on training and tune split together.

    Raises
    ------
    RecordError
        If one of the two has no record with that label.
    """
    splits = [known(data, label, split) for split in ("train", "tune")]
    truth = [truth_of(data, label, rows) for rows in splits]
    fitted: dict[str, tuple[NDArray[Any], NDArray[Any], Ridge]] = {}

    def with_value(rows: Rows, lead_set: str) -> Mapping[str, NDArray[Any]]:
        if lead_set not in fitted:
            x = [predict(split, lead_set)["embedding"].astype(np.float64) for split in splits]
            fitted[lead_set] = _fit_ridge(x, truth)
        mean, scale, ridge = fitted[lead_set]
        embedding = predict(rows, lead_set)["embedding"]
        return {"embedding": embedding, PROBED: ridge.predict((embedding - mean) / scale)}

    return with_value


def _fit_ridge(
    x: Sequence[NDArray[Any]], y: Sequence[NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any], Ridge]:
    """Return mean and scale of the features, and the fit on both splits with the penalty that the second chose."""
    mean, scale = x[0].mean(axis=0), np.maximum(x[0].std(axis=0), 1e-6)
    train, tune = ((part - mean) / scale for part in x)

    def missed(alpha: float) -> float:
        return float(np.mean((Ridge(alpha=alpha).fit(train, y[0]).predict(tune) - y[1]) ** 2))

    best = min(RIDGE_STRENGTHS, key=missed)
    return mean, scale, Ridge(alpha=best).fit(np.concatenate([train, tune]), np.concatenate(y))


def _rows(data: EcgDataset, scorer: Scorer, score: ValueScores, test: Rows) -> Iterator[ResultRow | None]:
    truth, predicted, ending = score.truth, score.predicted, score.quantity.metric
    mean = np.full(len(truth), score.train_mean)
    for name, metric in (("rmse", metrics.rmse), ("mae", metrics.mae), ("bias", metrics.bias)):
        baseline = metrics.point(metric, truth, mean)
        yield scorer.row(f"{name}_{ending}", metric, truth, predicted, baseline=baseline)
    yield scorer.row(f"pearson_r_{ending}", metrics.pearson, truth, predicted)
    everybody = np.ones(len(truth), bool)
    yield _covered(scorer, score, "interval_coverage", everybody)
    for group, mask in subgroups(data, test):
        baseline = metrics.point(metrics.rmse, truth[mask], mean[mask])
        yield scorer.row(
            f"rmse_{ending} | {group}", metrics.rmse, truth, predicted, baseline=baseline, keep=mask
        )
        yield scorer.row(f"bias_{ending} | {group}", metrics.bias, truth, predicted, keep=mask)
        yield _covered(scorer, score, f"interval_coverage | {group}", mask)


def _covered(scorer: Scorer, score: ValueScores, name: str, mask: NDArray[np.bool_]) -> ResultRow | None:
    if score.interval is None:
        return None
    return scorer.row(
        name, metrics.coverage, score.truth, score.interval, baseline=score.interval_coverage, keep=mask
    )


def _cut_rows(
    scorer: Scorer, score: ValueScores, outputs: Mapping[str, NDArray[Any]], cuts: Mapping[str, float]
) -> Iterator[ResultRow | None]:
    """Yield the AUROC at each cut; None where all records lie on one side of it."""
    for logit, cut in cuts.items():
        name = f"auroc_{score.quantity.metric}_gt_{cut:g}"
        yield scorer.row(name, metrics.auroc, score.truth > cut, outputs[logit], baseline=0.5)
