"""Replayed alarms as a plot and a page: sensitivity against false alarms per patient-day, one curve a persistence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge.replay import Evidence, Measured, Part, PolicyScore, Score, definitions, describe_cohort
from ecgedge.replay.choose import why_none
from ecgedge.replay.grid import SWEPT
from ecgedge.replay.report import LITERATURE
from ecgedge.report_page import SIMULATED
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.evaluate.chart import COLOURS
from ecgedge_train.evaluate.report import Cell, Report, Section, Table, render_html

REPLAY_PNG: Final = "replay.png"
REPLAY_HTML: Final = "replay.html"
_FIGURE: Final = "Policies compared"
_TICKS: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0)
_LEAST_SPAN: Final = 1.0
_RED: Final = "#b00020"
_GREY: Final = "#8a8a8a"
_WORTH: Final = (
    *(
        "policy",
        "detected",
        "in alarm already",
        "sensitivity",
        "chance",
        "PPV of onsets",
        "alarms per patient-day",
    ),
    *("false alarms per patient-day", "patients with one"),
)
_TIMES: Final = (
    *("policy", "delay min, median", "delay, p10", "delay, p90", "time in alarm"),
    *("of elevated time", "of other time"),
)


def write_plot(evidence: Evidence, out: Path) -> None:
    """Write replay.png and replay.html into the folder `out`."""
    draw_replay(evidence, _margins(evidence)).savefig(out / REPLAY_PNG)
    # A page sets panels side by side or one below the other, as there is room.
    panels = [draw_replay(evidence, [margin]) for margin in _margins(evidence)]
    (out / REPLAY_HTML).write_text(render_html(_report(evidence), panels), "utf-8")


def _margins(evidence: Evidence) -> list[float]:
    return sorted({s.policy.recovery_margin_mmhg for s in _on_grid(evidence)})


def draw_replay(evidence: Evidence, margins: Sequence[float]) -> Figure:
    """Draw the policies of the grid, one panel a recovery margin, with chance and the budget."""
    figure = Figure(figsize=(1.0 + 4.6 * len(margins), 5.6), layout="constrained", dpi=110)
    figure.set_label(_FIGURE)
    figure.suptitle(_title(evidence), fontsize=10, color=_RED if evidence.simulated else "black")
    axes = figure.subplots(1, len(margins), squeeze=False, sharex=True, sharey=True)[0]
    named: dict[str, Artist] = {}
    panel = _panel if any(map(_point, _on_grid(evidence))) else _panel_without_truth
    for ax, margin in zip(axes, margins, strict=True):
        shown = [s for s in _on_grid(evidence) if s.policy.recovery_margin_mmhg == margin]
        panel(ax, evidence, shown)
        ax.set_title(f"an alarm ends {margin:g} mmHg under the threshold", fontsize=9)
        handles, names = ax.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    columns = 3 if len(margins) > 1 else 2
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    return figure


def _title(evidence: Evidence) -> str:
    cohort = describe_cohort(evidence)
    use = RESEARCH_USE_ONLY.partition(".")[0].lower()
    lines = [
        f"Alarms of {evidence.bundle_name}",
        cohort,
        f"{use}{f', {SIMULATED}' if evidence.simulated else ''}",
    ]
    return "\n".join(lines)


def _on_grid(evidence: Evidence) -> tuple[PolicyScore, ...]:
    return evidence.compared.scores[: len(evidence.grid.policies)]


def _panel(axes: Axes, evidence: Evidence, shown: Sequence[PolicyScore]) -> None:
    top = _span(evidence)
    chance = evidence.chance
    x = np.linspace(0.0, top**0.5, 200) ** 2
    if (y := [chance.sensitivity(float(at)) for at in x])[0] is not None:
        axes.plot(x, np.array(y, np.float64), color=_GREY, linestyle=":", label="alarms at random moments")
    named: set[tuple[float, float]] = set()
    for number, persistence_s in enumerate(dict.fromkeys(s.policy.persistence_s for s in shown)):
        of_curve = [s for s in shown if s.policy.persistence_s == persistence_s]
        _curve(axes, of_curve, number, f"persistence {persistence_s:g} s", named)
    for s, marker, name in _marked(evidence):
        if s in shown and (point := _point(s)) is not None:
            axes.scatter(
                *point, s=150, marker=marker, facecolor="none", edgecolor="black", zorder=4, label=name
            )
    budget = evidence.question.budget
    if budget is not None:
        axes.axvline(
            budget.false_alarms_per_patient_day, color="black", linestyle="--", linewidth=1, label="budget"
        )
    _scale(axes, evidence)
    _dress(axes, "false alarms per patient-day (square root)", "sensitivity (share of episodes detected)")


def _panel_without_truth(axes: Axes, _: Evidence, shown: Sequence[PolicyScore]) -> None:
    """Draw what is known where nobody knows an episode: how many alarms there are."""
    for number, persistence_s in enumerate(dict.fromkeys(s.policy.persistence_s for s in shown)):
        of_curve = [s for s in shown if s.policy.persistence_s == persistence_s]
        found = sorted(
            (s.policy.onset_probability, s.score.alarms_per_patient_day.value or 0.0) for s in of_curve
        )
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            *zip(*found, strict=True), color=colour, marker="o", label=f"persistence {persistence_s:g} s"
        )
    axes.set_ylim(bottom=0.0)
    _dress(axes, "onset probability", "alarms per patient-day, true or false")


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    axes.grid(linewidth=0.3)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.label_outer()


def _marked(evidence: Evidence) -> Iterator[tuple[PolicyScore, str, str]]:
    yield evidence.reference, "s", "the bundle's policy, or the one given"
    if evidence.chosen is not None:
        yield evidence.chosen, "o", "chosen"


def _curve(
    axes: Axes, of_curve: Sequence[PolicyScore], number: int, name: str, named: set[tuple[float, float]]
) -> None:
    """Join policies by their probability, with intervals of both axes; the ends are named, a place once.

    Later curves are finer and lie on top, so that those under them are seen where they meet.
    """
    colour, width = COLOURS[number % len(COLOURS)], max(1.0, 2.4 - 0.7 * number)
    known = [(point, s) for s in of_curve if (point := _point(s)) is not None]
    if not known:
        return
    known.sort(key=lambda pair: pair[1].policy.onset_probability)
    points = np.array([point for point, _ in known])
    axes.plot(
        points[:, 0],
        points[:, 1],
        color=colour,
        linewidth=width,
        marker="o",
        markersize=3.5 * width,
        label=name,
    )
    for (x, y), s in known:
        figures = s.score
        _bar(axes, figures.sensitivity, colour, x=x)
        _bar(axes, figures.false_alarms_per_patient_day, colour, y=y)
    (first, first_s), (last, last_s) = known[0], known[-1]
    ends = {first: f"p {first_s.policy.onset_probability:g}"}
    ends[last] = (
        f"{ends[first]} to {last_s.policy.onset_probability:g}"
        if first == last and len(known) > 1
        else f"p {last_s.policy.onset_probability:g}"
    )
    for place, text in ends.items():
        if place in named:
            continue
        named.add(place)
        axes.annotate(
            text,
            place,
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=7,
            color=colour,
        )


def _bar(axes: Axes, m: Measured, colour: str, *, x: float | None = None, y: float | None = None) -> None:
    if m.low is None or m.high is None:
        return
    if x is not None:
        axes.vlines([x], [m.low], [m.high], color=colour, linewidth=0.8, alpha=0.15)
    if y is not None:
        axes.hlines([y], [m.low], [m.high], color=colour, linewidth=0.8, alpha=0.15)


def _point(s: PolicyScore) -> tuple[float, float] | None:
    x, y = s.score.false_alarms_per_patient_day.value, s.score.sensitivity.value
    return None if x is None or y is None else (x, y)


def _span(evidence: Evidence) -> float:
    """Return the end of the x axis: a little past the worst policy, and the budget."""
    budget = evidence.question.budget
    values = [s.score.false_alarms_per_patient_day.value or 0.0 for s in _on_grid(evidence)]
    values += [budget.false_alarms_per_patient_day] if budget is not None else []
    return max(_LEAST_SPAN, 1.25 * max(values))


def _scale(axes: Axes, evidence: Evidence) -> None:
    """Square root: it has a place for 0 and room for the small rates that matter. Nothing at 0 is cut in half."""
    top = _span(evidence)
    axes.set_xscale("function", functions=(_root, _squared))
    axes.set_xlim(-0.001 * top, top)
    axes.set_ylim(-0.04, 1.07)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if tick <= top]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(values) * np.sqrt(np.abs(values))


def _squared(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(values) * np.square(values)


def _report(evidence: Evidence) -> Report:
    model = " A model trained on SIMULATED data." if evidence.simulated_model else ""
    return Report(
        title=f"ecgedge: alarms of {evidence.bundle_name} replayed",
        simulated=evidence.simulated,
        dataset=evidence.source,
        dataset_sha256=evidence.estimates_sha256,
        attribution=f"Bundle {evidence.bundle_name} ({evidence.bundle_id}), trained on: {evidence.trained_on}{model}",
        rows=(),
        notes=tuple(chain(definitions(evidence), evidence.notes)),
        sections=tuple(_sections(evidence)),
    )


def _sections(evidence: Evidence) -> Iterator[Section]:
    yield Section(
        _FIGURE,
        f"{evidence.source}. Each curve joins the onset probabilities of one persistence, the first and the last are "
        "named; bars are the intervals.",
    )
    budget = evidence.question.budget
    if budget is not None:
        how = "" if budget.by == "estimate" else ", by the upper end of the interval"
        found = (
            why_none(_on_grid(evidence), budget)
            if evidence.chosen is None
            else f"chosen: {_named(evidence.chosen)}"
        )
        note = f"Budget: {budget.false_alarms_per_patient_day:g} false alarms per patient-day{how}; {found}."
        if evidence.held_out is None:
            yield Section("A policy for the budget", note)
        else:
            others = f"{evidence.held_out.never.patients} patients that took no part in the choice"
            tables = tuple(_tables(others, evidence.held_out, evidence))
            yield Section("A policy for the budget", note, tables)
    tables = (*_tables("all policies", evidence.compared, evidence), *_left_out(evidence))
    some_held = any(stream.held_out for stream in evidence.streams)
    whose = "Of the patients that were not held out." if some_held else "Of all patients."
    yield Section("All figures", whose, tables)
    yield Section(
        "For comparison",
        "Published by others, of other devices, patients and definitions; not measured here.",
        (Table("Published numbers", ("what",), tuple((text,) for text in LITERATURE)),),
    )


def _named(s: PolicyScore) -> str:
    return ", ".join(f"{key} {getattr(s.policy, key):g}" for key in SWEPT)


def _left_out(evidence: Evidence) -> Iterator[Table]:
    if evidence.grid.left_out:
        rows = tuple((*(f"{getattr(o, key):g}" for key in SWEPT), o.reason) for o in evidence.grid.left_out)
        yield Table("Combinations that make no policy", (*SWEPT, "why"), rows)


def _tables(title: str, part: Part, evidence: Evidence) -> Iterator[Table]:
    """Give a table of what the alarms are worth, and one of their times."""
    rows = [(_policy(s, evidence), s.score) for s in part.scores]
    baselines = [
        ("never an alarm", replace(part.never, chance_sensitivity=None)),
        ("always an alarm", replace(part.always, chance_sensitivity=None)),
    ]
    for kind, heads, cells in (("worth", _WORTH, _worth), ("times", _TIMES, _times)):
        yield Table(
            f"{title.capitalize()}: {kind}",
            heads,
            tuple((name, *cells(score)) for name, score in (*rows, *baselines)),
        )


def _policy(s: PolicyScore, evidence: Evidence) -> str:
    p = s.policy
    name = f"p {p.onset_probability:g}, {p.persistence_s:g} s, {p.recovery_margin_mmhg:g} mmHg"
    remarks = ", ".join(remark for other, _, remark in _marked(evidence) if other.policy == p)
    return f"{name} ({remarks})" if remarks else name


def _worth(s: Score) -> tuple[Cell, ...]:
    known = s.false_alarms_per_patient_day.value is not None
    return (
        f"{s.detected} of {s.episodes}" if known else None,
        str(s.standing) if known else None,
        _cell(s.sensitivity, s),
        s.chance_sensitivity,
        _cell(s.ppv, s),
        _cell(s.alarms_per_patient_day, s),
        _cell(s.false_alarms_per_patient_day, s),
        f"{s.patients_with_false_alarm} of {s.patients}" if known else None,
    )


def _times(s: Score) -> tuple[Cell, ...]:
    delays = (s.delay_median_min, s.delay_p10_min, s.delay_p90_min)
    shares = (s.time_in_alarm, s.elevated_time_in_alarm, s.other_time_in_alarm)
    return tuple(_cell(m, s) for m in (*delays, *shares))


def _cell(m: Measured, s: Score) -> Cell:
    return None if m.value is None else Estimate(m.value, m.low, m.high, s.patients)
