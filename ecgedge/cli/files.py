"""Commands on recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import records_app


@records_app.command("show")
def records_show(
    file: Annotated[
        Path,
        typer.Argument(
            help="A recording: WFDB, DICOM waveform, EDF, XML (HL7 aECG, GE MUSE, Philips, Schiller), .vital or NPZ."
        ),
    ],
) -> None:
    """Print what a recording holds.

    Example: `ecgedge records show 00001_hr.hea`
    """
    from ecgedge.records import describe, read

    typer.echo(describe(read(file, gaps="keep")))
