"""The test rig on the command line: a feed played into a transport, by a process of its own."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import feed_app
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.rig import Faults


@feed_app.command("send")
def feed_send(
    source: Annotated[str, typer.Option("--from", help="A feed: sim:NAME, file:PATH, ...")],
    target: Annotated[
        str,
        typer.Option(
            "--to",
            help="Where to: mqtt://HOST/TOPIC, tcp:, ws:, mllp: or vital://HOST:PORT, sdc://ADDRESS, lsl:NAME.",
        ),
    ],
    speed: Annotated[str, typer.Option(help="max, or a factor of real time.")] = "1",
    duration: Annotated[float, typer.Option(help="Seconds of the feed.")] = math.inf,
    drop: Annotated[float, typer.Option(help="Share of messages that are not sent.")] = 0.0,
    jitter: Annotated[str, typer.Option(help="Messages come later by up to this, for example 50ms.")] = "0ms",
    reorder: Annotated[
        bool, typer.Option("--reorder", help="Send some messages after their follower.")
    ] = False,
    lead_off: Annotated[
        list[str] | None, typer.Option(help="An electrode or a lead comes off, for example RA@30s.")
    ] = None,
    rate_drift: Annotated[
        str, typer.Option(help="How fast the device's clock is, for example 200ppm.")
    ] = "0ppm",
    corrupt: Annotated[float, typer.Option(help="Share of bytes with a wrong bit.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
) -> None:
    """Play a feed into a transport, as a device would, with faults if asked for: a test rig.

    Example: `ecgedge feed send --from sim:stable --to mqtt://127.0.0.1:1883/ward/bed1 --drop 0.01`
    """
    from ecgedge.cli.bedside import parse_speed
    from ecgedge.rig import parse_faults

    if not duration > 0.0:
        raise UsageError(f"--duration is {duration:g}; it must be above 0 seconds")
    faults = parse_faults(
        drop=drop,
        reorder=reorder,
        corrupt=corrupt,
        jitter=jitter,
        lead_off=lead_off or (),
        rate_drift=rate_drift,
        seed=seed,
    )
    asyncio.run(_send(source, target, faults, speed=parse_speed(speed), duration_s=duration))


async def _send(source: str, target: str, faults: Faults, *, speed: float, duration_s: float) -> None:
    from ecgedge.feeds import open_feed
    from ecgedge.rig import FaultyLine, open_sender, play

    feed = await open_feed(source, speed=speed * (1.0 + faults.rate_drift))
    try:
        sender = await open_sender(
            target, feed.info, say=lambda text: typer.echo(f"ecgedge: {text}", err=True)
        )
        try:
            line = FaultyLine(faults, feed.info.leads)
            n = await play(feed, sender, line, duration_s=duration_s)
        finally:
            await sender.close()
    finally:
        await feed.close()
    typer.echo(f"{n} samples a lead sent ({feed.info.mode})")
