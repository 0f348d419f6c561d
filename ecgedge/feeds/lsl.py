"""Feed `lsl:NAME?type=ECG&source_id=ID`: samples from a Lab Streaming Layer outlet. Needs the extra `lsl`.

NAME is the stream's, percent-coded, and may be left out where `type` or `source_id` tells which; exactly one stream
must fit. Its description names each channel's lead (`label`) and unit (`unit`: V, mV or uV, spelled out or not). The
mode is what `desc/ecgedge/mode` says, as our own sender writes it, and real where nothing says so. An outlet has no way
to say that it ends: its end is a lost connection.

LSL hands out the oldest samples that wait, and nothing tells how old they are. Here their age is known from their
stamps and LSL's own time correction, and what is older than `FRESH_S` when the feed begins is dropped and counted.

Where LSL looks for streams is its own configuration (a file that the variable LSLAPICFG names); by default it asks the
whole network segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

from ecgedge.errors import FeedError, UsageError, missing_extra
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.live import LiveFeed
from ecgedge.feeds.lsl_inlet import InletThread, Lost
from ecgedge.feeds.lsl_stream import LslStream, StampedSamples, read_stream
from ecgedge.query import read_query

RESOLVE_S: Final = 5.0
"""How long a stream is looked for."""

ANSWER_S: Final = 5.0
"""How long each question to its outlet waits."""

ALONE_S: Final = 1.0
"""How long a second one is looked for that fits as well; LSL asks in waves of half a second."""

BUFFER_S: Final = 30
"""Of samples that LSL itself keeps for us; of more it drops the oldest."""

_OPTIONS: Final = ("type", "source_id")


@dataclass(frozen=True)
class LslAddress:
    """An `lsl:` URI, read: properties that the stream must have, and settings by name."""

    uri: str
    properties: Mapping[str, str]
    options: Mapping[str, str]

    @property
    def predicate(self) -> str:
        """As LSL asks the network (XPath 1.0)."""
        return " and ".join(f"{name}={_quoted(value)}" for name, value in self.properties.items())


def parse_lsl_uri(uri: str, *, more: tuple[str, ...] = ()) -> LslAddress:
    """Read an LSL URI, with `more` options than `type` and `source_id`.

    Raises
    ------
    FeedError
        Naming what is missing or wrong.
    """
    try:
        return _parse(uri, (*_OPTIONS, *more))
    except ValueError as error:
        raise FeedError(
            f"{uri}: {error}. Expected lsl:NAME?type=TYPE&source_id=ID, for example lsl:bed1 or lsl:?type=ECG"
        ) from error


def _parse(uri: str, known: tuple[str, ...]) -> LslAddress:
    scheme, _, rest = uri.partition(":")
    name, _, query = rest.partition("?")
    if scheme != "lsl" or name.startswith("//"):
        raise ValueError("a stream has no host, only a name")
    options = read_query(query, known)
    asked = {"name": unquote(name)}
    asked.update((key, options.pop(key)) for key in _OPTIONS if key in options)
    properties = {key: value for key, value in asked.items() if value}
    if not properties:
        raise ValueError("nothing says which stream")
    if any("'" in value and '"' in value for value in properties.values()):
        raise ValueError("a value with both kinds of quotation marks cannot be asked for")
    return LslAddress(uri, properties, options)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def import_pylsl() -> ModuleType:
    """Return the package.

    Raises
    ------
    UsageError
        If it is not installed, or finds no liblsl.
    """
    try:
        import pylsl
    except ImportError as error:
        raise missing_extra(extra="lsl", package="pylsl", purpose="Lab Streaming Layer") from error
    except (RuntimeError, OSError) as error:
        raise UsageError(
            "pylsl is installed, and finds no liblsl: this platform's wheel brings none. Install liblsl, or let the "
            f"variable PYLSL_LIB name its file ({str(error).strip().splitlines()[0]:.200})"
        ) from error
    module: ModuleType = pylsl
    return module


class LslSource:
    """Samples of one inlet, as packets."""

    def __init__(self, inlet: InletThread, stream: LslStream, uri: str) -> None:
        self._inlet, self._uri = inlet, uri
        self._samples = StampedSamples(stream)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Samples of each lead by why they were dropped: `old_samples`, `overrun`, and those of `StampedSamples`."""
        return {**self._inlet.dropped, **self._samples.dropped}

    @property
    def age_s(self) -> float | None:
        """How old the newest sample was when it came, by LSL's clock; None before the first."""
        return self._inlet.age_s

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets.

        Raises
        ------
        FeedError
            When the outlet is gone, its clock is set back, or all that it sends is old.
        """
        self._inlet.start()
        async for pulled in self._inlet:
            if isinstance(pulled, Lost):
                for packet in self._samples.flush():
                    yield packet
                raise FeedError(f"{self._uri}: {pulled.why}; open the feed again")
            for packet in self._samples.push(pulled):
                yield packet

    async def close(self) -> None:
        """Close the inlet; safe to call twice."""
        await self._inlet.close()


async def open_lsl(uri: str, *, speed: float) -> LiveFeed:
    """Find a stream, and read what it says of itself.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, no stream or more than one fits, or it is no ECG of known leads and units at a regular
        rate.
    UsageError
        If pylsl is not installed.
    """
    del speed
    address, pylsl = parse_lsl_uri(uri), import_pylsl()
    inlet, described, correction_s = await _blocking(lambda: _connect(pylsl, address), uri)
    stream = read_stream(described, uri=uri)
    thread = InletThread(pylsl, inlet, correction_s=correction_s)
    return LiveFeed(stream.info(uri), LslSource(thread, stream, uri), wait_s=0.0)


async def _blocking(call: Callable[[], Any], uri: str) -> Any:
    """Run a call that blocks in a thread; what LSL raises is a FeedError."""
    try:
        return await asyncio.to_thread(call)
    except (TimeoutError, RuntimeError) as error:
        raise FeedError(
            f"{uri}: the stream was found, and does not answer ({error}). Is the outlet still on, and does a firewall "
            "let its port through?"
        ) from error


def _connect(pylsl: ModuleType, address: LslAddress) -> tuple[Any, Any, float]:
    """Return an inlet that is open, what the stream says of itself, and how far our clock is ahead of its."""
    found = pylsl.resolve_bypred(address.predicate, 1, RESOLVE_S)
    if not found:
        raise FeedError(
            f"{address.uri}: no such stream within {RESOLVE_S:g} s. Is the outlet on, and on a network that LSL "
            "asks (its configuration file, which LSLAPICFG names)?"
        )
    found = pylsl.resolve_bypred(address.predicate, 2, ALONE_S) or found
    if len(found) > 1:
        each = "; ".join(f"{one.name()} (source_id {one.source_id()}, {one.hostname()})" for one in found[:5])
        raise FeedError(f"{address.uri}: {len(found)} streams fit: {each}. Name one by its source_id")
    inlet = pylsl.StreamInlet(found[0], max_buflen=BUFFER_S, recover=False)
    described = inlet.info(ANSWER_S)
    correction_s = inlet.time_correction(ANSWER_S)  # this takes most of a second, and samples would wait
    inlet.open_stream(ANSWER_S)
    return inlet, described, correction_s
