"""The bus between feeds and wards: NATS JetStream, which remembers for a while what it carried.

    stream ECG      subjects ecg.BED      the samples (`ecgedge.cluster.message`), and among them the commands of users
                                          (`ecgedge.cluster.command`), kept for the replay window
    stream EVENTS   subjects events.BED   what the beds say, one JSON line a message, kept for a day
    stream JOURNAL  subjects journal.BED  what goes into the beds' journals (`ecgedge.cluster.journal_part`), a week
    bucket BEDS     keys BED              each bed's newest checkpoint (`ecgedge.cluster.checkpoint`)
                    keys state/NAME       what services say of themselves (`deliver`, `journal_watch`)

A dot in a bed's name is written =2E, since dots part the words of a subject.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from ecgedge.cluster.message import MODES
from ecgedge.ecg import Mode
from ecgedge.errors import EcgedgeError, FeedError, UsageError, missing_extra

if TYPE_CHECKING:
    from nats.aio.msg import Msg

ECG, EVENTS, JOURNAL, BEDS = "ECG", "EVENTS", "JOURNAL", "BEDS"
REPLAY_S: Final = 120.0
"""How long the bus keeps samples by default: a bed that is served again within this time misses nothing."""

EVENTS_S: Final = 86_400.0
JOURNAL_S: Final = 7 * 86_400.0
"""How long the bus keeps what is told, and what goes to the journals: whoever takes it may be away for so long."""

_MODE: Final = "Ecgedge-Mode"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0
"""So long an answer of the bus is waited for."""

HEARTBEAT_S: Final = 2.0
"""How often the bus says that a quiet subscription is alive; after two that were missed it is made again."""


class BusError(FeedError):
    """The bus cannot be reached, or refuses; what was asked may be tried again."""


class BedTaken(EcgedgeError):  # noqa: N818 - it is no fault: another node has the bed now
    """Another node has kept a checkpoint of the bed since: it serves it, and this one must not."""


@dataclass(frozen=True)
class BusSettings:
    """How streams and bucket are made where they are not there; those that are there stay as they are.

    Attributes
    ----------
    replay_s
        So long samples are kept.
    replicas
        On so many servers of a NATS cluster each thing is kept: 1, 3 or 5.
    storage
        "file" outlives a restart of the server, "memory" does not.
    """

    replay_s: float = REPLAY_S
    replicas: int = 1
    storage: Literal["file", "memory"] = "file"

    def __post_init__(self) -> None:
        """Refuse what cannot be; UsageError."""
        if not 1.0 <= self.replay_s <= 86_400.0:
            raise UsageError(f"the replay window is {self.replay_s:g} s; expected 1 s to a day")
        if self.replicas not in (1, 3, 5):
            raise UsageError(f"replicas is {self.replicas}; a NATS cluster keeps 1, 3 or 5")


@dataclass(frozen=True)
class Delivery:
    """A message as it comes: its place in the stream, how many of its subject wait behind it, when it was published.

    `published_s` is in seconds since 1970 by the server's clock; an event has its bed's `mode`.
    """

    data: bytes
    sequence: int
    pending: int
    published_s: float
    mode: Mode | None = None


Take = Callable[[Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Kept:
    """A checkpoint as it is kept; `revision` is what the next one must follow."""

    data: bytes
    revision: int


def bed_token(bed: str) -> str:
    """Return how a bed is written in subjects and keys."""
    return bed.replace(".", "=2E")


class Following:
    """A subscription that goes on until it is closed; `pending` messages waited when it began."""

    def __init__(self, subscription: Any, pending: int) -> None:
        self._subscription, self.pending = subscription, pending

    async def close(self) -> None:
        """End it; safe to call twice, and without a connection."""
        with suppress(Exception):  # a bus that has gone has forgotten it anyway
            await self._subscription.unsubscribe()


class Bus:
    """A connection; made by `open_bus`. Every method raises BusError where the bus does not do it."""

    def __init__(self, connection: Any) -> None:
        self._nats = connection
        self._js = connection.jetstream(timeout=ANSWER_S)
        self._beds: Any = None
        self._publisher = uuid.uuid4().hex

    async def prepare(self, settings: BusSettings) -> None:
        """Make streams and bucket where they are not there."""
        from nats.js.api import KeyValueConfig, StorageType, StreamConfig
        from nats.js.errors import BucketNotFoundError, NotFoundError

        shared: dict[str, Any] = {"num_replicas": settings.replicas, "storage": StorageType(settings.storage)}
        ages = {
            ECG: ("ecg.*", settings.replay_s),
            EVENTS: ("events.*", EVENTS_S),
            JOURNAL: ("journal.*", JOURNAL_S),
        }
        with told("make its streams"):
            for name, (subjects, age_s) in ages.items():
                try:
                    await self._js.stream_info(name)
                except NotFoundError:
                    window_s = min(age_s, REPLAY_S)  # within it the same message twice is taken once
                    await self._js.add_stream(
                        StreamConfig(
                            name, subjects=[subjects], max_age=age_s, duplicate_window=window_s, **shared
                        )
                    )
            try:
                self._beds = await self._js.key_value(BEDS)
            except (BucketNotFoundError, NotFoundError):
                bucket = KeyValueConfig(
                    BEDS, history=1, replicas=settings.replicas, storage=StorageType(settings.storage)
                )
                self._beds = await self._js.create_key_value(bucket)

    async def publish(self, bed: str, message: bytes, *, number: int) -> int:
        """Put a message of samples on the bus; return its sequence in the stream, when the bus has it safe.

        The same `number` again, by this connection, is taken once: so what was not answered may be sent again.
        """
        return await self._put(bed, message, f"{self._publisher}-{bed}-{number}", what="samples")

    async def command(self, bed: str, message: bytes, *, key: str) -> int:
        """Put a command among a bed's samples; return its sequence. What has the same `key` is taken once."""
        return await self._put(bed, message, key, what="a command")

    async def withdraw(self, sequence: int) -> None:
        """Take a command back; who has read it may have obeyed it."""
        from nats.js.errors import NotFoundError

        with told("take a command back"), suppress(NotFoundError):  # it is gone already
            await self._js.delete_msg(ECG, sequence)

    async def last(self, stream: str) -> int:
        """Return the sequence of a stream's newest message, of any bed."""
        with told(f"say what is new in {stream}"):
            return int((await self._js.stream_info(stream)).state.last_seq)

    async def tell(self, bed: str, line: bytes, *, mode: Mode | None = None) -> None:
        """Put what a bed of this mode says on the bus; it is safe when this returns."""
        headers = None if mode is None else {_MODE: mode}
        with told(f"take an event of {bed}"):
            await self._js.publish(f"events.{bed_token(bed)}", line, headers=headers)

    async def record(self, bed: str, part: bytes) -> None:
        """Put a part of a bed's journal on the bus; it is safe when this returns."""
        with told(f"take a part of the journal of {bed}"):
            await self._js.publish(f"journal.{bed_token(bed)}", part)

    async def follow(self, bed: str, take: Take, *, after: int) -> Following:
        """Give all samples of a bed behind the sequence `after` to `take`, then those that come, in order.

        What is older than the replay window is gone. A stream that ends before `after` is another one than that of
        which `after` was told: then all that it has is given.
        """
        with told(f"give samples of {bed}"):
            last = (await self._js.stream_info(ECG)).state.last_seq
        return await self._follow(ECG, f"ecg.{bed_token(bed)}", take, after=after if after <= last else 0)

    async def follow_events(self, take: Take, *, bed: str | None = None, after: int = 0) -> Following:
        """Give what all beds, or one, have said and say to `take`, in order."""
        return await self._follow(EVENTS, f"events.{bed_token(bed) if bed else '*'}", take, after=after)

    @property
    def jetstream(self) -> Any:
        """The client's own access to the streams, for who reads them (`ecgedge.cluster.stream_reader`)."""
        return self._js

    async def beds(self) -> list[str]:
        """Return the beds that have a checkpoint."""
        from nats.js.errors import NoKeysError

        with told("list its beds"):
            try:
                keys = await self._beds.keys()
            except NoKeysError:
                return []
        return sorted(key.replace("=2E", ".") for key in keys if "/" not in key)

    async def checkpoint(self, bed: str) -> Kept | None:
        """Return a bed's newest checkpoint, or None if there is none."""
        from nats.js.errors import KeyNotFoundError

        with told(f"give the checkpoint of {bed}"):
            try:
                entry = await self._beds.get(bed_token(bed))
            except KeyNotFoundError:
                return None
        return Kept(entry.value or b"", entry.revision)

    async def keep(self, bed: str, data: bytes, *, revision: int | None) -> int:
        """Keep a checkpoint in the place of the one with `revision` (None: of none); return its own revision.

        Raises
        ------
        BedTaken
            If another one is there: then another node serves the bed.
        """
        from nats.js.errors import KeyWrongLastSequenceError

        with told(f"keep the checkpoint of {bed}"):
            try:
                return int(await self._beds.update(bed_token(bed), data, last=revision))
            except KeyWrongLastSequenceError:
                kept = await self.checkpoint(bed)
        if kept is not None and kept.data == data:  # it was kept, and only the answer was lost
            return kept.revision
        raise BedTaken(f"bed {bed} is served by another node now; this one lets it go")

    async def state(self, name: str) -> Kept | None:
        """Return the newest that a service of the cluster has said of itself, or None if it says nothing."""
        from nats.js.errors import KeyNotFoundError

        with told(f"give the state of {name}"):
            try:
                entry = await self._beds.get(f"state/{name}")
            except KeyNotFoundError:
                return None
        return Kept(entry.value or b"", entry.revision)

    async def set_state(self, name: str, data: bytes | None) -> None:
        """Say of a service how it is, in the place of what it said before; None: it is no more."""
        with told(f"keep the state of {name}"):
            if data is None:
                await self._beds.delete(f"state/{name}")
            else:
                await self._beds.put(f"state/{name}", data)

    async def set_aside(self, bed: str, data: bytes) -> str:
        """Keep bytes beside the checkpoints, for people to look at; return under which key."""
        key = f"{bed_token(bed)}/unfit"
        with told(f"set aside what was kept of {bed}"):
            await self._beds.put(key, data)
        return key

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._nats.is_closed)

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        with suppress(Exception):  # a bus that has gone is closed
            await self._nats.close()

    async def _put(self, bed: str, message: bytes, key: str, *, what: str) -> int:
        headers = {"Nats-Msg-Id": key}
        with told(f"take {what} of {bed}"):
            return int((await self._js.publish(f"ecg.{bed_token(bed)}", message, headers=headers)).seq)

    async def _follow(self, stream: str, subject: str, take: Take, *, after: int) -> Following:
        from nats.js.api import ConsumerConfig, DeliverPolicy

        last = after

        async def deliver(msg: Msg) -> None:
            nonlocal last
            found = delivery_of(msg)
            if found.sequence > last:  # a subscription that was made again may begin too early
                last = found.sequence
                await take(found)

        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1)
        with told(f"follow {subject}"):
            subscription = await self._js.subscribe(
                subject,
                stream=stream,
                cb=deliver,
                config=config,
                ordered_consumer=True,
                idle_heartbeat=HEARTBEAT_S,
            )
            info = await subscription.consumer_info()
        return Following(
            subscription, (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        )


async def open_bus(
    uri: str, *, settings: BusSettings | None = None, say: Callable[[str], None] | None = None
) -> Bus:
    """Connect to a NATS server with JetStream; a connection that is lost is made again, for ever.

    Parameters
    ----------
    uri
        `nats://HOST:4222`, or several of one cluster with commas between; `tls://` where the server has a certificate.
    settings
        For streams that are not there yet.
    say
        Takes what people must know: that the connection is lost, or is there again.

    Raises
    ------
    UsageError
        If the URI is none, or the extra is missing.
    BusError
        If nobody answers, or without JetStream.
    """
    servers = _servers(uri)
    try:
        import nats
    except ModuleNotFoundError as error:
        raise missing_extra(extra="cluster", package="nats-py", purpose="the bus") from error
    tell = say or (lambda _: None)
    bus: Bus | None = None

    async def on_lost() -> None:
        if bus is None or not bus.is_closed:  # else we have hung up ourselves
            tell(f"the bus {uri} is lost; trying again")

    async def on_back() -> None:
        tell(f"the bus {uri} is there again")

    async def on_error(error: Exception) -> None:
        tell(f"the bus {uri}: {type(error).__name__}: {error}")

    connecting = nats.connect(
        servers,
        name="ecgedge",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        disconnected_cb=on_lost,
        reconnected_cb=on_back,
        error_cb=on_error if say else _ignore,
    )
    try:
        connection = await asyncio.wait_for(connecting, CONNECT_S)
    except (asyncio.TimeoutError, OSError, nats.errors.Error) as error:
        raise BusError(
            f"cannot reach the bus {uri} ({error or f'no answer in {CONNECT_S:g} s'}). Start one with: "
            "nats-server --jetstream --store_dir /var/lib/nats"
        ) from error
    bus = Bus(connection)
    try:
        await bus.prepare(settings or BusSettings())
    except BusError:
        await bus.close()
        raise
    return bus


async def _ignore(_: Exception) -> None:
    return


def _servers(uri: str) -> list[str]:
    servers = [part.strip() for part in uri.split(",")]
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in ("nats", "tls") or not parts.hostname:
            raise UsageError(f"the bus is {uri!r}; expected nats://HOST:4222, or several with commas between")
    return servers


def delivery_of(msg: Msg) -> Delivery:
    """Return a message of the client's as ours."""
    facts = msg.metadata
    mode = next((mode for mode in MODES if (msg.headers or {}).get(_MODE) == mode), None)
    return Delivery(msg.data, facts.sequence.stream, facts.num_pending, facts.timestamp.timestamp(), mode)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn the client's errors into BusError: that the bus does not do `what`."""
    from nats.errors import Error

    try:
        yield
    except (Error, asyncio.TimeoutError, OSError, json.JSONDecodeError) as error:
        text = str(error) or type(error).__name__
        raise BusError(f"the bus does not {what}: {text}. Does the server run with --jetstream?") from error
