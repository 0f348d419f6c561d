"""Commands on recordings and journals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import journal_app, records_app
from ecgedge.errors import EcgedgeError


@records_app.command("show")
def records_show(
    file: Annotated[Path, typer.Argument(help="A recording: WFDB, DICOM waveform or NPZ.")],
) -> None:
    """Print what a recording holds.

    Example: `ecgedge records show 00001_hr.hea`
    """
    from ecgedge.records import describe, read

    typer.echo(describe(read(file, gaps="keep")))


@journal_app.command("verify")
def journal_verify(file: Annotated[Path, typer.Argument(help="A journal.")]) -> None:
    """Check a journal's hash chain.

    Example: `ecgedge journal verify bed.jsonl`
    """
    from ecgedge.journal import verify_journal

    report = verify_journal(file)
    if not report.ok:
        raise EcgedgeError(f"{file}: line {report.first_bad_line}: {report.reason}")
    typer.echo(f"{file}: {report.entries} entries, chain intact")
