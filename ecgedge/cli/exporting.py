"""Commands of the export room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ecgedge.cli.app import app, needs, parse_lead_sets
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Precision


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    target: Annotated[str, typer.Option(help="cpu, rtx or jetson.")],
    data: Annotated[Path, typer.Option(help="Dataset directory (calibration and self-test windows).")],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.ecgb or NAME.ecgb.zip.")],
    lead_sets: Annotated[str | None, typer.Option(help='Lead sets, for example "12;I,II;I".')] = None,
    report: Annotated[
        Path | None, typer.Option(help="What evaluate wrote: figures for the card, linear probes as outputs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Model name.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32 or int8; repeat for both. Default: the target's own.")
    ] = None,
    form: Annotated[
        str, typer.Option(help="window, stream (a causal run, fed chunk by chunk), or both in one bundle.")
    ] = "window",
    int8_or_fp32: Annotated[
        bool, typer.Option("--int8-or-fp32", help="Ship a lead set in fp32 only if its INT8 fails the gate.")
    ] = False,
) -> None:
    """Export a run as a bundle, each variant proven equal to the trained model before it is written.

    Example: `ecgedge export runs/mpcwp --target cpu --data out/sim --out mpcwp.ecgb`
    """
    from ecgedge.leads import format_lead_set

    with needs("export", "export"):
        from ecgedge_export.compare import Int8Gate
        from ecgedge_export.pack import export_run
    chosen = parse_lead_sets(lead_sets)
    bundle_id = export_run(
        run,
        target=target,
        data=data,
        out=out,
        lead_sets=[format_lead_set(leads) for leads in chosen] if chosen else None,
        report=report,
        name=name,
        precisions=_precisions(precision),
        form=_form(form),
        int8_gate=Int8Gate(otherwise="leave_out" if int8_or_fp32 else "refuse"),
    )
    typer.echo(f"{out}: id {bundle_id}")


def _form(name: str) -> Literal["window", "stream", "both"]:
    if name not in ("window", "stream", "both"):
        raise UsageError(f"--form is {name!r}; expected window, stream or both")
    return cast("Literal['window', 'stream', 'both']", name)


def _precisions(names: Sequence[str] | None) -> tuple[Precision, ...] | None:
    known: dict[str, Precision] = {"fp32": "fp32", "int8": "int8"}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--precision is {name!r}; expected fp32 or int8")
    return tuple(known[name] for name in names) if names else None
