"""The command of distillation and pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import SetOption, app, needs, out_folder, parse_lead_sets
from ecgedge.errors import UsageError


@app.command()
def compress(
    run: Annotated[Path, typer.Argument(help="The teacher: a finished run, exportable or not.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Dataset directory of the teacher's training; labels are used where there are any."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write; with --sweep, a folder of runs.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="Further dataset whose records all teach; may be repeated.")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="edgenet-s (default), edgenet-m, resnet18, or the directory of a run on the same data to start from. "
            "With --sweep several: 'edgenet-s;edgenet-m'."
        ),
    ] = None,
    lead_sets: Annotated[
        str | None,
        typer.Option(help='Show the student these only, for example "12;I,II,V2;I". Default: any.'),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option(
            help="Prune channels until a 12-lead window takes at most so many MACs, such as 7M. With --sweep several: "
            "'10M;7M;4M'."
        ),
    ] = None,
    settings: SetOption = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop each training after this many steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where it stopped.")] = False,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Make several students and draw accuracy against their cost; resumes."),
    ] = False,
) -> None:
    """Distil a run into a smaller one, which any command takes as it takes a trained one.

    Example: `ecgedge compress runs/teacher --data out/ptbxl --out runs/student --set schedule.steps=6000`
    """
    from ecgedge.leads import format_lead_set

    out = out_folder(out)
    sets = tuple(format_lead_set(leads) for leads in parse_lead_sets(lead_sets) or ())
    targets = tuple(_count(part) for part in _parts(macs))
    if sweep:
        with needs("export", "compress"):
            from ecgedge_export.sweep import DEFAULT_MACS, DEFAULT_STUDENTS, Plan, sweep_run
        plan = Plan(
            sets or ("12", "I"),
            tuple(_parts(student)) or DEFAULT_STUDENTS,
            DEFAULT_MACS if macs is None else targets,
            tuple(settings or ()),
        )
        typer.echo(sweep_run(run, data=data, out=out, also=also or (), plan=plan, max_steps=max_steps))
        return
    if len(targets) > 1:
        raise UsageError(f"--macs {macs!r}: one student has one target; several are for --sweep")
    with needs("export", "compress"):
        from ecgedge_export.distill import Student, compress_run
    wanted = Student(student, sets, targets[0] if targets else None, tuple(settings or ()))
    done = compress_run(
        run, data=data, out=out, also=also or (), student=wanted, max_steps=max_steps, resume=resume
    )
    typer.echo(f"{out}: a student after {done.steps} steps. Research use only.")


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(";") if part.strip()]


def _count(text: str) -> float:
    """Return 7000000.0 for "7M"."""
    factor = {"K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1].upper(), 1.0)
    try:
        count = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        count = 0.0
    if not 0 < count < float("inf"):
        raise UsageError(f"--macs {text!r}: expected a number above 0, such as 7M or 7000000")
    return count
