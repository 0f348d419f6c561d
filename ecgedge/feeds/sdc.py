"""Feed `sdc://HOST:PORT/PATH` or `sdc://ADAPTER?epr=URN`: ECG waveforms of an IEEE 11073 SDC provider. Extra `sdc`.

The first names a provider's address; the second finds it by its endpoint reference (WS-Discovery) on the network of
this machine's address ADAPTER. `sdcs://...&cert=FILE&key=FILE&ca=FILE` is over TLS, where both sides show certificates.
ecgedge subscribes to waveforms, and to word of a changed description. The provider connects back to this machine.

Nothing of an SDC provider says that its ECG is in good order: only validity and mode of each metric are taken over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError, FeedError
from ecgedge.feeds.base import FeedInfo
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.live import LiveFeed
from ecgedge.query import read_query
from ecgedge.sdc.library import Certificates, Library, import_sdc, ssl_contexts, start_discovery
from ecgedge.sdc.reading import Stretch, Waveform, read_stretches, read_waveforms

FIRST_S: Final = 15.0
"""How long the first waveform may take, which tells the mode."""

SEARCH_S: Final = 5.0
MOST_QUEUED: Final = 256
"""Reports that wait for who reads them; what comes then is dropped and counted."""

SAME_S: Final = 0.5e-3
"""Stretches whose times differ by no more belong together: times are in milliseconds."""

_EXAMPLE: Final = "sdc://192.168.1.20?epr=urn:uuid:cc013678-79f6-403c-998f-3cc0cc050230"
_CERTIFICATES: Final = ("cert", "key", "ca")


@dataclass(frozen=True)
class SdcAddress:
    """An `sdc://` URI, read: `url` is the provider's address, or None where `epr` is to be found from `adapter`."""

    uri: str
    url: str | None
    adapter: str
    epr: str | None
    certificates: Certificates | None


def parse_sdc_uri(uri: str) -> SdcAddress:
    """Read the URI.

    Raises
    ------
    FeedError
        Naming what is missing or wrong.
    """
    try:
        parts = urlsplit(uri)
        tls = parts.scheme == "sdcs"
        options = read_query(parts.query, ("epr", *(_CERTIFICATES if tls else ())))
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FeedError(f"{uri}: {error}; expected {_EXAMPLE}") from error
    if not host or (port is None) == ("epr" not in options):
        raise FeedError(f"{uri}: expected sdc://HOST:PORT/PATH of a provider, or {_EXAMPLE} to find one")
    if tls and (missing := [name for name in _CERTIFICATES if name not in options]):
        raise FeedError(f"{uri}: sdcs needs cert=FILE, key=FILE and ca=FILE; {missing[0]} is missing")
    files = Certificates(options["cert"], options["key"], options["ca"]) if tls else None
    url = None if port is None else f"http{'s' * tls}://{host}:{port}{parts.path}"
    return SdcAddress(uri, url, host, options.get("epr"), files)


class Joiner:
    """Stretches of single leads, joined to packets of all leads; no I/O.

    A packet is told once all leads of its time have come, or one of a later time: then those that are missing are NaN.

    Attributes
    ----------
    dropped
        By name: `partial_reports`, `uneven_leads` (leads of one time with different numbers of samples), `other_mode`.
    """

    def __init__(self, waveforms: Sequence[Waveform]) -> None:
        self._rows = {waveform.handle: row for row, waveform in enumerate(waveforms)}
        self._held: dict[str, Stretch] = {}
        self._arrived_s = 0.0
        self.mode: Mode | None = None
        self.dropped: Counter[str] = Counter()

    def take(self, stretches: Sequence[Stretch], *, arrived_s: float) -> list[Packet]:
        """Take what a report says; return what is whole."""
        packets = []
        for one in stretches:
            self.mode = one.mode if self.mode is None else self.mode
            if one.mode != self.mode:
                self.dropped["other_mode"] += 1
                continue
            held = next(iter(self._held.values()), None)
            if held is not None and (one.handle in self._held or abs(one.t_s - held.t_s) > SAME_S):
                packets += self._tell()
            self._held[one.handle] = one
            self._arrived_s = arrived_s
            if len(self._held) == len(self._rows):
                packets += self._tell()
        return packets

    def _tell(self) -> list[Packet]:
        held, self._held = list(self._held.values()), {}
        n = held[0].samples_mv.shape[0]
        if any(one.samples_mv.shape[0] != n for one in held):
            self.dropped["uneven_leads"] += 1
            return []
        self.dropped["partial_reports"] += len(held) < len(self._rows)
        samples_mv = np.full((len(self._rows), n), np.nan, np.float32)
        for one in held:
            samples_mv[self._rows[one.handle]] = one.samples_mv
        return [Packet(samples_mv, t_s=held[0].t_s, arrived_s=self._arrived_s)]


class SdcSource:
    """A subscription to a provider's waveforms, as packets. The library's threads only hand over what came."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._consumer: Any = None
        self._waveforms: Sequence[Waveform] = ()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[Any, float] | str] = asyncio.Queue()
        self._joiner = Joiner(())
        self._counters: Counter[str] = Counter()
        self._first: list[Packet] = []
        self._connected = False

    def begin(self, consumer: Any, waveforms: Sequence[Waveform]) -> None:
        """Take whose waveforms they are; what came before waits."""
        self._consumer, self._waveforms = consumer, waveforms
        self._joiner = Joiner(waveforms)

    @property
    def mode(self) -> Mode | None:
        """Of the waveforms that have come; None before the first."""
        return self._joiner.mode

    @property
    def dropped(self) -> Mapping[str, int]:
        """What came and was no packet, by name."""
        found = self._counters + self._joiner.dropped
        return {name: n for name, n in found.items() if n}

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Return what the library is to call, by the property whose change it hears of."""
        return {
            "waveform_report": self._heard,
            "subscription_end_data": lambda _: self._told("the provider has ended the subscription"),
            "description_modification_report": lambda _: self._told(
                "the provider describes something else now"
            ),
            "is_connected": self._is_connected,
        }

    async def first(self) -> None:
        """Wait for the first packet, which tells the mode; it is kept."""
        while not self._first:
            self._first += await self._packets()

    async def __aiter__(self) -> AsyncIterator[Packet]:
        """Deliver packets; FeedError when the provider is gone, or is another than before."""
        for packet in self._first:
            yield packet
        while True:
            for packet in await self._packets():
                yield packet

    async def close(self) -> None:
        """End the subscription; safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await asyncio.to_thread(stop_consumer, consumer)

    async def _packets(self) -> list[Packet]:
        item = await self._queue.get()
        if isinstance(item, str):
            raise FeedError(f"{self._uri}: {item}; open the feed again")
        report, arrived_s = item
        return self._joiner.take(
            list(read_stretches(report, self._waveforms, self._counters)), arrived_s=arrived_s
        )

    # --- on threads of the library ---

    def _heard(self, message: Any) -> None:
        self._hand_over((message.p_msg.msg_node, time.monotonic()))

    def _is_connected(self, on: bool) -> None:  # noqa: FBT001 - as the library calls it
        if self._connected and not on:
            self._told("the provider is gone")
        self._connected = on

    def _told(self, why: str) -> None:
        self._hand_over(why)

    def _hand_over(self, item: tuple[Any, float] | str) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is there any more
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: tuple[Any, float] | str) -> None:
        if self._queue.qsize() >= MOST_QUEUED and not isinstance(item, str):
            self._counters["not_read_in_time"] += 1
        else:
            self._queue.put_nowait(item)


async def open_sdc(uri: str, *, speed: float) -> LiveFeed:
    """Subscribe to a provider, and wait for its first waveform.

    Parameters
    ----------
    uri
        As in the module's head.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, no provider is there, it refuses us, or has no ECG waveform.
    UsageError
        If sdc11073 is not installed, a certificate cannot be read, or the adapter is not ours.
    """
    del speed
    address = parse_sdc_uri(uri)
    library = import_sdc()
    source = SdcSource(uri)
    consumer = await asyncio.to_thread(_connect, library, address, source)
    try:
        described = await asyncio.to_thread(_describe, consumer)
        waveforms = read_waveforms(described, source=uri)
        source.begin(consumer, waveforms)
        await asyncio.wait_for(source.first(), FIRST_S)
    except BaseException as error:
        await asyncio.to_thread(stop_consumer, consumer)
        if isinstance(error, asyncio.TimeoutError):
            dropped = ", ".join(f"{name} {n}" for name, n in source.dropped.items())
            raise FeedError(
                f"{uri}: the provider describes an ECG, and sent none within {FIRST_S:g} s (came: "
                f"{dropped or 'nothing'}); can it reach this machine?"
            ) from error
        raise
    return LiveFeed(_info(uri, waveforms, source.mode or "real"), source, wait_s=0.0)


def _info(uri: str, waveforms: Sequence[Waveform], mode: Mode) -> FeedInfo:
    steps = [waveform.resolution_mv for waveform in waveforms if waveform.resolution_mv is not None]
    return FeedInfo(
        uri=uri,
        leads=tuple(waveform.lead for waveform in waveforms),
        rate_hz=waveforms[0].rate_hz,
        mode=mode,
        chunk_s=waveforms[0].chunk_s or 0.1,
        live=True,
        resolution_mv=max(steps) if len(steps) == len(waveforms) else None,
    )


# --- on a thread: the library waits for the network ---


def _connect(library: Library, address: SdcAddress, source: SdcSource) -> Any:
    """Return a consumer that has subscribed; the source hears from the first report on."""
    contexts = ssl_contexts(library, address.certificates)
    url = address.url or _find(library, address)
    parts = library.consumer.default_components_factory()
    parts.action_dispatcher_class = library.dispatcher  # its default keeps a thread for ever
    consumer = library.consumer.SdcConsumer(
        url, library.definitions, contexts, components=parts, force_ssl_connect=contexts is not None
    )
    library.bind(consumer, **source.callbacks())
    actions = library.definitions.Actions
    kept = {actions.Waveform, actions.DescriptionModificationReport}
    names = [name for name in dir(actions) if name.endswith(("Report", "Waveform"))]
    others = {action for action in (getattr(actions, name) for name in names) if action not in kept}
    try:
        consumer.start_all(not_subscribed_actions=others)
    except Exception as error:
        stop_consumer(consumer)
        raise FeedError(
            f"{address.uri}: cannot connect ({type(error).__name__}: {error}). Is the provider on, the address right, "
            "and do both sides trust each other's certificates?"
        ) from error
    return consumer


def _find(library: Library, address: SdcAddress) -> str:
    """Return the address of the provider with this endpoint reference."""
    discovery = start_discovery(library, address.adapter)
    services: Sequence[Any] = ()
    until_s = time.monotonic() + SEARCH_S
    try:
        while time.monotonic() < until_s:
            services = discovery.search_services(
                types=library.definitions.MedicalDeviceTypesFilter, timeout=0.5
            )
            for service in services:
                if service.epr == address.epr and service.x_addrs:
                    return str(service.x_addrs[0])
    finally:
        discovery.stop()
    known = ", ".join(sorted(service.epr for service in services)) or "none"
    raise FeedError(f"{address.uri}: no provider {address.epr} is to be found; there are {known}")


def _describe(consumer: Any) -> Any:
    return consumer.get_service_client.get_md_description().p_msg.msg_node


def stop_consumer(consumer: Any) -> None:
    """Unsubscribe and release; whatever the library meets on its way out, its threads have ended."""
    with suppress(Exception, EcgedgeError):
        consumer.stop_all()
