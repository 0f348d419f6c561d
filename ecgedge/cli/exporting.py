"""Commands of the export room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from ecgedge.cli.app import app, needs, parse_lead_sets, parse_precisions
from ecgedge.errors import UsageError


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    target: Annotated[
        str,
        typer.Option(help="x86-cpu, openvino, rtx, jetson-orin-nano, jetson-agx-orin, jetson-thor or mcu."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Dataset directory of the training: calibration and self-test windows, and the evidence."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.ecgb or NAME.ecgb.zip.")],
    lead_sets: Annotated[str | None, typer.Option(help='Lead sets, for example "12;I,II;I".')] = None,
    report: Annotated[
        Path | None, typer.Option(help="What evaluate wrote: figures for the card, linear probes as outputs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Model name.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16 or int8; repeat for more. Default: the target's own.")
    ] = None,
    form: Annotated[
        str, typer.Option(help="window, stream (a causal run, fed chunk by chunk), or both in one bundle.")
    ] = "window",
    int8_or_fp32: Annotated[
        bool, typer.Option("--int8-or-fp32", help="Leave a variant out, and say so, if it fails its gates.")
    ] = False,
    evidence_records: Annotated[
        int,
        typer.Option(min=0, help="Records of the test split to compare on; 0: no evidence, no gates there."),
    ] = 256,
    calibration: Annotated[
        str, typer.Option(help="Ranges for INT8: minmax, percentile:99.99 or entropy.")
    ] = "minmax",
    float_layers: Annotated[
        str,
        typer.Option(
            help="Layers that INT8 leaves in float, for example stem,blocks.0.conv1; with --form window."
        ),
    ] = "",
    fine_tuning_steps: Annotated[
        int,
        typer.Option(
            min=0, help="Where INT8 of a window form misses its gate: fine-tune it this long. 0: never."
        ),
    ] = 300,
) -> None:
    """Export a run as a bundle, each variant held against the trained model before it is written.

    Example: `ecgedge export runs/mpcwp --target cpu --data out/sim --out mpcwp.ecgb`
    """
    from ecgedge.leads import format_lead_set

    with needs("export", "export"):
        from ecgedge_export.calibration import Calibration
        from ecgedge_export.int8 import Int8Options
        from ecgedge_export.pack import export_run
        from ecgedge_export.qat import FineTune
    chosen = parse_lead_sets(lead_sets)
    bundle_id = export_run(
        run,
        target=target,
        data=data,
        out=out,
        lead_sets=[format_lead_set(leads) for leads in chosen] if chosen else None,
        report=report,
        name=name,
        precisions=parse_precisions(precision),
        form=_form(form),
        failing="leave_out" if int8_or_fp32 else "refuse",
        evidence_records=evidence_records,
        int8_options=Int8Options(
            calibration=Calibration.parse(calibration),
            float_layers=_layers(float_layers),
            fine_tuning=FineTune(steps=fine_tuning_steps) if fine_tuning_steps else None,
        ),
    )
    typer.echo(f"{out}: id {bundle_id}")


@app.command()
def sensitivity(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    data: Annotated[Path, typer.Option(help="Dataset directory: its training split is what is measured on.")],
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    flavour: Annotated[str, typer.Option(help="cpu, rtx, mcu or mcu16.")] = "cpu",
    lead_sets: Annotated[str, typer.Option(help='Lead sets, for example "12;I,II;I".')] = "12",
    calibration: Annotated[
        str, typer.Option(help="Ranges for INT8: minmax, percentile:99.99 or entropy.")
    ] = "minmax",
) -> None:
    """Quantize one layer of a run at a time and tell which layers suffer most from 8 bits.

    Example: `ecgedge sensitivity runs/mpcwp --data out/sim --out sensitivity.json`
    """
    with needs("export", "sensitivity"):
        from ecgedge_export.calibration import Calibration
        from ecgedge_export.pack import run_sensitivity
        from ecgedge_export.quant_plan import parse_flavour
        from ecgedge_export.sensitivity import sensitivity_table, write_sensitivity
    reports = run_sensitivity(
        run,
        data=data,
        flavour=parse_flavour(flavour),
        lead_sets=parse_lead_sets(lead_sets) or (),
        calibration=Calibration.parse(calibration),
    )
    for report in reports:
        typer.echo(sensitivity_table(report))
    write_sensitivity(out, reports)


def _layers(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _form(name: str) -> Literal["window", "stream", "both"]:
    if name not in ("window", "stream", "both"):
        raise UsageError(f"--form is {name!r}; expected window, stream or both")
    return cast("Literal['window', 'stream', 'both']", name)
