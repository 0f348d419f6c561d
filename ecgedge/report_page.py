"""One look for every report that a person opens: evaluation, compression, replayed alarms, a benchmark.

A page is one file that opens without a network, light or dark as the reader's screen is, and prints on paper with
every fold open. "Research use only" and, where it is so, that data are simulated stand at its top.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ecgedge.bundle import RESEARCH_USE_ONLY

SIMULATED: Final = "SIMULATED DATA"
SHORT_TABLE: Final = 16
"""Rows; longer tables start folded."""
_LIGHT: Final = (
    "--ink:#1a1a1a;--paper:#fff;--faint:#555;--line:#ddd;--strong:#444;--panel:#f3f3f3;"
    "--alarm:#b00020;--on-alarm:#fff"
)
_DARK: Final = (
    "--ink:#e6e6e6;--paper:#16181b;--faint:#a8a8a8;--line:#3a3d42;--strong:#9a9a9a;--panel:#22252a;--alarm:#ff8a95;"
    "--on-alarm:#16181b"
)
# Plots are drawn for white paper and keep it in the dark. A table that goes on beyond its edge has a shadow there.
STYLE: Final = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
body{{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:1rem auto;padding:0 1rem;
color:var(--ink);background:var(--paper)}}
h1{{font-size:1.5rem;overflow-wrap:anywhere}}h2{{font-size:1.2rem;margin-top:2rem}}
table{{border-collapse:collapse;margin:.5rem 0 1rem;font-variant-numeric:tabular-nums}}
th,td{{text-align:right;padding:.25rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}}
th:first-child,td:first-child,.rows th:nth-child(2),.rows td:nth-child(2){{text-align:left}}
thead th{{border-bottom:2px solid var(--strong);vertical-align:bottom}}
tbody tr.first td{{border-top:2px solid var(--strong)}}
p,li,dd{{overflow-wrap:anywhere}}small{{color:var(--faint);white-space:nowrap}}code{{overflow-wrap:anywhere}}
.sim{{background:var(--alarm);color:var(--on-alarm);font-weight:700;padding:.6rem 1rem;text-align:center;
letter-spacing:.08em}}
.note{{background:var(--panel);padding:.6rem 1rem}}
.scroll,.wide{{display:block;overflow-x:auto;background:
linear-gradient(to right,var(--paper) 40%,transparent) left/3rem 100% no-repeat local,
linear-gradient(to left,var(--paper) 40%,transparent) right/3rem 100% no-repeat local,
linear-gradient(to right,var(--line),transparent) left/.8rem 100% no-repeat scroll,
linear-gradient(to left,var(--line),transparent) right/.8rem 100% no-repeat scroll}}
.plots{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:1rem;align-items:start}}
.plots img{{width:100%;max-width:32rem;height:auto;background:#fff;border-radius:4px}}
.plots img.broad{{grid-column:1/-1;max-width:none}}
details{{margin:1rem 0}}summary{{cursor:pointer;font-weight:600;overflow-wrap:anywhere}}
@media print{{
:root{{color-scheme:light;{_LIGHT}}}
@page{{margin:12mm}}
body{{font-size:10px;max-width:none;margin:0;padding:0}}
.sim{{border:2px solid var(--alarm);color:var(--alarm);background:none}}
.scroll,.wide{{overflow:visible;background:none}}
details::details-content{{content-visibility:visible;height:auto;display:block}}
th,td{{padding:.1rem .3rem}}.plots{{grid-template-columns:1fr 1fr}}thead{{display:table-header-group}}
img,tr{{break-inside:avoid}}h2,summary{{break-after:avoid}}
}}
"""


def page(title: str, parts: Iterable[str], *, simulated: str | None) -> str:
    """Return a whole page.

    Parameters
    ----------
    title
        Plain text.
    parts
        HTML below the title, made from escaped text.
    simulated
        What is simulated, as plain text behind `SIMULATED`; None if nothing is.
    """
    name = html.escape(title)
    banner = (
        "" if simulated is None else f"<div class=sim role=alert>{SIMULATED}: {html.escape(simulated)}</div>"
    )
    return "\n".join(
        [
            f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{name}</title>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            "<meta name=color-scheme content='light dark'>",
            f"<style>{STYLE}</style></head><body>",
            banner,
            f"<h1>{name}</h1><p class=note><strong>{html.escape(RESEARCH_USE_ONLY)}</strong></p>",
            *parts,
            "</body></html>\n",
        ]
    )


def folded_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give a table under a fold that is open where the table is short.

    Parameters
    ----------
    title, columns
        Plain text.
    rows
        Cells as HTML, made from escaped text.
    """
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    opened = " open" if len(rows) <= SHORT_TABLE else ""
    yield f"<details{opened}><summary>{html.escape(title)}</summary><div class=scroll tabindex=0>"
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    yield from ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    yield "</tbody></table></div></details>"
