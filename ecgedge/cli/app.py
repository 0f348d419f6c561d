"""What every command shares: the groups, errors as exit codes, options that many take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ecgedge import __version__
from ecgedge.errors import BundleError, EcgedgeError, FeedError, UsageError, missing_extra

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle, Precision
    from ecgedge.stream import Variants

EXIT_CODES: tuple[tuple[type[EcgedgeError], int], ...] = (
    (BundleError, 4),
    (FeedError, 3),
    (UsageError, 2),
    (EcgedgeError, 1),
)


class Group(TyperGroup):
    """Turns our errors into one line on standard error and an exit code; other errors are bugs and show."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
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


GROUP_OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": "markdown"}
app = typer.Typer(cls=Group, pretty_exceptions_enable=False, rich_markup_mode="markdown")
data_app = typer.Typer(help="Build and inspect datasets.", **GROUP_OPTIONS)
records_app = typer.Typer(help="Look at recordings.", **GROUP_OPTIONS)
bundle_app = typer.Typer(help="Look at bundles and check them.", **GROUP_OPTIONS)
feed_app = typer.Typer(help="Play feeds into transports: a test rig.", **GROUP_OPTIONS)
journal_app = typer.Typer(help="Check journals, and run them again.", **GROUP_OPTIONS)
alarms_app = typer.Typer(help="Gather evidence for alarms.", **GROUP_OPTIONS)
cluster_app = typer.Typer(help="Serve beds on many machines, fed by a bus.", **GROUP_OPTIONS)
page_app = typer.Typer(help="Say who may see a page.", **GROUP_OPTIONS)
app.add_typer(data_app, name="data")
app.add_typer(records_app, name="records")
app.add_typer(bundle_app, name="bundle")
app.add_typer(feed_app, name="feed")
app.add_typer(journal_app, name="journal")
app.add_typer(alarms_app, name="alarms")
app.add_typer(cluster_app, name="cluster")
app.add_typer(page_app, name="page")

BundleArgument = Annotated[str, typer.Argument(help="Bundle directory, .ecgb.zip, or 'embedded'.")]
BundleOption = Annotated[str, typer.Option("--bundle", help="Bundle directory, .ecgb.zip, or 'embedded'.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime", help="auto, tensorrt, ort, ort-cuda, ort-tensorrt or openvino: the engine that serves."
    ),
]
FormOption = Annotated[
    str,
    typer.Option(
        "--form", help="window, or stream for the streaming forms of a causal encoder (`export --form both`)."
    ),
]
SignatureOption = Annotated[
    Path | None,
    typer.Option(
        "--require-signature", help="Ed25519 public key (PEM); a bundle that it did not sign is refused."
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value; repeat for more.")]


FIRST_STEPS = """\
  ecgedge demo      see it work: two simulated beds and one real ECG, a minute, no data needed
  ecgedge doctor    is this machine fit to serve, and what to do if not
  ecgedge --help    every command; ecgedge COMMAND --help has an example of each"""


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """ECG encoders from unlabelled recordings to the bedside: **research use only**."""
    if version:
        typer.echo(f"ecgedge {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from ecgedge.bundle import RESEARCH_USE_ONLY

        typer.echo(f"ecgedge {__version__}: {RESEARCH_USE_ONLY}\n{FIRST_STEPS}")


@contextmanager
def needs(extra: str, command: str) -> Iterator[None]:
    """Name the extra if a package of an upper room is absent."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "ecgedge":
            raise
        raise missing_extra(extra=extra, package=package, purpose=f"ecgedge {command}") from error


def open_bundle(source: str, *, signed_by: Path | None) -> Bundle:
    """Load a bundle to serve from, checked against a key if one is given; engines that were set aside are said."""
    from ecgedge.bundle import load_bundle
    from ecgedge.signing import require_signature

    loaded = load_bundle(source)
    if signed_by is not None:
        require_signature(loaded, signed_by)
    for reason in loaded.set_aside:
        typer.echo(f"ecgedge: engine set aside, the ONNX model serves in its place: {reason}", err=True)
    return loaded


def check_serving(*, runtime: str, form: str) -> None:
    """Refuse an unknown runtime or form before anything is opened; UsageError."""
    from ecgedge.runtime import check_runtime

    check_runtime(runtime)
    if form not in ("window", "stream"):
        raise UsageError(f"--form is {form!r}; expected window or stream")


def open_variants(bundle: Bundle, *, runtime: str, form: str) -> Variants:
    """Open a bundle's variants in one form; UsageError on an unknown form or runtime."""
    from ecgedge.stream import Variants

    check_serving(runtime=runtime, form=form)
    return Variants(bundle, runtime=runtime, form="stream" if form == "stream" else "window")


def announce(bundle: Bundle, mode: str) -> None:
    """Say on standard error what this is, and that it is for research only."""
    from ecgedge.bundle import RESEARCH_USE_ONLY

    note = " Trained on SIMULATED data: every estimate is a demonstration." if bundle.simulated else ""
    typer.echo(f"ecgedge {__version__}: {RESEARCH_USE_ONLY} Mode {mode}.{note}", err=True)


def parse_options(settings: Sequence[str] | None) -> dict[str, str]:
    """Return the values of --set by key."""
    options: dict[str, str] = {}
    for item in settings or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {item!r}: expected key=value, for example --set patients=64")
        options[key] = value
    return options


def out_folder(path: Path) -> Path:
    """Return where a command writes its folder; UsageError before any work if a file is in the way."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out is {path}, a file; name a folder to write")
    return path


def parse_precisions(names: Sequence[str] | None) -> tuple[Precision, ...] | None:
    """Return the values of --precision, or None without any."""
    known: dict[str, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--precision is {name!r}; expected one of {', '.join(known)}")
    return tuple(known[name] for name in names) if names else None


def parse_lead_sets(text: str | None) -> tuple[tuple[str, ...], ...] | None:
    """Return the lead sets of "12;I,II;I", or None without any."""
    from ecgedge.leads import parse_lead_set

    if text is None:
        return None
    try:
        return tuple(parse_lead_set(part) for part in text.split(";") if part.strip())
    except ValueError as error:
        raise UsageError(
            f'--lead-sets {text!r}: {error}; lead sets have ";" between them: "12;I,II"'
        ) from error


def say(text: str) -> None:
    """Tell people what no event tells, on standard error."""
    with suppress(OSError):  # whoever read it has gone, and the watch goes on
        typer.echo(f"ecgedge: {text}", err=True)
