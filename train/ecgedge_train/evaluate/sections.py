"""What the report says below its headline table: one function a section, each giving tables and charts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ecgedge.bundle import ResultRow
from ecgedge_train.evaluate import plots
from ecgedge_train.evaluate.agreement import Agreement
from ecgedge_train.evaluate.binary import BinaryScores
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.evaluate.calibrators import calibration_scores
from ecgedge_train.evaluate.chart import Chart
from ecgedge_train.evaluate.compare import Comparison
from ecgedge_train.evaluate.conformal import GroupCoverage
from ecgedge_train.evaluate.decision import decision_curve
from ecgedge_train.evaluate.embedding import EmbeddingFigures
from ecgedge_train.evaluate.lowlabel import LowLabelPoint
from ecgedge_train.evaluate.operating import operating_points
from ecgedge_train.evaluate.pressure import CUTS_MMHG, PressureEvaluation
from ecgedge_train.evaluate.report import Cell, Section, Table
from ecgedge_train.evaluate.values import MPCWP, Quantity, ValueEvaluation, ValueScores

COMPARISON: Final = "Comparison"
MAX_QUESTIONS: Final = 8
"""Classes that are drawn, the commonest ones; the tables hold all."""
_FOREST_METRICS: Final = {
    "auroc_gt_15": "AUROC, mPCWP > 15 mmHg",
    "auroc_gt_18": "AUROC, mPCWP > 18 mmHg",
    "rmse_mmhg": "RMSE (mmHg)",
    "bias_mmhg": "bias (mmHg)",
    "macro_auroc": "macro AUROC",
}
_FOREST_OF_VALUE: Final = (("rmse", "RMSE"), ("bias", "bias"))


@dataclass(frozen=True)
class Part:
    """A section and its charts."""

    section: Section
    charts: tuple[Chart, ...] = ()


def question(target: str) -> str:
    """Return a target as it is read: "gt_18" is a pressure, everything else a class."""
    return f"mPCWP > {target[3:]} mmHg" if target.startswith("gt_") else target


def discrimination(evaluation: PressureEvaluation | None, binary: Sequence[BinaryScores], first: str) -> Part:
    """ROC and precision-recall curves: by question for the pressure, by lead set for classes."""
    charts: list[Chart] = []
    if evaluation is None:
        charts += [
            plots.roc_chart(named, title=f"leads {name}")
            for name, named in _by_lead_set(_commonest(binary)).items()
        ]
        charts.append(plots.pr_chart(_by_lead_set(_commonest(binary))[first], title=f"leads {first}"))
    else:
        ideals = evaluation.scores[0].ideal
        for cut, named in zip(CUTS_MMHG, _by_target(binary).values(), strict=True):
            ideal = None if ideals is None else (f"ideal observer ({first})", ideals[cut])
            charts.append(plots.roc_chart(named, title=question(f"gt_{cut}"), ideal=ideal))
        charts += [plots.pr_chart(named, title=question(t)) for t, named in _by_target(binary).items()]
    return Part(Section(plots.DISCRIMINATION, "Can the model rank records?"), tuple(charts))


def calibration(binary: Sequence[BinaryScores], first: str, *, pressure: bool, resamples: int) -> Part:
    """Calibration curves, and the errors of each calibrator."""
    charts: list[Chart] = []
    if pressure:
        for target, named in _by_target(binary).items():
            charts.append(plots.reliability_chart(named, title=question(target), resamples=resamples))
            charts.append(plots.calibrators_chart(named[0][1], title=f"{question(target)}, leads {first}"))
    else:
        named = _by_lead_set(_commonest(binary))[first]
        charts.append(plots.reliability_chart(named, title=f"leads {first}", resamples=resamples))
    chosen = binary if pressure else [b for b in binary if b.lead_set == first]
    rows = [
        (c.lead_set, question(c.target), c.calibrator, _defined(c.brier), _defined(c.ece), _defined(c.gap))
        for scores in chosen
        for c in calibration_scores(scores, resamples=resamples)
    ]
    columns = ("Lead set", "Question", "Calibrator", "Brier", "ECE", "Predicted - observed")
    note = (
        "Is a probability of 0.3 right three times in ten? Calibrators were fitted on the tune split and never saw a "
        'test label; "as served" is what a bundle would say, "none" the bare logit. Band: 95 % over patients, of the '
        "first line; dots cover the share of the records."
    )
    return Part(
        Section(plots.CALIBRATION, note, (Table("Calibrators", columns, tuple(rows)),)),
        tuple(charts),
    )


def operating(binary: Sequence[BinaryScores], first: str, *, pressure: bool, resamples: int) -> Part:
    """Operating points and decision curves."""
    chosen = binary if pressure else [b for b in binary if b.lead_set == first]
    rows: list[tuple[Cell, ...]] = []
    for scores in chosen:
        for p in operating_points(scores, resamples=resamples):
            figures = (p.sensitivity, p.specificity, p.ppv, p.npv, p.alerts_per_100)
            rows.append((p.lead_set, question(p.target), p.rule, p.threshold, *map(_defined, figures)))
    charts = []
    for scores in (b for b in _commonest(binary) if b.lead_set == first):
        test = scores.test
        curve = decision_curve(test.truth, test.p, test.patients, resamples=resamples)
        charts.append(plots.decision_chart(curve, title=f"{question(scores.target)}, leads {first}"))
    columns = (
        "Lead set", "Question", "Alert if", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV",
        "Alerts per 100 ECGs",
    )  # fmt: skip
    note = (
        "What an alert would find and cost. Thresholds are fixed, or the highest that reaches a sensitivity on the "
        "tune split; the test split only scores them, so the sensitivity found there differs. PPV, NPV and alerts "
        "hold for this share of positives."
    )
    return Part(Section(plots.DECISION, note, (Table("Thresholds", columns, tuple(rows)),)), tuple(charts))


def agreement(scores: Sequence[ValueScores], found: Mapping[str, Agreement]) -> Part:
    """Scatter and Bland-Altman plots, and the table of agreement, of one quantity by lead set."""
    charts = []
    for score in scores:
        charts += [plots.scatter_chart(score), plots.bland_altman_chart(score, found[score.lead_set])]
    rows = [
        (lead_set, *(_defined(e) for e in (a.bias, a.sd, a.low, a.high, a.slope)))
        for lead_set, a in found.items()
    ]
    quantity = scores[0].quantity
    moments = (quantity.in_unit("Bias"), quantity.in_unit("SD"))
    columns = ("Lead set", *moments, "Lower limit", "Upper limit", "Slope")
    note = (
        f"Predicted against true {quantity.name}. Limits of agreement are bias ± 1.96 SD of the differences, with "
        "95 % intervals over patients (grey bands). A negative slope: extremes are pulled towards the middle."
    )
    return Part(
        Section(quantity.section, note, (Table("Bland-Altman", columns, tuple(rows)),)), tuple(charts)
    )


def subgroups(
    rows: Sequence[ResultRow], first: str, found: PressureEvaluation | ValueEvaluation | None
) -> Part | None:
    """Forest plots and a table by sex, age, device and site; None where no group has enough patients.

    `found` is None for classes.
    """
    forest = dict(_FOREST_METRICS)
    if isinstance(found, ValueEvaluation):
        forest = {f"{name}_{found.label}": f"{label} ({found.label})" for name, label in _FOREST_OF_VALUE}
    by_metric = _group_estimates(rows, first, forest)
    if not by_metric:
        return None
    overall = {row.metric: row.value for row in rows if row.lead_set == first}
    charts = [
        plots.forest_chart(groups, overall[metric], title=f"{label}, leads {first}", x_label=label)
        for metric, label in forest.items()
        if (groups := by_metric.get(metric))
    ]
    names = list(dict.fromkeys(name for groups in by_metric.values() for name in groups))
    metrics = [m for m in forest if m in by_metric]
    patients = {name: e.patients for groups in by_metric.values() for name, e in groups.items()}
    lines = [(name, float(patients[name]), *(by_metric[m].get(name) for m in metrics)) for name in names]
    columns = ("Subgroup", "Patients", *(forest[m] for m in metrics))
    tables = [Table(f"By subgroup, leads {first}", columns, tuple(lines))]
    if found is not None and found.coverage:
        nominal = found.scores[0].interval_coverage
        shown = [c for c in found.coverage if c.lead_set == first]
        charts.append(plots.coverage_chart(shown, nominal=nominal, lead_set=first))
        quantity = MPCWP if isinstance(found, PressureEvaluation) else found.scores[0].quantity
        tables.append(_coverage_table(found.coverage, quantity))
    note = (
        "Groups of ten patients or more; 95 % intervals over patients. Many groups are looked at, so single ones stand "
        "out by luck too."
    )
    return Part(Section(plots.SUBGROUPS, note, tuple(tables)), tuple(charts))


def _coverage_table(found: Sequence[GroupCoverage], quantity: Quantity) -> Table:
    rows = [
        (
            c.lead_set,
            c.group,
            float(c.tune_patients),
            c.pooled_halfwidth,
            _defined(c.pooled),
            c.own_halfwidth,
            None if c.own is None else _defined(c.own),
        )
        for c in found
    ]
    columns = (
        "Lead set", "Subgroup", "Tune patients", quantity.in_unit("Half width for all"), "Coverage",
        quantity.in_unit("Own half width"), "Coverage with its own",
    )  # fmt: skip
    return Table("Conformal intervals by subgroup", columns, tuple(rows))


def embedding(figures: Mapping[str, EmbeddingFigures], chart: Chart, first: str) -> Part:
    """Neighbours and clusters of the test embeddings, trained beside untrained and chance."""
    names = list(next(iter(figures.values())).estimates)
    chance = next(iter(figures.values())).chance
    rows = [
        (name, *(_defined(f.estimates[name]) for f in figures.values()), chance.get(name)) for name in names
    ]
    note = (
        f"Leads {first}, cosine distance, 95 % intervals over patients. recall@k: one of the k nearest records of "
        "other patients is of the same category. Same patient: the nearest of all other records is the patient's own. "
        "Identification: a later record finds the patient's first among everybody's first."
    )
    columns = ("Figure", *figures, "at random")
    return Part(Section(plots.EMBEDDING, note, (Table("Retrieval", columns, tuple(rows)),)), (chart,))


def few_labels(curves: Mapping[str, Sequence[LowLabelPoint]], first: str) -> Part:
    """Low-label curve of each encoder."""
    rows = [
        (
            name,
            float(p.records),
            _defined(p.estimate),
            *_ends(p.draws),
            float(len(p.draws)),
        )
        for name, points in curves.items()
        for p in points
    ]
    columns = ("Encoder", "Records", "Macro AUROC", "Lowest draw", "Highest draw", "Draws")
    note = (
        "Linear probe on nested subsets of whole patients of the training split; a fifth of each subset chooses the "
        "regularisation, no other label is used. Mean over the draws, 95 % interval over test patients."
    )
    table = Table("Few labels", columns, tuple(rows))
    chart = plots.low_label_chart(curves, lead_set=first)
    drawn = (chart,) if any(series.x for series in chart.series) else ()
    return Part(Section(plots.FEW_LABELS, note, (table,)), drawn)


def comparison(found: Sequence[Comparison], other: str) -> Part:
    """Both runs on the same test records."""
    rows = [
        (
            c.lead_set,
            c.metric,
            c.value,
            c.other,
            _defined(c.difference),
            None
            if c.delong is None
            else Estimate(c.delong.difference, c.delong.low, c.delong.high, c.difference.patients),
            None if c.delong is None else c.delong.p_value,
        )
        for c in found
    ]
    columns = (
        "Lead set", "Metric", "This run", other, "Difference (over patients)", "DeLong difference", "DeLong p",
    )  # fmt: skip
    note = (
        "This run less the other, on the same records. The patient bootstrap is the one to quote: DeLong's test takes "
        "records for independent, and several records of one patient are not. No correction for many comparisons."
    )
    return Part(Section(COMPARISON, note, (Table(f"Against {other}", columns, tuple(rows)),)))


def _commonest(binary: Sequence[BinaryScores]) -> list[BinaryScores]:
    count = {scores.target: int(scores.test.truth.sum()) for scores in binary}
    shown = sorted(count, key=lambda target: -count[target])[:MAX_QUESTIONS]
    return [scores for scores in binary if scores.target in shown]


def _by_target(binary: Sequence[BinaryScores]) -> dict[str, list[tuple[str, BinaryScores]]]:
    found: dict[str, list[tuple[str, BinaryScores]]] = {}
    for scores in binary:
        found.setdefault(scores.target, []).append((scores.lead_set, scores))
    return found


def _by_lead_set(binary: Sequence[BinaryScores]) -> dict[str, list[tuple[str, BinaryScores]]]:
    found: dict[str, list[tuple[str, BinaryScores]]] = {}
    for scores in binary:
        found.setdefault(scores.lead_set, []).append((question(scores.target), scores))
    return found


def _group_estimates(
    rows: Sequence[ResultRow], first: str, metrics: Collection[str]
) -> dict[str, dict[str, Estimate]]:
    found: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        metric, bar, group = row.metric.partition(" | ")
        if bar and row.lead_set == first and metric in metrics and ("=" in group):
            found.setdefault(metric, {})[group] = Estimate(row.value, row.low, row.high, row.patients or 0)
    return found


def _defined(estimate: Estimate | Any) -> Estimate | None:
    return None if np.isnan(estimate.value) else estimate


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the lowest and the highest; None where none is defined (one outcome only)."""
    defined = [float(value) for value in values if not np.isnan(value)]
    return (min(defined), max(defined)) if defined else (None, None)
