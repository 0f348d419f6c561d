"""A chart as data, so that a report can be redrawn from its JSON, and one way to draw it.

Each chart is a figure of its own: the page sets them side by side on a desk and one below the other on a phone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette: told apart with any colour vision."""
_GREY: Final = "#8a8a8a"
_RED: Final = "#b00020"
_WIDTH_IN: Final = 5.0
_ROW_IN: Final = 0.3
_DIGITS: Final = 5
_TICKS_APART: Final = 1.3

Kind: TypeAlias = Literal["line", "marks", "dots", "reference", "level", "interval"]
Numbers: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """One thing drawn.

    `kind`: "line" with a band from `low` to `high` if given; "marks", a line with a dot a point (`sizes` are shares);
    "dots", a cloud; "reference", a thin grey line; "level", a dashed line across at y[0] with a band; "interval",
    values x with bars from `low` to `high`, y numbers the chart's categories.
    """

    name: str
    kind: Kind
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    sizes: Numbers | None = None


@dataclass(frozen=True)
class Chart:
    """Series on one pair of axes; `categories` are the rows of a forest plot, top first."""

    section: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    log_x: bool = False


def numbers(values: ArrayLike) -> Numbers:
    """Return plain floats of five significant digits: more would only fill the report's JSON."""
    return tuple(float(f"{v:.{_DIGITS}g}") for v in np.asarray(values, np.float64).ravel().tolist())


def draw(chart: Chart, *, mark: str = "") -> Figure:
    """Draw a chart; the figure's label is the section it belongs to, `mark` is written into it in red."""
    height = 4.3 if not chart.categories else 1.4 + _ROW_IN * len(chart.categories)
    height += 0.16 * ((_named(chart) + 1) // 2)
    figure = Figure(figsize=(_WIDTH_IN, height), layout="constrained", dpi=110)
    figure.set_label(chart.section)
    figure.suptitle(
        f"{chart.title}{chr(10) + mark if mark else ''}", fontsize=10, color=_RED if mark else "black"
    )
    axes = figure.subplots()
    colour = 0
    for number, series in enumerate(chart.series):
        _draw(axes, series, COLOURS[colour % len(COLOURS)], number, chart)
        colour += series.kind not in ("reference", "level")
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.tick_params(labelsize=8)
    _scale(axes, chart)
    if _named(chart):
        figure.legend(
            loc="outside lower center", ncols=2 if _named(chart) > 1 else 1, fontsize=8, frameon=False
        )
    return figure


def to_svg(figure: Figure) -> bytes:
    """Draw a figure; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "ecgedge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _named(chart: Chart) -> int:
    return sum(bool(series.name) for series in chart.series)


def _scale(axes: Axes, chart: Chart) -> None:
    if chart.log_x:
        axes.set_xscale("log")
        ticks = _apart(sorted({x for series in chart.series for x in series.x}))
        axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
        axes.minorticks_off()
    if chart.x_limits:
        axes.set_xlim(*chart.x_limits)
    if chart.y_limits:
        axes.set_ylim(*chart.y_limits)
    if chart.categories:
        axes.set_yticks(range(len(chart.categories)), chart.categories)
        axes.set_ylim(len(chart.categories) - 0.4, -0.6)
        axes.grid(axis="x", linewidth=0.4)


def _apart(values: list[float]) -> list[float]:
    """Leave out values that the next one would be written over on a logarithmic axis; the last one stays."""
    return [x for x, after in zip(values, [*values[1:], np.inf], strict=True) if after > _TICKS_APART * x]


def _draw(axes: Axes, series: Series, colour: str, number: int, chart: Chart) -> None:
    label = series.name or "_nolegend_"
    if series.kind == "dots":
        size = 14 if len(series.x) < 1000 else 6
        axes.scatter(
            series.x, series.y, s=size, alpha=0.5, color=colour, linewidths=0, label=label, rasterized=True
        )
    elif series.kind == "interval":
        _intervals(axes, series, colour, label, number, chart)
    elif series.kind == "level":
        axes.axhline(series.y[0], color="black", linestyle="--", linewidth=1, label=label)
        if series.low is not None and series.high is not None:
            axes.axhspan(series.low[0], series.high[0], color=_GREY, alpha=0.25, linewidth=0)
    elif series.kind == "reference":
        axes.plot(
            series.x,
            series.y,
            color=_GREY,
            linewidth=1,
            label=label,
            linestyle="-" if not series.name else ":",
        )
    else:
        _line(axes, series, colour, label)


def _line(axes: Axes, series: Series, colour: str, label: str) -> None:
    axes.plot(series.x, series.y, color=colour, linewidth=1.3, label=label)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    if series.kind == "marks":
        sizes = [12.0] * len(series.x) if series.sizes is None else [6 + 90 * share for share in series.sizes]
        axes.scatter(series.x, series.y, s=sizes, color=colour, linewidths=0)


def _intervals(axes: Axes, series: Series, colour: str, label: str, number: int, chart: Chart) -> None:
    """Values with bars; several series in one row stand a little above each other."""
    several = [s for s in chart.series if s.kind == "interval"]
    shift = 0.22 * (several.index(chart.series[number]) - (len(several) - 1) / 2)
    x, y = np.array(series.x), np.array(series.y) + shift
    if series.low is not None and series.high is not None:
        axes.hlines(y, series.low, series.high, color=colour, linewidth=1.3)
    axes.scatter(x, y, s=16, color=colour, label=label, zorder=3)
