"""The command that measures a bundle on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import BundleArgument, RuntimeOption, announce, app
from ecgedge.errors import UsageError

_PIPE_WIDTH = 132
"""Columns of a table that no terminal shows."""


@app.command()
def bench(
    bundle: BundleArgument,
    against: Annotated[
        str | None, typer.Option(help="A second bundle: each pair of variants is compared.")
    ] = None,
    runtime: RuntimeOption = "auto",
    batch: Annotated[str, typer.Option(help="Batch sizes, for example 1,16.")] = "1",
    seconds: Annotated[
        float, typer.Option(help="Running time for each variant, runtime and batch size.")
    ] = 2.0,
    rounds: Annotated[
        int, typer.Option(help="Turns that each takes; more of them bear a busy machine better.")
    ] = 5,
    out: Annotated[Path | None, typer.Option("--json", help="Write everything measured as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the tables as a page, in one file.")
    ] = None,
) -> None:
    """Measure a bundle here: latency, beds per core, memory, cold start, share of the machine's peak.

    Several runtimes can be named, separated by commas.

    Example: `ecgedge bench embedded --runtime ort,openvino --batch 1,16`
    """
    from rich.console import Console

    from ecgedge.bench.measure import Plan, run_bench
    from ecgedge.bench.page import render_bench_page
    from ecgedge.bench.table import print_report
    from ecgedge.bundle import load_bundle
    from ecgedge.schema import to_plain

    plan = Plan(runtimes=_parts(runtime), batches=_sizes(batch), seconds=seconds, rounds=rounds)
    plan.check()
    bundles = [load_bundle(source) for source in (bundle, against) if source is not None]
    for loaded in bundles:
        announce(loaded, "test")
    report = run_bench(bundles, plan)
    screen = Console()
    # A file or a pipe has no edge: nothing is cut there
    print_report(report, bundles, screen if screen.is_terminal else Console(width=_PIPE_WIDTH))
    if out is not None:
        out.write_text(json.dumps(to_plain(report), indent=1) + "\n", "utf-8")
    if page is not None:
        page.write_text(render_bench_page(report), "utf-8")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or (text,)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in _parts(text)))
    except ValueError as error:
        raise UsageError(f"--batch is {text!r}; expected whole numbers such as 1,16") from error
