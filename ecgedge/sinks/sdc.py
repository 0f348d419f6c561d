"""Sink `sdc://ADAPTER`, `sdcs://ADAPTER?cert=FILE&key=FILE&ca=FILE`: each bed an IEEE 11073 SDC provider. Extra `sdc`.

    sdc://192.168.1.5?limit_mmhg=18&lifetime_s=600&facility=HOSP&point_of_care=ICU

ADAPTER is this machine's address on the network of those who subscribe. Each bed is a provider of its own, found by its
location; its endpoint reference stays the same from start to start. A consumer that acknowledges an alert signal
acknowledges the alarm.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ecgedge.alarms import CONDITIONS
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, Estimate, Expired, SelfCheck
from ecgedge.sdc.bed import BedStates, acknowledging, bed_mds
from ecgedge.sdc.library import Certificates, Library, import_sdc
from ecgedge.sdc.provider import Running, description, start_provider
from ecgedge.sinks.outbox import RefusedError, Told
from ecgedge.sinks.settings import sink_settings

MOST_BEDS: Final = 64
"""Each is a server with threads of its own."""

MOST: Final = 20
USER: Final = "SDC consumer"
_NAMESPACE: Final = uuid.UUID("6b1f7a7e-3b0a-4b41-9a35-0d8f6f1f7b54")
_EXAMPLE: Final = "sdc://127.0.0.1"
ACKNOWLEDGE_S: Final = 5.0

Acknowledge = Callable[[str, str, str], Awaitable[None]]
"""Has a bed acknowledge a condition in the name of a user; UsageError if it cannot."""


@dataclass(frozen=True)
class SdcSettings:
    """An `sdc://` URI of a sink, read."""

    uri: str
    adapter: str
    certificates: Certificates | None
    limit_mmhg: float
    lifetime_s: float
    facility: str
    point_of_care: str


def parse_sdc_sink(uri: str) -> SdcSettings:
    """Read the URI; UsageError names what is missing or wrong."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UsageError(f"{uri}: {error}; expected an address of ours, for example {_EXAMPLE}") from error
    files = ("cert", "key", "ca") if parts.scheme == "sdcs" else ()
    known = ("limit_mmhg", "lifetime_s", "facility", "point_of_care", *files)
    options = sink_settings(parts.query, known, uri=uri)
    if not parts.hostname or parts.path.strip("/"):
        raise UsageError(f"{uri}: expected sdc://ADDRESS-OF-OURS, for example {_EXAMPLE}")
    if missing := [name for name in files if name not in options]:
        raise UsageError(f"{uri}: sdcs needs cert=FILE, key=FILE and ca=FILE; {missing[0]} is missing")
    return SdcSettings(
        uri,
        parts.hostname,
        Certificates(*(options[name] for name in files)) if files else None,
        _number(options, "limit_mmhg", 18.0, uri),
        _number(options, "lifetime_s", 600.0, uri),
        options.get("facility", "ecgedge"),
        options.get("point_of_care", "research"),
    )


def _number(options: dict[str, str], name: str, default: float, uri: str) -> float:
    try:
        value = float(options.get(name, default))
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1e5:
        raise UsageError(f"{uri}: {name} is {options[name]!r}; expected a number above 0")
    return value


class SdcReceiver:
    """Providers by bed, each started with the bed's first event."""

    def __init__(
        self,
        settings: SdcSettings,
        library: Library,
        *,
        acknowledge: Acknowledge | None,
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._library, self._ask = settings, library, acknowledge
        self._say = say
        self._beds: dict[str, tuple[Running, BedStates]] = {}
        self._loop = asyncio.get_running_loop()
        # One thread: what was given up as too slow ends before the next begins.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sdc")

    @property
    def name(self) -> str:
        """Where its providers are."""
        return self._settings.uri.partition("?")[0]

    @property
    def most(self) -> int:
        """Events of one delivery."""
        return MOST

    @property
    def kinds(self) -> frozenset[str]:
        """Those with a form in SDC."""
        return frozenset({Estimate.type, Alarm.type, Expired.type, SelfCheck.type})

    def url(self, bed: str) -> str:
        """Return the address of a bed's provider; KeyError if there is none."""
        return self._beds[bed][0].url

    async def deliver(self, told: Sequence[Told]) -> None:
        """Write the events into the states of their beds' providers, which tell all who have subscribed."""
        for one in told:
            if one.bed not in self._beds and len(self._beds) >= MOST_BEDS:
                raise RefusedError(
                    f"{MOST_BEDS} beds are on the network already; {one.bed} would be one more"
                )
        await self._loop.run_in_executor(self._thread, self._take, told)

    async def close(self) -> None:
        """Take all providers from the network."""
        beds, self._beds = self._beds, {}
        await asyncio.gather(*(asyncio.to_thread(running.stop) for running, _ in beds.values()))
        await asyncio.to_thread(self._thread.shutdown)

    # --- on a thread ---

    def _take(self, told: Sequence[Told]) -> None:
        for one in told:
            if one.bed not in self._beds:
                running, _ = self._beds[one.bed] = self._start(one)
                self._say(f"bed {one.bed} is an SDC provider: {running.epr} at {running.url}")
            self._beds[one.bed][1].take(one.event)

    def _start(self, told: Told) -> tuple[Running, BedStates]:
        settings, library = self._settings, self._library
        conditions = {name: condition.latches for name, condition in CONDITIONS.items()}
        running = start_provider(
            library,
            description(bed_mds(told.bed, conditions, lifetime_s=settings.lifetime_s)),
            adapter=settings.adapter,
            epr=str(uuid.uuid5(_NAMESPACE, f"{settings.facility}/{settings.point_of_care}/{told.bed}")),
            name=f"bed {told.bed}",
            certificates=settings.certificates,
            role=acknowledging(library, conditions, lambda name: self._acknowledge(told.bed, name)),
        )
        states = BedStates(running.mdib, library.pm_types, mode=told.mode, limit_mmhg=settings.limit_mmhg)
        running.provider.set_location(
            library.location(fac=settings.facility, poc=settings.point_of_care, bed=told.bed), []
        )
        return running, states

    def _acknowledge(self, bed: str, condition: str) -> None:
        """Have the bed acknowledge; what it cannot do fails the consumer's operation."""
        if self._ask is None:
            raise UsageError("nobody takes commands here")
        asked = self._ask(bed, condition, USER)
        asyncio.run_coroutine_threadsafe(_await(asked), self._loop).result(ACKNOWLEDGE_S)


async def _await(asked: Awaitable[None]) -> None:
    await asked


def open_sdc_sink(uri: str, *, acknowledge: Acknowledge | None, say: Callable[[str], None]) -> SdcReceiver:
    """Make the receiver of an `sdc://` URI; UsageError says what is wrong with it."""
    return SdcReceiver(parse_sdc_sink(uri), import_sdc(), acknowledge=acknowledge, say=say)
