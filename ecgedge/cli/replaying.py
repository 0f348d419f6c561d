"""The command that gathers evidence for alarm policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecgedge.cli.app import (
    BundleOption,
    RuntimeOption,
    SignatureOption,
    alarms_app,
    announce,
    needs,
    open_bundle,
    out_folder,
    say,
)
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.progress import on_terminal, progress

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.replay import Episode, Evidence
    from ecgedge.replay.streams import Stream


@alarms_app.command("replay")
def alarms_replay(
    out: Annotated[Path, typer.Option(help="Folder for replay.json, .png, .html and policy.toml.")],
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, or folders of them; each is a patient.")
    ] = None,
    bundle: BundleOption = "embedded",
    sim: Annotated[
        list[str] | None, typer.Option(help="SCENARIO:PATIENTS, simulated; repeat for more.")
    ] = None,
    first_seed: Annotated[int, typer.Option(help="Of the simulated patients, counted up.")] = 1000,
    hours: Annotated[
        float | None, typer.Option(help="Of each simulated patient; by default 24, decompensating 4.")
    ] = None,
    episodes: Annotated[
        Path | None,
        typer.Option(
            help="CSV: record (or patient_id, or both), start_s, end_s: when mPCWP was truly elevated."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="TOML whose other keys hold for all; the bundle's by default.")
    ] = None,
    onset_probability: Annotated[
        str, typer.Option(help="p(mPCWP > 18) that counts: values to compare.")
    ] = "0.6,0.65,0.7,0.75,0.8",
    persistence_s: Annotated[
        str, typer.Option(help="Seconds for which it must: values to compare.")
    ] = "120,300,900",
    recovery_margin_mmhg: Annotated[
        str, typer.Option(help="mmHg under the threshold that end an alarm: values to compare.")
    ] = "1,3",
    early_s: Annotated[
        float, typer.Option(help="An onset so many seconds before an episode is about it.")
    ] = 900.0,
    budget: Annotated[
        float | None, typer.Option(help="False alarms per patient-day: choose the most sensitive within.")
    ] = None,
    budget_by: Annotated[
        Literal["estimate", "upper"], typer.Option(help="Whether the interval's upper end must keep it too.")
    ] = "estimate",
    holdout_share: Annotated[
        float | None, typer.Option(help="Share of the patients who judge the choice and take no part in it.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of estimates, kept and continued; OUT/work by default.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    resamples: Annotated[int, typer.Option(help="Resamples of patients for the intervals.")] = 1000,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Write replay.png and replay.html (extra: train).")
    ] = True,
    runtime: RuntimeOption = "auto",
    require_signature: SignatureOption = None,
) -> None:
    """Compare alarm policies over recordings or simulated patients: sensitivity against false alarms.

    Example: `ecgedge alarms replay --sim stable:50 --sim decompensating:50 --budget 0.5 --jobs 2 --out evidence`
    """
    from ecgedge.alarms import load_policy
    from ecgedge.replay import (
        Budget,
        GridAxes,
        Question,
        Served,
        describe_streams,
        episodes_of,
        judge,
        make_grid,
        render_text,
        replay_streams,
        write_json,
        write_policy,
    )
    from ecgedge.runtime import check_runtime

    check_runtime(runtime)
    out = out_folder(out)
    question = Question(
        early_s,
        resamples=resamples,
        budget=None if budget is None else Budget(budget, budget_by),
        holdout_share=holdout_share,
    )
    loaded = open_bundle(bundle, signed_by=require_signature)
    hop_s = loaded.manifest.hop_s
    given = load_policy(policy, hop_s=hop_s) if policy else loaded.manifest.alarm_policy
    axes = GridAxes(
        _numbers(onset_probability, "--onset-probability"),
        _numbers(persistence_s, "--persistence-s"),
        _numbers(recovery_margin_mmhg, "--recovery-margin-mmhg"),
    )
    grid = make_grid(axes, given, hop_s=hop_s)
    streams, table = _cohort(recordings or [], sim or [], episodes, first_seed=first_seed, hours=hours)
    announce(loaded, "demo" if loaded.simulated or sim else "real")
    engines = _engines(loaded, runtime)
    out.mkdir(parents=True, exist_ok=True)
    with progress("replaying") as told:
        replayed = replay_streams(
            streams,
            grid.replayed,
            Served(bundle, loaded.id, runtime, work or out / "work", engines),
            jobs=jobs,
            tell=_log,
            progress=told,
        )
    known = episodes_of(replayed, table, above_mmhg=given.threshold_mmhg)
    found = judge(
        replayed,
        known,
        grid,
        question,
        bundle=loaded,
        engines=engines,
        source=describe_streams(streams),
    )
    write_json(found, out)
    written = write_policy(found, out)
    typer.echo(render_text(found))
    if written is not None:
        typer.echo(f"{written}: for ecgedge stream --policy")
    _finish(found, out, plot=plot)


def _log(line: str) -> None:
    """Write a line for each patient into a job's log; on a terminal the bar tells."""
    if not on_terminal():
        say(line)


def _engines(bundle: Bundle, runtime: str) -> tuple[tuple[str, str], ...]:
    """Say what does not serve here, and return what does for each variant."""
    from ecgedge.stream import Variants

    with Variants(bundle, runtime=runtime) as variants:
        for reason in variants.refused:
            typer.echo(f"ecgedge: {reason}", err=True)
        return tuple(sorted(variants.runtimes.items()))


def _finish(found: Evidence, out: Path, *, plot: bool) -> None:
    """Draw, if wanted, and end with an error if a policy was wanted and none fits."""
    from ecgedge.replay.choose import why_none

    if plot:
        with needs("train", "alarms replay (replay.json is written; --no-plot leaves the plot out)"):
            from ecgedge_train.evaluate.alarms import write_plot
        write_plot(found, out)
    if found.question.budget is not None and found.chosen is None:
        raise EcgedgeError(why_none(found.compared.scores[: len(found.grid.policies)], found.question.budget))


def _cohort(
    recordings: Sequence[Path],
    sim: Sequence[str],
    episodes: Path | None,
    *,
    first_seed: int,
    hours: float | None,
) -> tuple[Sequence[Stream], dict[str, tuple[Episode, ...]] | None]:
    """Return what is replayed, and the episodes of recordings by name where a table tells them."""
    from ecgedge.replay import find_recordings, read_table, simulated_streams

    if bool(recordings) == bool(sim):
        raise UsageError("give recordings, or simulated patients such as --sim stable:50, and not both")
    if sim:
        if episodes is not None:
            raise UsageError("--episodes is for recordings: a simulated patient's pressure is known")
        return simulated_streams(sim, first_seed=first_seed, hours=hours), None
    found = find_recordings(recordings)
    if episodes is None:
        return found, None
    table = read_table(episodes, found)
    return table.streams, dict(table.episodes)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}; expected numbers with commas between, such as 0.6,0.8"
        ) from error
