"""The report: report.json for programs, and report.html, one file that opens anywhere without a network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from matplotlib.figure import Figure

from ecgedge.bundle import RESEARCH_USE_ONLY, ResultRow
from ecgedge.errors import RecordError
from ecgedge.report_page import SIMULATED, folded_table, page
from ecgedge.schema import from_plain, to_plain
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.evaluate.chart import Chart, to_svg

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"
HEADLINES: Final = (
    "macro_auroc",
    "head_macro_auroc",
    "auroc_gt_15",
    "ideal_auroc_gt_15",
    "auroc_gt_18",
    "ideal_auroc_gt_18",
    "rmse_mmhg",
    "pearson_r",
    "interval_coverage",
)
"""The metrics that are looked at first, one column each."""
_BROAD_INCHES: Final = 8.0
"""A figure broader than this has a line of its own."""
_OF_GROUP: Final = " | "

Cell: TypeAlias = str | float | Estimate | None


@dataclass(frozen=True)
class Table:
    """A table of a section; undefined figures are None."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading of the report, a sentence or two on how to read what stands below, and its tables.

    Charts say by their `section` where they belong.
    """

    title: str
    note: str
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `ecgedge evaluate` found.

    `simulated` is true if the test data or any of the model's training data are. `notes` are sentences that a
    reader needs to judge the figures. `probed` is true if the AUROCs are those of a linear probe, so that their
    baseline is the same probe on the untrained encoder. `charts` hold the data of every plot. `headlines` are the
    metrics that are looked at first; report.json does not hold them.
    """

    title: str
    simulated: bool
    dataset: str
    dataset_sha256: str
    attribution: str
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]
    probed: bool = False
    sections: tuple[Section, ...] = ()
    charts: tuple[Chart, ...] = ()
    headlines: tuple[str, ...] = HEADLINES


def write_report(report: Report, figures: Sequence[Figure], out: Path) -> None:
    """Write report.json and report.html into the folder `out`; a figure's label names the section it stands in."""
    out.mkdir(parents=True, exist_ok=True)
    (out / REPORT_JSON).write_text(_to_json(report), "utf-8")
    (out / REPORT_HTML).write_text(render_html(report, figures), "utf-8")


def _to_json(report: Report) -> str:
    """Indent all but the charts, which are long lists of numbers: one a line."""
    told = to_plain(replace(report, charts=()))
    del told["headlines"]
    plain = {"research_use_only": RESEARCH_USE_ONLY, **told}
    head = json.dumps(plain, indent=1, allow_nan=False)
    charts = ",\n  ".join(json.dumps(to_plain(chart), allow_nan=False) for chart in report.charts)
    return f"{head.removesuffix('[]' + chr(10) + '}')}[\n  {charts}\n ]\n}}\n"


def read_rows(folder: Path) -> tuple[ResultRow, ...]:
    """Return the rows of a report directory.

    Raises
    ------
    RecordError
        If there is no readable report.
    """
    with _readable(folder) as plain:
        return tuple(from_plain(ResultRow, row) for row in plain["rows"])


def read_dataset_sha256(folder: Path) -> str:
    """Return the SHA-256 of the dataset that a report directory is of.

    Raises
    ------
    RecordError
        If there is no readable report.
    """
    with _readable(folder) as plain:
        return str(plain["dataset_sha256"])


@contextmanager
def _readable(folder: Path) -> Iterator[dict[str, Any]]:
    """Give what a report directory says; what is wrong with it is our error."""
    path = folder / REPORT_JSON
    try:
        yield json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} cannot be read ({error}); run ecgedge evaluate again") from error


def render_text(report: Report) -> str:
    """Return the headline rows as lines for a terminal."""
    lines = [f"{report.title}{f'   {SIMULATED}' if report.simulated else ''}", RESEARCH_USE_ONLY]
    lines += [
        f"  {row.lead_set:<14} {row.metric:<18} {_value(row):<24} {_baseline(row, probed=report.probed)}".rstrip()
        for row in report.rows
        if row.metric in report.headlines
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def render_html(report: Report, figures: Sequence[Figure]) -> str:
    """Return the page."""
    simulated = "no figure here says anything about patients" if report.simulated else None
    return page(report.title, _body(report, figures), simulated=simulated)


def _body(report: Report, figures: Sequence[Figure]) -> Iterator[str]:
    yield from (f"<p>{html.escape(note)}</p>" for note in report.notes)
    if report.rows:
        yield "<h2>Results on the test split</h2>"
        yield from _headline_table(report.rows, report.headlines, probed=report.probed)
    yield from _sections(report.sections, figures)
    of_groups = [row for row in report.rows if _OF_GROUP in row.metric]
    for title, rows in (("All metrics", _main(report.rows)), ("All metrics by subgroup", of_groups)):
        if rows:
            yield f"<details><summary>{title}</summary>"
            yield from _table(rows, probed=report.probed)
            yield "</details>"
    yield f"<h2>Data</h2><p>{html.escape(report.attribution)}</p><p>{html.escape(report.dataset)}, "
    yield f"SHA-256 <code>{html.escape(report.dataset_sha256)}</code></p>"


def _sections(sections: Sequence[Section], figures: Sequence[Figure]) -> Iterator[str]:
    known = [section.title for section in sections]
    # Figures of no section come first, below the headline table.
    yield from _figures([f for f in figures if str(f.get_label()) not in known])
    for section in sections:
        yield f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.note)}</p>"
        yield from _figures([f for f in figures if str(f.get_label()) == section.title])
        for table in section.tables:
            cells = [[_cell(cell) for cell in row] for row in table.rows]
            yield from folded_table(table.title, table.columns, cells)


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    if figures:
        yield "<div class=plots>"
        yield from (_image(figure) for figure in figures)
        yield "</div>"


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return html.escape(cell)
    if isinstance(cell, Estimate):
        interval = (
            "" if cell.low is None or cell.high is None else f"{_short(cell.low)} to {_short(cell.high)}"
        )
        return f"{_short(cell.value)}<br><small>{interval}</small>"
    return _short(cell)


def _short(value: float) -> str:
    """Three decimals below 1, two below 10, one above; whole numbers as they are."""
    if float(value).is_integer() and abs(value) >= 1:
        return f"{value:.0f}"
    size = abs(value)
    return f"{value:.3f}" if size < 1 else f"{value:.2f}" if size < 10 else f"{value:.1f}"


def headline_rows(rows: Sequence[ResultRow]) -> tuple[ResultRow, ...]:
    """Return the rows of the headline metrics."""
    return tuple(row for row in rows if row.metric in HEADLINES)


def _main(rows: Sequence[ResultRow]) -> list[ResultRow]:
    return [row for row in rows if _OF_GROUP not in row.metric]


def _headline_table(rows: Sequence[ResultRow], headlines: Sequence[str], *, probed: bool) -> Iterator[str]:
    """One line a lead set, one column a headline metric; the baseline stands below the value."""
    cells = {(row.lead_set, row.metric): row for row in rows if row.metric in headlines}
    metrics = [metric for metric in headlines if any(metric == known for _, known in cells)]
    heads = "".join(f"<th>{metric.replace('_', '_<wbr>')}</th>" for metric in metrics)
    yield f"<table class=wide tabindex=0><thead><tr><th>Lead set</th>{heads}</tr></thead><tbody>"
    for lead_set in dict.fromkeys(name for name, _ in cells):
        line = "".join(
            f"<td>{_headline(cells.get((lead_set, metric)), probed=probed)}</td>" for metric in metrics
        )
        yield f"<tr><td>{html.escape(lead_set)}</td>{line}</tr>"
    yield "</tbody></table>"


def _headline(row: ResultRow | None, *, probed: bool) -> str:
    if row is None:
        return ""
    interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    return (
        f"<b>{row.value:.3f}</b><br><small>{interval}<br>{html.escape(_baseline(row, probed=probed))}</small>"
    )


def _table(rows: Sequence[ResultRow], *, probed: bool) -> Iterator[str]:
    heads = ("Lead set", "Metric", "Value (95 % interval over patients)", "Baseline", "Patients")
    yield (
        "<div class=scroll tabindex=0><table class=rows><thead><tr>"
        + "".join(f"<th>{head}</th>" for head in heads)
        + "</tr></thead><tbody>"
    )
    previous = ""
    for row in rows:
        cells = (
            row.lead_set,
            row.metric,
            _value(row),
            _baseline(row, probed=probed),
            str(row.patients or ""),
        )
        mark = " class=first" if row.lead_set != previous else ""
        yield f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        previous = row.lead_set
    yield "</tbody></table></div>"


def _value(row: ResultRow) -> str:
    if row.low is None or row.high is None:
        return f"{row.value:.3f} (no interval)"
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _baseline(row: ResultRow, *, probed: bool) -> str:
    return (
        "" if row.baseline is None else f"{row.baseline:.3f} {_baseline_meaning(row.metric, probed=probed)}"
    )


def _baseline_meaning(metric: str, *, probed: bool) -> str:
    meanings = {
        "rmse": "training mean",
        "mae": "training mean",
        "bias": "training mean",
        "auprc": "prevalence",
        "brier": "prevalence",
        "interval": "nominal",
        "cinc": "always normal",
        "ideal": "chance",
        "head": "chance",
    }
    found = next((text for start, text in meanings.items() if metric.startswith(start)), None)
    return found or ("untrained" if probed else "chance")


def _image(figure: Figure) -> str:
    data = base64.b64encode(to_svg(figure)).decode("ascii")
    title = html.escape(figure.get_suptitle(), quote=True)
    broad = " class=broad" if figure.get_figwidth() > _BROAD_INCHES else ""
    return f"<img alt='{title}'{broad} src='data:image/svg+xml;base64,{data}'>"
