"""Commands on recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import needs, records_app


@records_app.command("show")
def records_show(
    file: Annotated[
        Path,
        typer.Argument(
            help="A recording: WFDB, DICOM waveform, EDF, XML (HL7 aECG, GE MUSE, Philips, Schiller), .vital or NPZ."
        ),
    ],
    png: Annotated[
        Path | None,
        typer.Option(help="Draw it as a sheet of 25 mm/s and 10 mm/mV into this file, too (extra: plot)."),
    ] = None,
    start: Annotated[float, typer.Option(help="Second of the recording at which the sheet begins.")] = 0.0,
) -> None:
    """Print what a recording holds, and draw it if asked.

    Example: `ecgedge records show 00001_hr.hea --png ecg.png`
    """
    from ecgedge.records import describe, read

    recording = read(file, gaps="keep")
    typer.echo(describe(recording))
    if png is None:
        return
    with needs("plot", "records show --png"):
        from ecgedge_train.sheet import write_sheet
    write_sheet(recording, png, name=file.name, start_s=start)
    typer.echo(f"{png}: research use only")
