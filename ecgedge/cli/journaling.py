"""Commands on journals: verify the chain, run a journal's stream again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import BundleOption, RuntimeOption, SignatureOption, journal_app, open_bundle
from ecgedge.errors import EcgedgeError, UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.rerun import Comparison, Run


@journal_app.command("verify")
def journal_verify(
    file: Annotated[Path, typer.Argument(help="A journal: the file that is written to.")],
) -> None:
    """Check a journal's hash chain, over all its files.

    Example: `ecgedge journal verify bed.jsonl`
    """
    from ecgedge.journal import verify_journal

    report = verify_journal(file)
    if not report.ok:
        raise EcgedgeError(f"{report.bad_file}: line {report.first_bad_line}: {report.reason}")
    files = f" in {report.files} files" if report.files > 1 else ""
    typer.echo(f"{file}: {report.entries} entries{files}, chain intact")


@journal_app.command("replay")
def journal_replay(
    file: Annotated[Path, typer.Argument(help="A journal of ecgedge stream.")],
    feed: Annotated[str, typer.Option(help="Feed URI of the same samples, such as file:record.hea.")],
    bundle: BundleOption = "embedded",
    run: Annotated[int | None, typer.Option(help="Which run, from 1, where the journal has several.")] = None,
    runtime: RuntimeOption = "auto",
    require_signature: SignatureOption = None,
) -> None:
    """Run a journal's stream again, with its policy and its users' commands, and compare every event.

    Example: `ecgedge journal replay bed.jsonl --feed file:record.hea`
    """
    from ecgedge.rerun import find_runs

    chosen = _choose(find_runs(file), run, file)
    loaded = open_bundle(bundle, signed_by=require_signature)
    found = asyncio.run(_replay(file, chosen, loaded=loaded, feed_uri=feed, runtime=runtime))
    if found.difference is not None:
        there = found.difference
        where = "the end" if there.seq is None else f"entry {there.seq}"
        raise EcgedgeError(
            f"{file}: {found.equal} events equal, then a difference at {where}\n"
            f"  journal: {there.journal or 'nothing'}\n"
            f"  replay:  {there.replay or 'nothing'}"
        )
    typer.echo(f"{file}: {found.equal} events equal{'' if chosen.ended else _cut_off(chosen, found)}")


@journal_app.command("fhir")
def journal_fhir(
    file: Annotated[Path, typer.Argument(help="A journal.")],
    out: Annotated[Path, typer.Option(help="FILE.ndjson to write.")],
    zero: Annotated[str, typer.Option(help="The world's time at stream time 0: 2026-11-28T07:30:00Z.")],
    bed: Annotated[str, typer.Option(help="The bed's name.")] = "bed1",
    patient: Annotated[str | None, typer.Option(help="The patient's id.")] = None,
    hours: Annotated[float, typer.Option(help="Of one Observation.")] = 1.0,
    run: Annotated[int | None, typer.Option(help="Which run, from 1, where the journal has several.")] = None,
) -> None:
    """Write a journal's estimates as FHIR R5 Observations, one an hour, with SampledData.

    Example: `ecgedge journal fhir bed.jsonl --out bed.ndjson --zero 2026-11-28T07:30:00Z`
    """
    from ecgedge.rerun import estimates_of, find_runs, run_facts
    from ecgedge.sinks.fhir import write_series

    if not hours > 0.0:
        raise UsageError(f"--hours is {hours:g}; it must be above 0")
    chosen = _choose(find_runs(file), run, file)
    n = write_series(
        out,
        estimates_of(file, chosen),
        zero=_instant(zero),
        mode=run_facts(chosen).mode,
        bed=bed,
        patient_id=patient,
        length_s=hours * 3600.0,
    )
    typer.echo(f"{out}: {n} Observations. Estimates from the ECG, not measurements. Research use only.")


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UsageError(f"--zero is {text!r}; expected a time with its zone, such as 2026-11-28T07:30:00Z")
    return found


def _choose(runs: Sequence[Run], number: int | None, file: Path) -> Run:
    if not runs:
        raise EcgedgeError(f"{file}: no run in it")
    if number is None and len(runs) > 1:
        raise UsageError(f"{file} holds {len(runs)} runs; name one with --run, from 1 to {len(runs)}")
    if number is not None and not 1 <= number <= len(runs):
        raise UsageError(f"--run is {number}; {file} holds runs 1 to {len(runs)}")
    return runs[(number or 1) - 1]


def _cut_off(run: Run, found: Comparison) -> str:
    from ecgedge.rerun import LATER_S

    at = "before its first event" if run.last_s is None else f"at t = {run.last_s:g} s"
    return (
        f"; the journal ends {at} without a summary: {found.later} later events not in it "
        f"(of the next {LATER_S:g} s at most)"
    )


async def _replay(file: Path, run: Run, *, loaded: Bundle, feed_uri: str, runtime: str) -> Comparison:
    from ecgedge.feeds import open_feed
    from ecgedge.rerun import compare_run, run_facts
    from ecgedge.runtime import check_runtime
    from ecgedge.stream import Variants

    check_runtime(runtime)
    facts = run_facts(run)
    source = await open_feed(feed_uri, speed=math.inf)
    try:
        with Variants(loaded, runtime=runtime, form=facts.form) as variants:
            if facts.bundle == loaded.id and facts.runtimes != variants.runtimes:
                typer.echo(
                    f"ecgedge: engines here are {variants.runtimes}, those of the journal were "
                    f"{dict(facts.runtimes)}: estimates may differ in their last digits",
                    err=True,
                )
            return await compare_run(file, run, bundle=loaded, feed=source, variants=variants)
    finally:
        await source.close()
