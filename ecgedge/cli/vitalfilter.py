"""Estimates for Vital Recorder on the command line: a server of filters."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from ecgedge.cli.app import (
    BundleOption,
    RuntimeOption,
    SignatureOption,
    announce,
    app,
    check_serving,
    open_bundle,
    open_variants,
    say,
)
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.stream import Variants


@app.command("vital-filter")
def vital_filter(
    bundle: BundleOption = "embedded",
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; anyone who reaches it may ask.")
    ] = "127.0.0.1:3000",
    runtime: RuntimeOption = "auto",
    require_signature: SignatureOption = None,
) -> None:
    """Serve estimates to Vital Recorder as filters, so that they are tracks there; until a signal.

    Example: `ecgedge vital-filter --bundle embedded --listen 127.0.0.1:3000`
    """
    check_serving(runtime=runtime, form="window")
    host, port = _address(listen)
    loaded = open_bundle(bundle, signed_by=require_signature)
    with open_variants(loaded, runtime=runtime, form="window") as variants:
        for reason in variants.refused:
            say(reason)
        asyncio.run(_serve(loaded, variants, host, port))


async def _serve(bundle: Bundle, variants: Variants, host: str, port: int) -> None:
    from ecgedge.vital_filter import FilterServer

    server = FilterServer(bundle, variants)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    announce(bundle, "demo" if bundle.simulated else "real")
    port = await server.start(host, port)
    try:
        say(f"filters for Vital Recorder on port {port} of {host}")
        await stop.wait()
    finally:
        await server.close()
    counts = ", ".join(f"{n} {name}" for name, n in sorted(server.counts.items()))
    say(f"requests: {counts or 'none'}")


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--listen {text!r}: {error}; expected HOST:PORT") from error
    if not host or port is None or parts.path or parts.username is not None:
        raise UsageError(f"--listen {text!r}: expected HOST:PORT, for example 127.0.0.1:3000")
    return host, port
