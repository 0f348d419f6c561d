"""The charts of a report, made from scores; `chart.draw` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.agreement import Agreement
from ecgedge_train.evaluate.binary import BinaryScores, pr_points, reliability, roc_points
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.evaluate.calibrators import calibrated
from ecgedge_train.evaluate.chart import Chart, Series, numbers
from ecgedge_train.evaluate.conformal import GroupCoverage
from ecgedge_train.evaluate.decision import DecisionCurve
from ecgedge_train.evaluate.lowlabel import LowLabelPoint
from ecgedge_train.evaluate.metrics import auprc, auroc, point
from ecgedge_train.evaluate.values import MPCWP, ValueScores

UNIT: Final = (0.0, 1.0)
_DIAGONAL: Final = Series("", "reference", UNIT, UNIT)
DISCRIMINATION: Final = "Discrimination"
CALIBRATION: Final = "Calibration"
DECISION: Final = "Operating points"
SUBGROUPS: Final = "Subgroups"
EMBEDDING: Final = "Embedding"
FEW_LABELS: Final = "Few labels"

Named = Sequence[tuple[str, BinaryScores]]
"""(name in the legend, scores); one chart holds the lead sets of a question, or the questions of a lead set."""


def roc_chart(named: Named, *, title: str, ideal: tuple[str, NDArray[Any]] | None = None) -> Chart:
    """ROC of each; `ideal` is (name, probability) of the ideal observer on the records of the first."""
    lines = list(_roc_series(named))
    if ideal is not None:
        truth = named[0][1].test.truth
        x, y = roc_points(truth, ideal[1])
        name = f"{ideal[0]}: {point(auroc, truth, ideal[1]):.3f}"
        lines.append(Series(name, "reference", numbers(x), numbers(y)))
    return Chart(
        DISCRIMINATION,
        f"ROC (AUROC below), {title}",
        "1 - specificity",
        "sensitivity",
        (*lines, _DIAGONAL),
        UNIT,
        (0.0, 1.01),
    )


def _roc_series(named: Named) -> Iterator[Series]:
    for name, scores in named:
        truth, p = scores.test.truth, scores.test.p
        if truth.all() or not truth.any():
            continue
        x, y = roc_points(truth, p)
        yield Series(f"{name}: {point(auroc, truth, p):.3f}", "line", numbers(x), numbers(y))


def pr_chart(named: Named, *, title: str) -> Chart:
    """Precision against recall of each; the prevalence is in the legend, since it is what chance reaches."""
    lines = []
    for name, scores in named:
        truth, p = scores.test.truth, scores.test.p
        if truth.any():
            x, y = pr_points(truth, p)
            label = f"{name}: {point(auprc, truth, p):.3f} (chance {truth.mean():.2f})"
            lines.append(Series(label, "line", numbers(x), numbers(y)))
    axes = ("recall (sensitivity)", "precision (PPV)")
    return Chart(DISCRIMINATION, f"Precision and recall, {title}", *axes, tuple(lines), UNIT, (0.0, 1.01))


def reliability_chart(named: Named, *, title: str, resamples: int) -> Chart:
    """Observed share by predicted probability; the first with its band, areas are shares of the records."""
    lines = []
    for i, (name, scores) in enumerate(named):
        test = scores.test
        bins = reliability(test.truth, test.p, test.patients, resamples=resamples if i == 0 else 1)
        lines.append(_reliability_series(name, bins, band=i == 0))
    return _reliability(f"Calibration curve, {title}", lines)


def calibrators_chart(scores: BinaryScores, *, title: str) -> Chart:
    """Calibration curve of one question under each calibrator."""
    test, lines = scores.test, []
    for name, p in calibrated(scores).items():
        bins = reliability(test.truth, p, test.patients, resamples=1)
        lines.append(_reliability_series(name, bins, band=False))
    return _reliability(f"Calibrators fitted on tune, {title}", lines)


def _reliability(title: str, lines: Sequence[Series]) -> Chart:
    axes = ("predicted probability", "observed share")
    return Chart(CALIBRATION, title, *axes, (*lines, _DIAGONAL), UNIT, (0.0, 1.01))


def _reliability_series(name: str, bins: Sequence[Any], *, band: bool) -> Series:
    low, high = _band([b.observed for b in bins]) if band else (None, None)
    return Series(
        name,
        "marks",
        numbers([b.predicted for b in bins]),
        numbers([b.observed.value for b in bins]),
        low,
        high,
        sizes=numbers([b.share for b in bins]),
    )


def decision_chart(curve: DecisionCurve, *, title: str) -> Chart:
    """Net benefit of the model against treating everybody and nobody."""
    low, high = _band(curve.model)
    t = numbers(curve.thresholds)
    model = Series("model", "line", t, numbers([e.value for e in curve.model]), low, high)
    everybody = Series("alert always", "reference", t, numbers(curve.treat_all))
    nobody = Series("", "reference", (t[0], t[-1]), (0.0, 0.0))
    top = max(*(e.value if e.high is None else e.high for e in curve.model), 0.05)
    return Chart(
        DECISION,
        f"Decision curve (alert never: 0), {title}",
        "threshold probability",
        "net benefit per record",
        (model, everybody, nobody),
        (t[0], t[-1]),
        (-0.25 * top, 1.1 * top),
    )


def scatter_chart(score: ValueScores) -> Chart:
    """Predicted against measured, with the identity and the mean that needs no model."""
    truth, predicted, quantity = score.truth, score.predicted, score.quantity
    low, high = (float(end(truth.min(), predicted.min(), truth.max(), predicted.max())) for end in (min, max))
    margin = 1.0 if quantity == MPCWP else 0.05 * (high - low)
    low, high = low - margin, high + margin
    ends, mean = (low, high), score.train_mean
    lines = [Series("", "dots", numbers(truth), numbers(predicted)), Series("", "reference", ends, ends)]
    lines.append(Series("mean of the training split", "reference", ends, (mean, mean)))
    if score.interval is not None:
        half = float(score.interval[0, 1] - score.interval[0, 0]) / 2
        name = f"{score.interval_coverage:.0%} interval, ±{half:{quantity.digits}} {quantity.unit}".rstrip()
        lines.append(
            Series(name, "line", ends, (low, high), (low - half, high - half), (low + half, high + half))
        )
    title = f"Predicted and measured {quantity.name}, leads {score.lead_set}"
    axes = (
        quantity.in_unit(f"true {quantity.name}, as labelled"),
        quantity.in_unit(f"predicted {quantity.name}"),
    )
    return Chart(quantity.section, title, *axes, tuple(lines), ends, ends)


def bland_altman_chart(score: ValueScores, found: Agreement) -> Chart:
    """Difference against mean, with bias and limits of agreement and their intervals over patients."""
    middle, quantity = (score.truth + score.predicted) / 2, score.quantity
    cloud = Series("", "dots", numbers(middle), numbers(score.predicted - score.truth))
    levels = [
        Series(f"{name} {e.value:+{quantity.digits}}", "level", (), (e.value,), *_band([e]))
        for name, e in (("bias", found.bias), ("lower limit", found.low), ("upper limit", found.high))
    ]
    title = f"Bland-Altman, leads {score.lead_set}"
    axes = (quantity.in_unit("mean of predicted and true"), quantity.in_unit("predicted - true"))
    return Chart(quantity.section, title, *axes, (cloud, *levels))


def coverage_chart(found: Sequence[GroupCoverage], *, nominal: float, lead_set: str) -> Chart:
    """Coverage of each subgroup by the pooled half width and by its own."""
    pooled = [(i, c.pooled) for i, c in enumerate(found)]
    own = [(i, c.own) for i, c in enumerate(found) if c.own is not None]
    rows = len(found)
    lines = (
        _interval_series("one half width for all", pooled),
        _interval_series("one a subgroup (Mondrian)", own),
        Series(f"asked: {nominal:.0%}", "reference", (nominal, nominal), (-0.6, rows - 0.4)),
    )
    title = f"Coverage by subgroup, leads {lead_set}"
    groups = tuple(c.group for c in found)
    return Chart(SUBGROUPS, title, "share of records inside the interval", "", lines, categories=groups)


def forest_chart(by_group: Mapping[str, Estimate], overall: float, *, title: str, x_label: str) -> Chart:
    """One metric by subgroup, with the value over everybody as a line."""
    lines = (
        _interval_series("", list(enumerate(by_group.values()))),
        Series(f"everybody: {overall:.3g}", "reference", (overall, overall), (-0.6, len(by_group) - 0.4)),
    )
    return Chart(SUBGROUPS, title, x_label, "", lines, categories=tuple(by_group))


def map_chart(
    points: NDArray[np.float64], names: NDArray[np.str_], order: Sequence[str], *, method: str, lead_set: str
) -> Chart:
    """Picture of the test embeddings, one colour a category, in the order of `order`."""
    lines = tuple(
        Series(
            f"{name} ({(names == name).sum()})", "dots", *(numbers(points[names == name, d]) for d in (0, 1))
        )
        for name in order
        if (names == name).any()
    )
    title = f"Embeddings of the test split by {method.upper()}, leads {lead_set}"
    return Chart(EMBEDDING, title, f"{method.upper()} 1", f"{method.upper()} 2", lines)


def low_label_chart(curves: Mapping[str, Sequence[LowLabelPoint]], *, lead_set: str) -> Chart:
    """Macro AUROC by number of labelled records, one line an encoder."""
    lines = []
    for name, points in curves.items():
        defined = [p for p in points if not np.isnan(p.estimate.value)]
        values = [p.estimate for p in defined]
        x, y = numbers([p.records for p in defined]), numbers([e.value for e in values])
        lines.append(Series(name, "marks", x, y, *_band(values)))
    title = f"Linear probe on few labels, leads {lead_set}"
    return Chart(
        FEW_LABELS, title, "labelled training records", "macro AUROC, test split", tuple(lines), log_x=True
    )


def _interval_series(name: str, rows: Sequence[tuple[int, Estimate]]) -> Series:
    low, high = _band([e for _, e in rows])
    return Series(
        name, "interval", numbers([e.value for _, e in rows]), numbers([i for i, _ in rows]), low, high
    )


def _band(estimates: Sequence[Estimate]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return both ends of the intervals; the value itself where there is none."""
    low = numbers([e.value if e.low is None else e.low for e in estimates])
    return low, numbers([e.value if e.high is None else e.high for e in estimates])
