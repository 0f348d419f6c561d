"""A benchmark as a page in the look of the other reports."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ecgedge.bench.report import Report
from ecgedge.bench.table import Grid, conditions, pairs, processes, speeds
from ecgedge.report_page import folded_table, page


def render_bench_page(report: Report) -> str:
    """Return the page of a benchmark."""
    names = " and ".join(dict.fromkeys(benched.name for benched in report.bundles))
    simulated = any(benched.simulated for benched in report.bundles)
    what = "the model was trained on simulated patients; these are times, and say nothing about people"
    return page(f"ecgedge benchmark: {names}", _body(report), simulated=what if simulated else None)


def _body(report: Report) -> Iterator[str]:
    yield from (f"<p>{html.escape(line)}</p>" for line in conditions(report))
    for benched in report.bundles:
        yield f"<h2>{html.escape(benched.name)}</h2>"
        yield f"<p>{html.escape(benched.source)}, id <code>{html.escape(benched.id)}</code></p>"
        yield from _folded(speeds(benched))
        yield from _folded(processes(benched))
        yield from (f"<p>Not measured: {html.escape(reason)}</p>" for reason in benched.refused)
    if report.pairs:
        yield "<h2>Compared</h2><p>The second by the first: below 1 the second is smaller.</p>"
        yield from _folded(pairs(report))


def _folded(grid: Grid) -> Iterator[str]:
    return folded_table(grid.title, grid.head, [[html.escape(cell) for cell in row] for row in grid.rows])
