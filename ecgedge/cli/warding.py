"""Commands on a ward: serve many beds, and talk to those who do."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecgedge.cli.app import (
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
from ecgedge.errors import EcgedgeError, UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.stream import Variants
    from ecgedge.wards.config import WardConfig
    from ecgedge.wards.outlet import Outlet
    from ecgedge.wards.serve import WardService

    Reopen = Callable[[str], tuple[Bundle, Variants]]


_NUMBERS = {"duration_s": "seconds", "mpcwp_mmhg": "mmHg", "sd_mmhg": "mmHg"}
"""Keys of commands whose values are numbers, and their units."""


@app.command()
def ward(
    beds: Annotated[Path, typer.Option(help="The ward's file; docs/ward.md shows one.")],
    bundle: BundleOption = "embedded",
    form: FormOption = "window",
    speed: Annotated[
        str, typer.Option(help="max, or a factor of real time, for feeds that are not live.")
    ] = "1",
    runtime: RuntimeOption = "auto",
    require_signature: SignatureOption = None,
) -> None:
    """Serve many beds in one process, until a signal or `ecgedge tell SOCKET drain`.

    Example: `ecgedge ward --bundle embedded --beds beds.toml`
    """
    from ecgedge.cli.bedside import parse_speed
    from ecgedge.wards.config import load_ward

    check_serving(runtime=runtime, form=form)
    prepare_for_many()
    config = load_ward(beds)
    loaded = open_bundle(bundle, signed_by=require_signature)

    def reopen(path: str) -> tuple[Bundle, Variants]:
        again = open_bundle(path, signed_by=require_signature)
        return again, open_variants(again, runtime=runtime, form=form)

    asyncio.run(
        _ward(
            config,
            loaded,
            open_variants(loaded, runtime=runtime, form=form),
            speed=parse_speed(speed),
            reopen=reopen,
        )
    )


async def _ward(
    config: WardConfig, bundle: Bundle, variants: Variants, *, speed: float, reopen: Reopen
) -> None:
    from ecgedge.cli.outputs import open_outputs
    from ecgedge.cli.paging import open_page, open_ward_page
    from ecgedge.control import Acknowledge
    from ecgedge.wards.serve import WardService

    for reason in variants.refused:
        say(reason)
    settings = config.ward
    for folder in filter(None, (settings.journals, settings.state)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as opened:
        outlet = _outlet(settings.events)
        if outlet is not None:
            opened.callback(_close, outlet)

        async def acknowledge(bed: str, condition: str, user: str) -> None:
            await service.place(bed).obey(Acknowledge(condition, user))

        outputs = await open_outputs(settings.sinks, acknowledge=acknowledge, opened=opened)
        page = open_ward_page(config, bundle, lambda name: service.place(name), speed=speed)
        service = WardService(
            bundle, variants, settings, outlet=outlet, outputs=outputs, speed=speed, say=say, page=page
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, service.stop)
        announce(bundle, "demo" if bundle.simulated else "real")
        if settings.control is not None:
            opened.callback((await _listen(Path(settings.control), service, reopen)).close)
        await open_page(page, opened)
        for bed in config.bed:
            service.add(bed)
        await service.run()


async def _listen(path: Path, service: WardService, reopen: Reopen) -> asyncio.Server:
    from ecgedge.wards.control import WardControl, open_socket

    async def open_again(bundle: str) -> tuple[Bundle, Variants]:
        return await asyncio.to_thread(reopen, bundle)

    return await open_socket(path, WardControl(service, open_bundle=open_again))


def prepare_for_many() -> None:
    """Bring this process into the state in which serving many beds costs least, and say so."""
    from ecgedge.runtime.memory import collect_rarely, keep_freed_memory
    from ecgedge.signal import COMPILED

    keep_freed_memory()
    collect_rarely()
    why = COMPILED.on()
    say("front ends run in compiled loops" if why is None else f"front ends run on numpy and scipy: {why}")


def _outlet(target: str | None) -> Outlet | None:
    """Open where events go; raw, so that a reader who blocks holds no lock at the end of the process."""
    from ecgedge.wards.outlet import Outlet

    if target is None:
        return None
    if target == "-":
        return Outlet(io.FileIO(sys.stdout.fileno(), "wb", closefd=False), owned=False, say=say)
    try:
        stream = io.FileIO(target, "ab+")
        if stream.seekable() and stream.seek(0, io.SEEK_END) and _last_byte(stream) != b"\n":
            stream.write(b"\n")  # a line that a killed ward left torn must not take the next one with it
    except OSError as error:
        raise UsageError(f"cannot write events to {target}: {error.strerror}") from error
    return Outlet(stream, owned=True, say=say)


def _last_byte(stream: io.FileIO) -> bytes:
    stream.seek(-1, io.SEEK_END)
    return stream.read(1)


def _close(outlet: Outlet) -> None:
    outlet.close()
    if outlet.dropped:
        lost = ", ".join(f"{n} of type {kind}" for kind, n in outlet.dropped.items())
        say(f"lines of events that were never written: {lost}")


@app.command()
def tell(
    socket: Annotated[Path, typer.Argument(help="The ward's control socket.")],
    do: Annotated[
        str,
        typer.Argument(
            help="status, add, remove, acknowledge, pause_audio, resume_audio, calibrate, uncalibrate, swap, "
            "drain or dismiss."
        ),
    ],
    facts: Annotated[list[str] | None, typer.Argument(help="key=value, as docs/ward.md lists them.")] = None,
) -> None:
    """Tell a ward to do something, and print its answer.

    Example: `ecgedge tell ward.sock acknowledge name=icu-3 condition=LEAD_OFF user="Nurse Seven"`
    """
    from ecgedge.wards.control import ask

    answer = asyncio.run(ask(socket, {"do": do, **facts_of(facts)}))
    show_answer(answer)


def facts_of(texts: list[str] | None) -> dict[str, Any]:
    """Return what stands as key=value on a command line, numbers as numbers."""
    found: dict[str, Any] = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"{text!r}: expected key=value")
        found[key] = _number(key, value) if key in _NUMBERS else value
    return found


def show_answer(answer: dict[str, Any]) -> None:
    """Print what there is to know of an answer; EcgedgeError where it is no."""
    if not answer.pop("ok", False):
        raise EcgedgeError(str(answer.get("error", "there was no reason given")))
    typer.echo(json.dumps(answer, indent=1) if answer else "done")


@app.command()
def listen(
    socket: Annotated[Path, typer.Argument(help="The ward's control socket.")],
    station: Annotated[str, typer.Option(help="Name of this station; the ward misses it when it is gone.")],
    again: Annotated[
        bool, typer.Option("--again", help="Listen again when the ward is gone, until it is back.")
    ] = False,
) -> None:
    """Write the events of a ward's beds as JSON lines, and confirm each alarm once it is written.

    The ward tells all its beds where a station that listens does not confirm, or is gone (DELIVERY_FAILED), until it
    does or `ecgedge tell SOCKET dismiss station=NAME user=WHO`.

    Example: `ecgedge listen ward.sock --station desk-3`
    """
    from ecgedge.wards.listen import keep_listening
    from ecgedge.wards.listen import listen as listen_once

    def take(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    (keep_listening if again else listen_once)(socket, station, take=take, say=say)


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{key} is {text!r}; expected {_NUMBERS[key]}") from error
