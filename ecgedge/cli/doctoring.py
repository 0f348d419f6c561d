"""The command that looks whether this machine is fit to serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ecgedge import __version__
from ecgedge.cli.app import BundleOption, app


@app.command()
def doctor(
    bundle: BundleOption = "embedded",
    journal_folder: Annotated[Path, typer.Option(help="Where the journal would be.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Look at engines, GPU, versions, clocks, disk, time and a bundle's self-test; say what to do about each problem.

    Exit code 1 if something fails.

    Example: `ecgedge doctor --bundle embedded`
    """
    from ecgedge.bundle import RESEARCH_USE_ONLY
    from ecgedge.doctor import check_bundle, check_machine, gather_facts
    from ecgedge.schema import to_plain

    checks = (*check_machine(gather_facts(journal_folder)), *check_bundle(bundle))
    failed = [check.name for check in checks if check.state == "fail"]
    if as_json:
        report = {
            "ecgedge": __version__,
            "use": RESEARCH_USE_ONLY,
            "ok": not failed,
            "checks": to_plain(checks),
        }
        typer.echo(json.dumps(report, indent=1))
    else:
        typer.echo(f"ecgedge {__version__}: {RESEARCH_USE_ONLY}")
        for check in checks:
            typer.echo(f"{check.state:<5} {check.name}: {check.seen}")
            if check.advice is not None:
                typer.echo(f"      -> {check.advice}")
        if not failed:
            warned = sum(check.state == "warn" for check in checks)
            typer.echo(f"this machine is fit to serve{f'; to look at: {warned}' if warned else ''}")
    if failed:
        typer.echo(f"ecgedge: this machine is not fit to serve: {', '.join(failed)}", err=True)
        raise typer.Exit(1)
