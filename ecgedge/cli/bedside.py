"""Commands of the bedside: demo, stream, predict."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge import __version__
from ecgedge.cli.app import (
    BundleArgument,
    BundleOption,
    FormOption,
    RuntimeOption,
    SignatureOption,
    announce,
    app,
    check_serving,
    open_bundle,
    open_variants,
    say,
)
from ecgedge.cli.paging import (
    PageCertOption,
    PageHostOption,
    PageKeyOption,
    PageOption,
    PageSessionOption,
    PageUsersOption,
    open_bed_page,
    page_settings,
)
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.control import Control
    from ecgedge.journal import Journal
    from ecgedge.monitor.tap import PageTap
    from ecgedge.sinks import Sink
    from ecgedge.stream import Bed, Variants


@app.command()
def demo(
    speed: Annotated[float, typer.Option(help="How many times faster than real time.")] = 720.0,
    seed: Annotated[int | None, typer.Option(help="Which simulated patients.")] = None,
) -> None:
    """Show the whole bedside story on the embedded bundle: two simulated beds, then one real ECG.

    Example: `ecgedge demo`
    """
    from ecgedge.demo import run_demo
    from ecgedge.sim import DEFAULT_SEED

    run_demo(speed=speed, seed=DEFAULT_SEED if seed is None else seed)


@app.command()
def stream(
    feed: Annotated[str, typer.Option(help="Feed URI, for example sim:stable or file:record.hea.")],
    bundle: BundleOption = "embedded",
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="jsonl:PATH, bridge, mqtt://HOST/TOPIC, mllp://HOST:PORT, webhook:URL, fhir:URL or "
            "prometheus://HOST:PORT, as docs/sinks.md has them; repeat for more."
        ),
    ] = None,
    bed: Annotated[str, typer.Option(help="The bed's name for sinks that carry many.")] = "bed1",
    policy: Annotated[Path | None, typer.Option(help="Alarm policy (TOML).")] = None,
    speed: Annotated[str, typer.Option(help="max, or a factor of real time.")] = "1",
    duration: Annotated[float, typer.Option(help="Stop after this many seconds of stream time.")] = math.inf,
    format: Annotated[str, typer.Option(help="text or jsonl, on standard output.")] = "text",
    journal: Annotated[Path | None, typer.Option(help="Journal file; continued if it exists.")] = None,
    journal_max_mb: Annotated[
        float | None,
        typer.Option(
            help="Close the journal's file at this size as FILE.0000, FILE.0001, ... and begin a new one."
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="- takes commands from standard input, one a line: ack CONDITION USER, pause SECONDS USER, "
            "resume USER."
        ),
    ] = None,
    runtime: RuntimeOption = "auto",
    form: FormOption = "window",
    require_signature: SignatureOption = None,
    page: PageOption = None,
    page_users: PageUsersOption = None,
    page_cert: PageCertOption = None,
    page_key: PageKeyOption = None,
    page_host: PageHostOption = None,
    page_session: PageSessionOption = None,
) -> None:
    """Serve one bed: feed in, estimates and alarms out.

    Example: `ecgedge stream --bundle embedded --feed sim:decompensating --speed max --duration 9000`
    """
    from ecgedge.cli.outputs import bed_name

    check_serving(runtime=runtime, form=form)
    shown = page_settings(page, page_users, page_cert, page_key, page_host, page_session)
    asyncio.run(
        _stream(
            loaded=open_bundle(bundle, signed_by=require_signature),
            feed_uri=feed,
            sinks=sink or [],
            name=bed_name(bed),
            policy=policy,
            speed=parse_speed(speed),
            duration_s=duration,
            output=format,
            open_journal=partial(_open_journal, journal, rotate_bytes=_rotate_bytes(journal, journal_max_mb)),
            control=control,
            open_page=partial(open_bed_page, shown, journal=journal),
            open_variants=partial(open_variants, runtime=runtime, form=form),
        )
    )


async def _stream(
    *,
    loaded: Bundle,
    feed_uri: str,
    sinks: Sequence[str],
    name: str,
    policy: Path | None,
    speed: float,
    duration_s: float,
    output: str,
    open_journal: Callable[[Bed, str, Variants], Journal | None],
    control: str | None,
    open_page: Callable[..., Awaitable[PageTap | None]],
    open_variants: Callable[[Bundle], Variants],
) -> None:
    from ecgedge.alarms import load_policy
    from ecgedge.cli.outputs import open_sinks
    from ecgedge.control import Inbox
    from ecgedge.feeds import open_feed
    from ecgedge.feeds.eeb_feed import EebFeed
    from ecgedge.service import run_stream
    from ecgedge.stream import Bed

    if not duration_s > 0.0:
        raise UsageError(f"--duration is {duration_s:g}; it must be above 0 seconds")
    chosen = load_policy(policy, hop_s=loaded.manifest.hop_s) if policy else None
    screen = _screen(output)
    source = await open_feed(feed_uri, speed=speed)
    info = source.info
    if isinstance(source, EebFeed):
        source.tell(say)
    variants = open_variants(loaded)
    for reason in variants.refused:
        typer.echo(f"ecgedge: {reason}", err=True)
    bed = Bed(
        loaded, leads=info.leads, rate_hz=info.rate_hz, variants=variants, policy=chosen, mode=info.mode
    )
    announce(loaded, bed.mode)
    async with AsyncExitStack() as opened:
        opened.callback(variants.close)
        commands = _control(control, bed)
        inbox = Inbox()
        outputs, ways = await open_sinks(
            sinks,
            source,
            loaded,
            name=name,
            mode=bed.mode,
            can_wait=math.isinf(speed) and not info.live,
            acknowledge=inbox.acknowledge,
            opened=opened,
        )
        record = open_journal(bed, info.uri, variants)
        if record is not None:
            opened.callback(record.close)
        tap = await open_page(bed, source, inbox, name=name, speed=speed, opened=opened)
        ways += [] if tap is None else [tap]
        result = await run_stream(
            bed,
            source,
            sinks=[screen, *ways],
            outputs=outputs,
            journal=record,
            duration_s=duration_s,
            speed=speed,
            stop=_stop_on_signals(),
            control=commands,
            inbox=inbox,
            tap=None if tap is None else tap.samples,
        )
    if isinstance(source, EebFeed) and source.dropped:
        counted = ", ".join(f"{name} {n}" for name, n in source.dropped.items())
        typer.echo(f"ecgedge: {info.uri}: {counted}", err=True)
    if result.lost is not None:
        raise result.lost


def _stop_on_signals() -> asyncio.Event:
    """Let Ctrl-C and a service manager's SIGTERM end the stream in good order, with its summary."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def parse_speed(text: str) -> float:
    """Read --speed; UsageError says what it may be."""
    if text == "max":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0.0:
        raise UsageError(f"--speed is {text!r}; expected max or a factor above 0, for example 1 or 60")
    return value


def _screen(output: str) -> Sink:
    from ecgedge.sinks import JsonlSink, TextSink

    if output == "jsonl":
        return JsonlSink(sys.stdout)
    if output == "text":
        return TextSink(sys.stdout)
    raise UsageError(f"--format is {output!r}; expected text or jsonl")


def _control(source: str | None, bed: Bed) -> Control | None:
    from ecgedge.control import Control

    if source is None:
        return None
    if source != "-":
        raise UsageError(f"--control is {source!r}; expected - (standard input)")
    if sys.stdin is None:
        raise UsageError("--control -: standard input is closed; open it, or leave the option out")
    return Control(
        sys.stdin.fileno(), policy=bed.policy, say=lambda text: typer.echo(f"ecgedge: {text}", err=True)
    )


def _rotate_bytes(journal: Path | None, max_mb: float | None) -> int | None:
    if max_mb is None:
        return None
    if journal is None:
        raise UsageError("--journal-max-mb without --journal: there is nothing to close")
    if not 0.001 <= max_mb < math.inf:
        raise UsageError(f"--journal-max-mb is {max_mb:g}; it must be at least 0.001 (1000 bytes)")
    return round(max_mb * 1e6)


def _open_journal(
    path: Path | None, bed: Bed, feed_uri: str, variants: Variants, *, rotate_bytes: int | None
) -> Journal | None:
    from ecgedge.bundle import sha256
    from ecgedge.journal import Journal
    from ecgedge.rerun import facts_of_bed

    if path is None:
        return None
    facts = facts_of_bed(bed, feed_uri, variants.runtimes, form=variants.form)
    digest = sha256(json.dumps(facts["policy"], sort_keys=True).encode())
    facts = {"ecgedge": __version__, "policy_sha256": digest, **facts}
    return Journal(path, facts=facts, rotate_bytes=rotate_bytes)


@app.command()
def predict(
    bundle: BundleArgument,
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    runtime: RuntimeOption = "auto",
    movement: Annotated[
        bool, typer.Option("--movement", help="Also say how far each output moves under small input noise.")
    ] = False,
    require_signature: SignatureOption = None,
) -> None:
    """Run a bundle over whole recordings: one row a window.

    Example: `ecgedge predict embedded record.hea --out estimates.csv`
    """
    from ecgedge.prediction import predict as predict_recordings
    from ecgedge.prediction import write_csv
    from ecgedge.progress import tracked
    from ecgedge.records import read

    loaded = open_bundle(bundle, signed_by=require_signature)
    recordings = [read(path) for path in files]
    rows = predict_recordings(loaded, tracked("recordings", recordings), runtime=runtime, movement=movement)
    write_csv(out, rows)
    announce(loaded, "demo" if loaded.simulated else "real")
    typer.echo(f"{out}: {len(rows)} windows of {len(files)} recordings")
