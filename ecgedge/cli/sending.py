"""The test rig on the command line: a feed played into a transport, by a process of its own."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import feed_app, say
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.rig import Faults
    from ecgedge.rig.eeb import EebDevice


@feed_app.command("send")
def feed_send(
    source: Annotated[str, typer.Option("--from", help="A feed: sim:NAME, file:PATH, ...")],
    target: Annotated[
        str,
        typer.Option(
            "--to",
            help="Where to: mqtt://HOST/TOPIC, tcp:, ws:, mllp: or vital://HOST:PORT, serial:DEVICE, "
            "sdc://ADDRESS, lsl:NAME.",
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
    lose: Annotated[float, typer.Option(help="Share of bytes that never come.")] = 0.0,
    restart: Annotated[
        list[str] | None,
        typer.Option(help="A device of the bridge starts anew and is away for a second, for example 30s."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    control: Annotated[
        str | None,
        typer.Option(
            help="- takes what a user does at a device of the bridge from standard input, one a line: "
            "ack CONDITION [NUMBER-OF-USER]."
        ),
    ] = None,
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
        lose=lose,
        jitter=jitter,
        lead_off=lead_off or (),
        rate_drift=rate_drift,
        restart=restart or (),
        seed=seed,
    )
    if control not in (None, "-"):
        raise UsageError(f"--control is {control!r}; expected - (standard input)")
    asyncio.run(
        _send(
            source,
            target,
            faults,
            speed=parse_speed(speed),
            duration_s=duration,
            controlled=control is not None,
        )
    )


async def _send(
    source: str, target: str, faults: Faults, *, speed: float, duration_s: float, controlled: bool
) -> None:
    from ecgedge.feeds import open_feed
    from ecgedge.rig import FaultyLine, TwoWay, open_sender, play

    feed = await open_feed(source, speed=speed * (1.0 + faults.rate_drift))
    try:
        sender = await open_sender(target, feed.info, say=say)
        device = sender.device if isinstance(sender, TwoWay) else None
        try:
            _require_device(device, faults, controlled=controlled)
            if device is not None and controlled:
                _obey_lines(device)
            line = FaultyLine(faults, feed.info.leads)
            n = await play(feed, sender, line, duration_s=duration_s)
        finally:
            await sender.close()
    finally:
        await feed.close()
    typer.echo(f"{n} samples a lead sent ({feed.info.mode})")
    if device is not None and (heard := {**device.heard, **device.lost}):
        typer.echo("heard of the host: " + ", ".join(f"{name} {count}" for name, count in heard.items()))


def _require_device(device: EebDevice | None, faults: Faults, *, controlled: bool) -> None:
    if device is None and (faults.restarts or controlled):
        option = "--restart" if faults.restarts else "--control"
        raise UsageError(f"{option} is for a device of the bridge; send to tcp:, ws: or serial:")


def _obey_lines(device: EebDevice) -> None:
    """Read on a thread of its own, which the end of the program does not wait for."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            with suppress(RuntimeError):  # the loop is closed: the device is off
                loop.call_soon_threadsafe(_obey, device, line)

    threading.Thread(target=read, daemon=True, name="control").start()


def _obey(device: EebDevice, line: str) -> None:
    word, *rest = line.split() or [""]
    if word != "ack" or not 1 <= len(rest) <= 2:
        say("control line dropped: expected: ack CONDITION [NUMBER-OF-USER]")
        return
    try:
        device.acknowledge(rest[0], int(rest[1]) if len(rest) == 2 else 0)
    except KeyError:
        say(f"control line dropped: unknown condition {rest[0]!r}")
    except ValueError as error:
        say(f"control line dropped: {error}")
