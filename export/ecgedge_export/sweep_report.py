"""The outcome of a sweep: points, their Pareto fronts, and how they are shown (text, JSON, PNG, one HTML page)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ecgedge.bundle import RESEARCH_USE_ONLY, ResultRow
from ecgedge.report_page import SIMULATED
from ecgedge.schema import to_plain
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.evaluate.chart import COLOURS
from ecgedge_train.evaluate.report import Report, Section, Table, render_html

SWEEP_JSON: Final = "sweep.json"
SWEEP_PNG: Final = "sweep.png"
SWEEP_HTML: Final = "sweep.html"
TEACHER: Final = "teacher"
COSTS: Final = {
    "macs": ("MACs of one window (million)", 1e-6),
    "parameters": ("parameters (thousand)", 1e-3),
    "latency_ms": ("ONNX Runtime fp32, 1 thread, one window: p50 (ms)", 1.0),
}
"""What a point costs: axis and factor of the unit shown."""
_MARKERS: Final = "osD^vP*X<>"
_FRONT: Final = "Pareto front"
_NOTE: Final = (
    "A point is on a front if no other one of its lead set costs no more and scores no less on the tune split; the "
    "figures shown are those of the test split, with 95 % intervals that resample patients. Times are of this machine, "
    "taken in turns: their ratios mean more than their values."
)


@dataclass(frozen=True)
class Point:
    """One network with one lead set.

    `tune` chooses and `test` reports, both `Sweep.metric`. Costs are None for a teacher that cannot be exported.
    """

    network: str
    lead_set: str
    tune: float
    test: Estimate
    macs: int | None
    parameters: int | None
    latency_ms: float | None

    def cost(self, name: str) -> float | None:
        """Return one of `COSTS`."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True)
class Sweep:
    """All points, the teacher's first, and what a reader must know to judge them."""

    teacher: str
    dataset: str
    dataset_sha256: str
    attribution: str
    simulated: bool
    metric: str
    points: tuple[Point, ...]

    @property
    def lead_sets(self) -> tuple[str, ...]:
        """Lead sets in order."""
        return tuple(dict.fromkeys(p.lead_set for p in self.points))

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks in order, the teacher first."""
        return tuple(dict.fromkeys(p.network for p in self.points))


def front(points: Sequence[Point], cost: str) -> tuple[Point, ...]:
    """Return the points of one lead set that none beats, cheapest first; those of unknown cost are left out."""
    known = [(value, p) for p in points if (value := p.cost(cost)) is not None]
    best: list[Point] = []
    for _, p in sorted(known, key=lambda pair: (pair[0], -pair[1].tune)):
        if not best or p.tune > best[-1].tune:
            best.append(p)
    return tuple(best)


def write_sweep(sweep: Sweep, folder: Path) -> str:
    """Write sweep.json, sweep.png and sweep.html, and return the table as text."""
    figure = draw_sweep(sweep)
    (folder / SWEEP_JSON).write_text(json.dumps(_plain(sweep), indent=1, allow_nan=False) + "\n", "utf-8")
    figure.savefig(folder / SWEEP_PNG)
    (folder / SWEEP_HTML).write_text(render_html(_report(sweep), [figure]), "utf-8")
    return render_sweep(sweep)


def _plain(sweep: Sweep) -> dict[str, object]:
    of_points = [
        {**to_plain(p), "on_front_of": [cost for cost in COSTS if p in _front_of(sweep, p.lead_set, cost)]}
        for p in sweep.points
    ]
    head = {key: value for key, value in to_plain(sweep).items() if key != "points"}
    return {"research_use_only": RESEARCH_USE_ONLY, **head, "note": _NOTE, "points": of_points}


def _front_of(sweep: Sweep, lead_set: str, cost: str) -> tuple[Point, ...]:
    return front([p for p in sweep.points if p.lead_set == lead_set], cost)


def render_sweep(sweep: Sweep) -> str:
    """Return the table for a terminal; a star marks the front of accuracy against MACs."""
    lines = [
        f"students of {sweep.teacher} on {sweep.dataset}{f'   {SIMULATED}' if sweep.simulated else ''}",
        RESEARCH_USE_ONLY,
        f"  {'leads':<12} {'network':<22} {sweep.metric + ', test split':<26} {'MMACs':>8} {'kparam':>8} {'p50 ms':>8}",
    ]
    for lead_set in sweep.lead_sets:
        best = _front_of(sweep, lead_set, "macs")
        for p in (p for p in sweep.points if p.lead_set == lead_set):
            costs = "".join(f" {_number(p.cost(name), scale):>8}" for name, (_, scale) in COSTS.items())
            lines.append(
                f"{'*' if p in best else ' '} {lead_set:<12} {p.network:<22} {_estimate(p.test):<26}{costs}"
            )
    return "\n".join([*lines, f"* on the Pareto front of {sweep.metric} (tune split) against MACs"])


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.3g}" if value * scale < 100 else f"{value * scale:.0f}"


def _estimate(e: Estimate) -> str:
    return f"{e.value:.3f}" + ("" if e.low is None or e.high is None else f" ({e.low:.3f} to {e.high:.3f})")


def draw_sweep(sweep: Sweep) -> Figure:
    """Draw accuracy against each cost, one row a lead set; a line joins each front."""
    rows = len(sweep.lead_sets)
    figure = Figure(figsize=(11.0, 1.4 + 3.0 * rows), layout="constrained", dpi=110)
    figure.set_label(_FRONT)
    mark = f"\n{SIMULATED}" if sweep.simulated else ""
    figure.suptitle(
        f"Students of {sweep.teacher} on {sweep.dataset}, {RESEARCH_USE_ONLY.partition('.')[0].lower()}{mark}",
        fontsize=11,
        color="#b00020" if sweep.simulated else "black",
    )
    axes = figure.subplots(rows, len(COSTS), squeeze=False, sharex="col", sharey="row")
    for row, lead_set in zip(axes, sweep.lead_sets, strict=True):
        for ax, cost in zip(row, COSTS, strict=True):
            _panel(ax, sweep, lead_set, cost)
        row[0].set_ylabel(f"leads {lead_set}\n{sweep.metric}, test split", fontsize=9)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _panel(axes: Axes, sweep: Sweep, lead_set: str, cost: str) -> None:
    label, scale = COSTS[cost]
    best = _front_of(sweep, lead_set, cost)
    line = [(value * scale, p.test.value) for p in best if (value := p.cost(cost)) is not None]
    axes.plot(*zip(*line, strict=True), color="#8a8a8a", linewidth=1, zorder=1, label=_FRONT)
    for i, network in enumerate(sweep.networks):
        # Every network in every panel, so that one legend serves all.
        shown = [p for p in sweep.points if (p.network, p.lead_set) == (network, lead_set)]
        _marks(axes, [(p, v * scale) for p in shown if (v := p.cost(cost)) is not None], i, network, best)
    for p in sweep.points:
        if p.lead_set == lead_set and p.cost(cost) is None:
            name = f"{p.network}, cannot be exported"
            axes.axhline(p.test.value, color="black", linestyle=":", linewidth=1, label=name)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Labels of three decades or more would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(labelsize=8, which="both")
    axes.grid(linewidth=0.3)


def _marks(
    axes: Axes, shown: Sequence[tuple[Point, float]], i: int, name: str, best: Sequence[Point]
) -> None:
    colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
    axes.scatter([], [], marker=marker, color=colour, label=name)
    for p, x in shown:
        filled = colour if p in best else "white"
        axes.scatter([x], [p.test.value], s=36, marker=marker, facecolor=filled, edgecolor=colour, zorder=3)
        if p.test.low is not None and p.test.high is not None:
            axes.vlines([x], [p.test.low], [p.test.high], color=colour, linewidth=1, alpha=0.6)


def _report(sweep: Sweep) -> Report:
    rows = tuple(
        ResultRow(
            dataset=sweep.dataset,
            lead_set=f"{p.lead_set}: {p.network}",
            metric=sweep.metric,
            value=p.test.value,
            low=p.test.low,
            high=p.test.high,
            patients=p.test.patients,
        )
        for p in sweep.points
    )
    return Report(
        title=f"ecgedge compression: students of {sweep.teacher} on {sweep.dataset}",
        simulated=sweep.simulated,
        dataset=sweep.dataset,
        dataset_sha256=sweep.dataset_sha256,
        attribution=sweep.attribution,
        rows=rows,
        notes=(_NOTE,),
        sections=(Section(_FRONT, _NOTE_FILLED, tuple(_tables(sweep))),),
    )


_NOTE_FILLED: Final = (
    "Filled marks are on the front, which the line joins. Bars are the intervals of the test split."
)


def _tables(sweep: Sweep) -> Iterator[Table]:
    for lead_set in sweep.lead_sets:
        best = {cost: _front_of(sweep, lead_set, cost) for cost in COSTS}
        yield Table(
            f"Leads {lead_set}",
            (
                "network",
                f"{sweep.metric}, test",
                f"{sweep.metric}, tune",
                *(text for text, _ in COSTS.values()),
                "front of",
            ),
            tuple(
                (
                    p.network,
                    p.test,
                    p.tune,
                    *(None if (v := p.cost(c)) is None else v * scale for c, (_, scale) in COSTS.items()),
                    ", ".join(cost for cost in COSTS if p in best[cost]),
                )
                for p in sweep.points
                if p.lead_set == lead_set
            ),
        )
