"""The report: report.json for programs, and report.html, one file that opens anywhere without a network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from ecgedge.bundle import RESEARCH_USE_ONLY, ResultRow
from ecgedge.errors import RecordError
from ecgedge.schema import from_plain, to_plain
from ecgedge_train.evaluate.plots import to_svg

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"
SIMULATED: Final = "SIMULATED DATA"
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
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #ddd}
th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}
thead th{border-bottom:2px solid #444}tbody tr.first td{border-top:2px solid #aaa}
.sim{background:#b00020;color:#fff;font-weight:700;padding:.6rem 1rem;text-align:center;letter-spacing:.08em}
.note{background:#f3f3f3;padding:.6rem 1rem}img{width:100%;height:auto}code{overflow-wrap:anywhere}
table.wide td:nth-child(2),table.wide th:nth-child(2){text-align:right}small{color:#555;white-space:nowrap}
.wide{display:block;overflow-x:auto}.wide th,.wide td{padding:.25rem .45rem;vertical-align:top}
details{margin:1rem 0}summary{cursor:pointer}
"""


@dataclass(frozen=True)
class Report:
    """What `ecgedge evaluate` found.

    `simulated` is true if the test data or any of the model's training data are. `notes` are sentences that a
    reader needs to judge the figures.
    """

    title: str
    simulated: bool
    dataset: str
    dataset_sha256: str
    attribution: str
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]


def write_report(report: Report, figures: Sequence[Figure], out: Path) -> None:
    """Write report.json and report.html into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    plain = {"research_use_only": RESEARCH_USE_ONLY, **to_plain(report)}
    (out / REPORT_JSON).write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", "utf-8")
    (out / REPORT_HTML).write_text(render_html(report, figures), "utf-8")


def read_rows(folder: Path) -> tuple[ResultRow, ...]:
    """Return the rows of a report directory.

    Raises
    ------
    RecordError
        If there is no readable report.
    """
    path = folder / REPORT_JSON
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        return tuple(from_plain(ResultRow, row) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} cannot be read ({error}); run ecgedge evaluate again") from error


def render_text(report: Report) -> str:
    """Return the headline rows as lines for a terminal."""
    lines = [f"{report.title}{f'   {SIMULATED}' if report.simulated else ''}", RESEARCH_USE_ONLY]
    lines += [
        f"  {row.lead_set:<14} {row.metric:<18} {_value(row):<24} {_baseline(row)}".rstrip()
        for row in report.rows
        if row.metric in HEADLINES
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def render_html(report: Report, figures: Sequence[Figure]) -> str:
    """Return the page."""
    title = html.escape(report.title)
    groups = [row for row in report.rows if "|" in row.metric]
    parts = [
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>",
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style></head><body>",
        f"<div class=sim role=alert>{SIMULATED}: no figure here says anything about patients</div>"
        if report.simulated
        else "",
        f"<h1>{title}</h1><p class=note><strong>{html.escape(RESEARCH_USE_ONLY)}</strong></p>",
        "".join(f"<p>{html.escape(note)}</p>" for note in report.notes),
        "<h2>Results on the test split</h2>",
        "".join(_headline_table(report.rows)),
        "".join(_image(figure) for figure in figures),
        "<details><summary>All metrics</summary>",
        *_table(_main(report.rows)),
        "</details>",
    ]
    if groups:
        parts += ["<details><summary>By sex and age</summary>", *_table(groups), "</details>"]
    parts += [
        "<h2>Data</h2>",
        f"<p>{html.escape(report.attribution)}</p><p>{html.escape(report.dataset)}, ",
        f"SHA-256 <code>{html.escape(report.dataset_sha256)}</code></p></body></html>\n",
    ]
    return "\n".join(parts)


def headline_rows(rows: Sequence[ResultRow]) -> tuple[ResultRow, ...]:
    """Return the rows of the headline metrics."""
    return tuple(row for row in rows if row.metric in HEADLINES)


def _main(rows: Sequence[ResultRow]) -> list[ResultRow]:
    return [row for row in rows if "|" not in row.metric]


def _headline_table(rows: Sequence[ResultRow]) -> Iterator[str]:
    """One line a lead set, one column a headline metric; the baseline stands below the value."""
    cells = {(row.lead_set, row.metric): row for row in rows if row.metric in HEADLINES}
    metrics = [metric for metric in HEADLINES if any(metric == known for _, known in cells)]
    heads = "".join(f"<th>{metric.replace('_', '_<wbr>')}</th>" for metric in metrics)
    yield f"<table class=wide><thead><tr><th>Lead set</th>{heads}</tr></thead><tbody>"
    for lead_set in dict.fromkeys(name for name, _ in cells):
        line = "".join(f"<td>{_headline(cells.get((lead_set, metric)))}</td>" for metric in metrics)
        yield f"<tr><td>{html.escape(lead_set)}</td>{line}</tr>"
    yield "</tbody></table>"


def _headline(row: ResultRow | None) -> str:
    if row is None:
        return ""
    interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    return f"<b>{row.value:.3f}</b><br><small>{interval}<br>{html.escape(_baseline(row))}</small>"


def _table(rows: Sequence[ResultRow]) -> Iterator[str]:
    heads = ("Lead set", "Metric", "Value (95 % interval over patients)", "Baseline", "Patients")
    yield "<table><thead><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead><tbody>"
    previous = ""
    for row in rows:
        cells = (row.lead_set, row.metric, _value(row), _baseline(row), str(row.patients or ""))
        mark = " class=first" if row.lead_set != previous else ""
        yield f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        previous = row.lead_set
    yield "</tbody></table>"


def _value(row: ResultRow) -> str:
    if row.low is None or row.high is None:
        return f"{row.value:.3f} (no interval)"
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _baseline(row: ResultRow) -> str:
    return "" if row.baseline is None else f"{row.baseline:.3f} {_baseline_meaning(row.metric)}"


def _baseline_meaning(metric: str) -> str:
    meanings = {
        "rmse": "training mean",
        "mae": "training mean",
        "bias": "training mean",
        "auprc": "prevalence",
        "interval": "nominal",
        "auroc_gt": "chance",
        "ideal": "chance",
        "head": "chance",
    }
    return next((text for start, text in meanings.items() if metric.startswith(start)), "untrained")


def _image(figure: Figure) -> str:
    data = base64.b64encode(to_svg(figure)).decode("ascii")
    return f"<p><img alt='plot' src='data:image/svg+xml;base64,{data}'></p>"
