"""Sinks of the commands that serve: opened by URI, closed by whoever asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ecgedge.cli.app import say
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.ecg import Mode
    from ecgedge.feeds import Feed
    from ecgedge.sinks import AcknowledgeBed, Output, Sink


async def open_outputs(
    uris: Sequence[str], *, acknowledge: AcknowledgeBed, opened: AsyncExitStack
) -> list[Output]:
    """Open outputs, which `opened` closes."""
    from ecgedge.sinks import open_output

    outputs = []
    for uri in uris:
        outputs.append(await open_output(uri, say=say, acknowledge=acknowledge))
        opened.push_async_callback(outputs[-1].close)
    return outputs


def bed_name(text: str) -> str:
    """Return the name of a bed; UsageError if it is none."""
    from ecgedge.wards.config import check_name

    try:
        return check_name(text)
    except ValueError as error:
        raise UsageError(f"--bed: {error}") from error


async def open_sinks(
    uris: Sequence[str],
    feed: Feed,
    bundle: Bundle,
    *,
    name: str,
    mode: Mode,
    can_wait: bool,
    acknowledge: AcknowledgeBed,
    opened: AsyncExitStack,
) -> tuple[list[Output], list[Sink]]:
    """Open sinks, which `opened` closes; return the outputs among them, and the bed's way to each sink."""
    from ecgedge.sinks import BedOutlet

    outputs: list[Output] = []
    ways: list[Sink] = []
    for uri in uris:
        sink = _sink(uri, feed, bundle, name=name, acknowledge=acknowledge)
        if sink is None:
            outputs += await open_outputs([uri], acknowledge=acknowledge, opened=opened)
            sink = BedOutlet(outputs[-1], name, mode, patient=can_wait)
        opened.push_async_callback(sink.close)
        ways.append(sink)
    return outputs, ways


def _sink(uri: str, feed: Feed, bundle: Bundle, *, name: str, acknowledge: AcknowledgeBed) -> Sink | None:
    """Open a sink that writes here and now; None for one that goes over a network."""
    from ecgedge.sinks import SCHEMES, BridgeSink, JsonlSink

    scheme, _, rest = uri.partition(":")
    if scheme == "jsonl" and rest:
        return JsonlSink(Path(rest))
    if uri == "bridge":
        return BridgeSink(feed, bundle, bed=name, acknowledge=acknowledge)
    if scheme in SCHEMES:
        return None
    known = ", ".join(f"{name}:" for name in SCHEMES)
    raise UsageError(
        f"cannot open sink {uri!r}; expected jsonl:PATH, bridge (answers on a serial:, tcp:// or ws:// feed), or one "
        f"of {known} as docs/sinks.md shows them"
    )
