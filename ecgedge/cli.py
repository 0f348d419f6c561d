"""The command line: the composition root.

Other rooms are imported inside a command only, so that a device without training packages starts fast and
names the missing extra. Exit codes: 0 done; 1 the work failed; 2 usage or missing extra; 3 the feed was
lost; 4 bundle refused.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ecgedge import __version__
from ecgedge.errors import BundleError, EcgedgeError, FeedError, UsageError, missing_extra

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle, Precision
    from ecgedge.feeds import Feed
    from ecgedge.journal import Journal
    from ecgedge.sinks import Sink
    from ecgedge.stream import Bed

EXIT_CODES: tuple[tuple[type[EcgedgeError], int], ...] = (
    (BundleError, 4),
    (FeedError, 3),
    (UsageError, 2),
    (EcgedgeError, 1),
)


class _Group(TyperGroup):
    """Turns our errors into one line on standard error and an exit code; other errors are bugs and show."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EcgedgeError as error:
            typer.echo(f"ecgedge: {error}", err=True)
            ctx.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
        except BrokenPipeError:
            # The reader (head, a closed pager) has seen enough.
            ctx.exit(0)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            typer.echo(f"ecgedge: {place}{error.strerror or error}", err=True)
            ctx.exit(1)


_OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": "markdown"}
app = typer.Typer(cls=_Group, pretty_exceptions_enable=False, **_OPTIONS)
data_app = typer.Typer(help="Build and inspect datasets.", **_OPTIONS)
records_app = typer.Typer(help="Look at recordings.", **_OPTIONS)
bundle_app = typer.Typer(help="Look at bundles and check them.", **_OPTIONS)
journal_app = typer.Typer(help="Check journals.", **_OPTIONS)
app.add_typer(data_app, name="data")
app.add_typer(records_app, name="records")
app.add_typer(bundle_app, name="bundle")
app.add_typer(journal_app, name="journal")

BundleArgument = Annotated[str, typer.Argument(help="Bundle directory, .ecgb.zip, or 'embedded'.")]
BundleOption = Annotated[str, typer.Option("--bundle", help="Bundle directory, .ecgb.zip, or 'embedded'.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value; repeat for more.")]


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _needs(extra: str, command: str) -> Iterator[None]:
    """Name the extra if a package of an upper room is absent."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "ecgedge":
            raise
        raise missing_extra(extra=extra, package=package, purpose=f"ecgedge {command}") from error


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """ECG encoders from unlabelled recordings to the bedside: **research use only**."""
    if version:
        typer.echo(f"ecgedge {__version__}")
        raise typer.Exit


# --- the bedside -------------------------------------------------------------------------------------------


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
    sink: Annotated[list[str] | None, typer.Option(help="jsonl:PATH or bridge; repeat for more.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Alarm policy (TOML).")] = None,
    speed: Annotated[str, typer.Option(help="max, or a factor of real time.")] = "1",
    duration: Annotated[float, typer.Option(help="Stop after this many seconds of stream time.")] = math.inf,
    format: Annotated[str, typer.Option(help="text or jsonl, on standard output.")] = "text",
    journal: Annotated[Path | None, typer.Option(help="Journal file; continued if it exists.")] = None,
) -> None:
    """Serve one bed: feed in, estimates and alarms out.

    Example: `ecgedge stream --bundle embedded --feed sim:decompensating --speed max --duration 9000`
    """
    asyncio.run(
        _stream(
            bundle=bundle,
            feed_uri=feed,
            sinks=sink or [],
            policy=policy,
            speed=_speed(speed),
            duration_s=duration,
            output=format,
            journal_path=journal,
        )
    )


async def _stream(
    *,
    bundle: str,
    feed_uri: str,
    sinks: Sequence[str],
    policy: Path | None,
    speed: float,
    duration_s: float,
    output: str,
    journal_path: Path | None,
) -> None:
    from ecgedge.alarms import load_policy
    from ecgedge.bundle import load_bundle
    from ecgedge.feeds import open_feed
    from ecgedge.service import run_stream
    from ecgedge.stream import Bed, Variants

    if not duration_s > 0.0:
        raise UsageError(f"--duration is {duration_s:g}; it must be above 0 seconds")
    loaded = load_bundle(bundle)
    chosen = load_policy(policy, hop_s=loaded.manifest.hop_s) if policy else None
    screen = _screen(output)
    source = await open_feed(feed_uri, speed=speed)
    info = source.info
    variants = Variants(loaded)
    for reason in variants.refused:
        typer.echo(f"ecgedge: the other precision serves: {reason}", err=True)
    bed = Bed(
        loaded, leads=info.leads, rate_hz=info.rate_hz, variants=variants, policy=chosen, mode=info.mode
    )
    _announce(loaded, bed.mode)
    async with AsyncExitStack() as opened:
        opened.callback(variants.close)
        outputs = [screen]
        for uri in sinks:
            outputs.append(_sink(uri, source, loaded))
            opened.push_async_callback(outputs[-1].close)
        record = _open_journal(journal_path, bed, info.uri)
        if record is not None:
            opened.callback(record.close)
        result = await run_stream(
            bed,
            source,
            sinks=outputs,
            journal=record,
            duration_s=duration_s,
            speed=speed,
            stop=_stop_on_signals(),
        )
    if result.lost is not None:
        raise result.lost


def _stop_on_signals() -> asyncio.Event:
    """Let Ctrl-C and a service manager's SIGTERM end the stream in good order, with its summary."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0.0:
        raise UsageError(f"--speed is {text!r}; expected max or a factor above 0, for example 1 or 60")
    return value


def _announce(bundle: Bundle, mode: str) -> None:
    from ecgedge.bundle import RESEARCH_USE_ONLY

    note = " Trained on SIMULATED data: every estimate is a demonstration." if bundle.simulated else ""
    typer.echo(f"ecgedge {__version__}: {RESEARCH_USE_ONLY} Mode {mode}.{note}", err=True)


def _screen(output: str) -> Sink:
    from ecgedge.sinks import JsonlSink, TextSink

    if output == "jsonl":
        return JsonlSink(sys.stdout)
    if output == "text":
        return TextSink(sys.stdout)
    raise UsageError(f"--format is {output!r}; expected text or jsonl")


def _sink(uri: str, feed: Feed, bundle: Bundle) -> Sink:
    from ecgedge.sinks import BridgeSink, JsonlSink

    scheme, _, rest = uri.partition(":")
    if scheme == "jsonl" and rest:
        return JsonlSink(Path(rest))
    if uri == "bridge":
        return BridgeSink(feed, bundle)
    raise UsageError(f"cannot open sink {uri!r}; expected jsonl:PATH, or bridge (answers on a tcp:// feed)")


def _open_journal(path: Path | None, bed: Bed, feed_uri: str) -> Journal | None:
    from ecgedge.bundle import sha256
    from ecgedge.journal import Journal
    from ecgedge.schema import to_plain

    if path is None:
        return None
    policy = json.dumps(to_plain(bed.policy), sort_keys=True).encode()
    facts = {"ecgedge": __version__, "bundle": bed.bundle.id, "policy_sha256": sha256(policy)}
    return Journal(path, facts={**facts, "feed": feed_uri, "mode": bed.mode})


@app.command()
def predict(
    bundle: BundleArgument,
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """Run a bundle over whole recordings: one row a window.

    Example: `ecgedge predict embedded record.hea --out estimates.csv`
    """
    from ecgedge.bundle import load_bundle
    from ecgedge.prediction import predict as predict_recordings
    from ecgedge.prediction import write_csv
    from ecgedge.records import read

    loaded = load_bundle(bundle)
    rows = predict_recordings(loaded, [read(path) for path in files])
    write_csv(out, rows)
    _announce(loaded, "demo" if loaded.simulated else "real")
    typer.echo(f"{out}: {len(rows)} windows of {len(files)} recordings")


# --- recordings, bundles, journals -------------------------------------------------------------------------


@records_app.command("show")
def records_show(
    file: Annotated[Path, typer.Argument(help="A recording: WFDB, DICOM waveform or NPZ.")],
) -> None:
    """Print what a recording holds.

    Example: `ecgedge records show 00001_hr.hea`
    """
    from ecgedge.records import describe, read

    typer.echo(describe(read(file, gaps="keep")))


@bundle_app.command("show")
def bundle_show(bundle: BundleArgument) -> None:
    """Check a bundle and print what it is.

    Example: `ecgedge bundle show embedded`
    """
    from ecgedge.bundle import describe_bundle, load_bundle

    typer.echo(describe_bundle(load_bundle(bundle)))


@bundle_app.command("verify")
def bundle_verify(bundle: BundleArgument) -> None:
    """Check every byte of a bundle, and run its self-test on this machine.

    Example: `ecgedge bundle verify embedded`
    """
    from ecgedge.bundle import load_bundle
    from ecgedge.stream import Variants

    loaded = load_bundle(bundle)
    typer.echo(f"{bundle}: {len(loaded.contents)} files intact, id {loaded.id}")
    with Variants(loaded) as variants:
        names = "; ".join(",".join(leads) for leads in variants.lead_sets)
    typer.echo(f"self-test passed on this machine for lead sets {names}")


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


# --- training and export -----------------------------------------------------------------------------------


@data_app.command("build")
def data_build(
    source: Annotated[str, typer.Argument(help="ptbxl, folder, sim, ...; see docs/data.md.")],
    out: Annotated[Path, typer.Option(help="Dataset directory to write; an unfinished one is continued.")],
    from_dir: Annotated[Path | None, typer.Option("--from", help="Folder of the source.")] = None,
    settings: SetOption = None,
) -> None:
    """Build a dataset: conditioned int16 shards and an index, split by patient.

    Example: `ecgedge data build ptbxl --from ../shared/data/ptbxl --out out/ptbxl`
    """
    with _needs("train", "data build"):
        from ecgedge_train.dataset import build_dataset, describe_dataset
    info = build_dataset(source, from_dir=from_dir, out=out, options=_options(settings))
    typer.echo(describe_dataset(info))


@data_app.command("info")
def data_info(folder: Annotated[Path, typer.Argument(help="Dataset directory.")]) -> None:
    """Print what a dataset holds.

    Example: `ecgedge data info out/ptbxl`
    """
    with _needs("train", "data info"):
        from ecgedge_train.dataset import describe_dataset, open_dataset
    typer.echo(describe_dataset(open_dataset(folder).info))


def _options(settings: Sequence[str] | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in settings or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {item!r}: expected key=value, for example --set patients=64")
        options[key] = value
    return options


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of one that is shipped.")],
    data: Annotated[Path, typer.Option(help="Dataset directory.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    settings: SetOption = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run where it stopped.")] = False,
    also: Annotated[
        list[Path] | None, typer.Option(help="Further dataset whose records all train; may be repeated.")
    ] = None,
    encoder_from: Annotated[
        Path | None, typer.Option(help="Finished run whose encoder starts this one (fine-tuning).")
    ] = None,
) -> None:
    """Train an encoder.

    Example: `ecgedge train ptbxl_pclr_rlm --data out/ptbxl --out runs/pclr --set optimizer.lr=3e-4`

    Several GPUs or machines: the same through torchrun, see docs/training.md.
    """
    with _needs("train", "train"):
        from ecgedge_train.run import train_run
    train_run(
        recipe,
        data=data,
        out=out,
        also=also or (),
        overrides=settings or [],
        max_steps=max_steps,
        resume=resume,
        encoder_from=encoder_from,
    )


@app.command("import")
def import_weights(
    kind: Annotated[Literal["pclr", "fairseq-signals"], typer.Argument(help="Who published the weights.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="Your download: a Keras .h5 or SavedModel folder (pclr), a .pt (fairseq-signals)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    variant: Annotated[
        Literal["12", "I", "II", "C3PO"] | None,
        typer.Option(help="Which PCLR network, if the file does not say."),
    ] = None,
) -> None:
    """Make a run of published weights: to evaluate, to export, or to start a training from.

    Example: `ecgedge import pclr PCLR.h5 --out runs/pclr-published`
    """
    with _needs("train", "import"):
        from ecgedge_train.importers.run import import_run
    typer.echo(import_run(kind, file, out=out, variant=variant))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    data: Annotated[Path, typer.Option(help="Dataset directory.")],
    out: Annotated[Path, typer.Option(help="Report directory to write.")],
    lead_sets: Annotated[str | None, typer.Option(help='Lead sets, for example "12;I,II,V1,V5;I".')] = None,
    against: Annotated[Path | None, typer.Option(help="Another run, compared on the same records.")] = None,
    low_labels: Annotated[
        bool | None,
        typer.Option("--low-labels/--no-low-labels", help="Probe on 100, 300, 1,000 labels too."),
    ] = None,
    embedding_map: Annotated[
        Literal["pca", "umap"], typer.Option(help="Picture of the embeddings: pca or umap.")
    ] = "pca",
    cinc_weights: Annotated[
        Path | None, typer.Option(help="weights.csv of the 2021 Challenge: adds its score.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of patients for the intervals.")] = 1000,
) -> None:
    """Evaluate a run on patients it has never seen.

    Example: `ecgedge evaluate runs/pclr --data out/ptbxl --out reports/pclr`
    """
    with _needs("train", "evaluate"):
        from ecgedge_train.evaluate import evaluate_run
    text = evaluate_run(
        run,
        data=data,
        out=out,
        lead_sets=_lead_sets(lead_sets),
        against=against,
        low_labels=low_labels,
        embedding_map=embedding_map,
        cinc_weights=cinc_weights,
        resamples=resamples,
    )
    typer.echo(text)


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
    int8_or_fp32: Annotated[
        bool, typer.Option("--int8-or-fp32", help="Ship a lead set in fp32 only if its INT8 fails the gate.")
    ] = False,
) -> None:
    """Export a run as a bundle, each variant proven equal to the trained model before it is written.

    Example: `ecgedge export runs/mpcwp --target cpu --data out/sim --out mpcwp.ecgb`
    """
    from ecgedge.leads import format_lead_set

    with _needs("export", "export"):
        from ecgedge_export.compare import Int8Gate
        from ecgedge_export.pack import export_run
    chosen = _lead_sets(lead_sets)
    bundle_id = export_run(
        run,
        target=target,
        data=data,
        out=out,
        lead_sets=[format_lead_set(leads) for leads in chosen] if chosen else None,
        report=report,
        name=name,
        precisions=_precisions(precision),
        int8_gate=Int8Gate(otherwise="leave_out" if int8_or_fp32 else "refuse"),
    )
    typer.echo(f"{out}: id {bundle_id}")


def _lead_sets(text: str | None) -> tuple[tuple[str, ...], ...] | None:
    from ecgedge.leads import parse_lead_set

    if text is None:
        return None
    try:
        return tuple(parse_lead_set(part) for part in text.split(";") if part.strip())
    except ValueError as error:
        raise UsageError(f"--lead-sets {text!r}: {error}") from error


def _precisions(names: Sequence[str] | None) -> tuple[Precision, ...] | None:
    known: dict[str, Precision] = {"fp32": "fp32", "int8": "int8"}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--precision is {name!r}; expected fp32 or int8")
    return tuple(known[name] for name in names) if names else None
