"""The host's side of the bridge protocol (firmware_bridge/PROTOCOL.md): what came in, chunks and answers out.

No clock and no I/O: whoever owns the connection says when something came, and sends what `Outgoing` has. Serial lines,
TCP and WebSocket differ in nothing but how frames are told apart.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ecgedge.feeds.base import Chunk
from ecgedge.feeds.declared import Declared
from ecgedge.feeds.dejitter import Dejitter, Packet
from ecgedge.feeds.eeb import MODULUS, DataFrames
from ecgedge.feeds.eeb_clock import DeviceClock, to_us
from ecgedge.feeds.eeb_config import CONFIG_WAIT_S, Configuring, Wanted
from ecgedge.feeds.eeb_info import check_same, declared_of_info, describe
from ecgedge.feeds.eeb_out import Outgoing
from ecgedge.feeds.messages import MessageReader
from ecgedge.feeds.restarts import Arrivals, HeardData, Restarts
from ecgedge_bridge import (
    Ack,
    ConfigAck,
    Counters,
    Data,
    Decoder,
    Error,
    ErrorCode,
    Frame,
    FrameType,
    Info,
    Ping,
    Pong,
    version_error,
)
from ecgedge_bridge.control import CONDITION_IDS

DRIFT_PPM: Final = 200.0
"""A device's clock may be off by so much, unless the URI says otherwise: crystals are better."""

_CONDITIONS: Final = {number: name for name, number in CONDITION_IDS.items()}
_WELL: Final = ("frames", "long_payload")
"""Counters of the wire that tell of no loss."""


@dataclass
class _Line:
    """What is made anew with the declaration: the way of samples."""

    declared: Declared
    frames: DataFrames
    order: Dejitter
    restarts: Restarts
    arrivals: Arrivals = field(default_factory=Arrivals)
    json: MessageReader | None = None
    anew: bool = False
    """The next samples are the first since the device started anew."""


class EebHost:
    """One device, from the connection on.

    Parameters
    ----------
    uri
        Named in errors.
    declared
        What is known of the device without INFO; None where INFO is waited for.
    settings
        The URI's, which INFO may not contradict.
    framed
        Whether bytes come as a stream, with COBS and delimiters; else each message is a decoded frame.
    wait_s
        As in `Dejitter`.
    drift_ppm
        By how much the device's clock may be fast or slow.
    by
        Whose the settings are.
    wanted
        How the device shall sample and send; None leaves it as it is. Then `declared` waits for INFO in any case.

    Attributes
    ----------
    out
        What is to be sent.
    acks
        Conditions that a user acknowledged at the device, and in whose name, until somebody takes them.
    said
        Sentences that people should hear, until somebody takes them.
    info
        What the device said last of itself.
    heard_s
        When the last whole frame (or sound text message) came.
    dropped
        Frames by why they could not be used, beside what `counters` has.
    errors
        ERROR frames of the device, by code.
    """

    def __init__(
        self,
        *,
        uri: str,
        declared: Declared | None,
        settings: Mapping[str, str],
        framed: bool,
        wait_s: float = 0.0,
        drift_ppm: float = DRIFT_PPM,
        by: str = "the URI",
        wanted: Wanted | None = None,
    ) -> None:
        self._by = by
        self._uri, self._settings, self._framed, self._wait_s = uri, settings, framed, wait_s
        self._decoder = Decoder()
        self._line: _Line | None = None
        self._fresh = False  # INFO has come since the newest DATA of before
        self._needs_info = False
        self._seen = Counters()  # what was dealt with of the wire's counters
        self.clock = DeviceClock(tolerance_ppm=drift_ppm)
        self.out = Outgoing()
        self.acks: deque[tuple[str, str]] = deque(maxlen=64)
        self.said: deque[str] = deque(maxlen=64)
        self.info: Info | None = None
        self.heard_s: float | None = None
        self.dropped: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self._configuring = None if wanted is None else Configuring(wanted, uri=uri)
        if declared is not None and wanted is None:
            self._begin(declared)

    @property
    def declared(self) -> Declared | None:
        """What is known of the device; None while INFO is waited for."""
        return None if self._line is None else self._line.declared

    @property
    def counters(self) -> Counters:
        """The wire's, as they stand."""
        return self._decoder.counters

    def take(self, received: bytes | str, *, now_s: float) -> list[Chunk]:
        """Take bytes in any portions (or a message, or a text message of samples); return the chunks they complete.

        Raises
        ------
        FeedError
            When the device is not what the URI says, or not any more what it was, or does not follow CONFIG.
        """
        chunks: list[Chunk] = []
        self.check(now_s=now_s)
        if isinstance(received, str):
            chunks += self._text(received, now_s)
        else:
            for frame in self._frames(received):
                self.heard_s = now_s
                chunks += self._frame(frame, now_s)
        self._look_at_wire(now_s)
        return chunks

    def check(self, *, now_s: float) -> None:
        """Raise FeedError if a device that was asked for something has not answered in time."""
        if self._configuring is not None:
            self._configuring.check(now_s=now_s)

    @property
    def config_wait_s(self) -> float:
        """How much longer than for INFO it may take until the device is set."""
        return 0.0 if self._configuring is None else CONFIG_WAIT_S

    def config_trouble(self) -> str | None:
        """Say what the host waits for before it takes samples, if that is an answer to CONFIG."""
        return None if self._configuring is None else self._configuring.trouble()

    def rest(self) -> list[Chunk]:
        """Return what still waits: nothing comes any more."""
        return [] if self._line is None else self._line.order.flush()

    def due(self, *, now_s: float) -> Iterator[Frame]:
        """Yield frames to send, for as long as the caller has room."""
        config = None if self._configuring is None else self._configuring.due(now_s=now_s)
        if config is not None:
            self.out.answer(config)
        # A device of version 1.0 sends no INFO, and would count each question as a type that it does not know.
        ping = self.clock.ask(now_s=now_s) if self.info is not None else None
        if ping is not None:
            self.out.answer(ping)
        return self.out.take(now_s=now_s)

    def device_index(self, t_s: float) -> int:
        """Return the device's number of the sample at a stream time, below 0 if that was before its last start."""
        return 0 if self._line is None else self._line.order.device_index(t_s)

    # --- what came ---

    def _frames(self, received: bytes) -> list[Frame]:
        if self._framed:
            return self._decoder.push(received)
        frame = self._decoder.take(received)
        return [] if frame is None else [frame]

    def _frame(self, frame: Frame, now_s: float) -> list[Chunk]:
        if isinstance(frame, Data):
            return self._data(frame, now_s)
        if isinstance(frame, Info):
            self._hear_info(frame)
        elif isinstance(frame, Ping):
            now_us = to_us(now_s)
            self.out.answer(Pong(seq=0, ping_id=frame.ping_id, t1_us=frame.t1_us, t2_us=now_us, t3_us=now_us))
        elif isinstance(frame, Pong):
            self.clock.heard(frame, now_s=now_s)
        elif isinstance(frame, Ack):
            self._ack(frame, now_s)
        elif isinstance(frame, Error):
            self._error(frame)
        elif isinstance(frame, ConfigAck):
            self._hear_answer(frame, now_s)
        else:
            self.dropped["not_data"] += 1
        return []

    def _hear_answer(self, answer: ConfigAck, now_s: float) -> None:
        if self._configuring is None or not self._configuring.hear_answer(answer, now_s=now_s):
            self.dropped["not_asked"] += 1

    def _hear_info(self, info: Info) -> None:
        if self._configuring is not None and not self._configuring.hear_info(info):
            return
        self._fresh, self._needs_info = True, False
        if self.info is not None:
            check_same(self.info, info, uri=self._uri)
        declared = declared_of_info(info, self._settings, uri=self._uri, by=self._by)
        if self._line is None:
            self._begin(declared)
        if self.info is None:
            self.said.append(f"{self._uri}: the device is {describe(info)}, mode {declared.mode}")
        if self._line is not None:
            self._line.declared = declared
            self._line.frames.declare(declared, gain_id=info.gain_id)
        self.info = info

    def _begin(self, declared: Declared) -> None:
        self._line = _Line(
            declared,
            DataFrames(declared, uri=self._uri),
            Dejitter(rate_hz=declared.rate_hz, wait_s=self._wait_s, modulus=MODULUS),
            Restarts(declared.rate_hz),
        )

    def _text(self, message: str, now_s: float) -> list[Chunk]:
        line = self._line
        if line is None:
            self.dropped["before_info"] += 1
            return []
        if line.json is None:
            line.json = MessageReader(line.declared, uri=self._uri)
        packet = line.json.json(message.encode(), arrived_s=now_s)
        if packet is None:
            return []
        self.heard_s = now_s
        return line.order.push(packet)

    # --- samples ---

    def _data(self, data: Data, now_s: float) -> list[Chunk]:
        if self._configuring is not None and not self._configuring.done:
            self._configuring.hear_data(data)
            self.dropped["before_config"] += 1
            return []
        line = self._line
        if line is None:
            self.dropped["before_info"] += 1
            return []
        chunks: list[Chunk] = []
        for heard in line.restarts.take(data, arrived_s=now_s):
            if heard.anew:
                self._restarted(line, now_s)
            if self._needs_info:
                self.dropped["before_info"] += 1
            else:
                chunks += self._samples(line, heard)
        return chunks

    def _restarted(self, line: _Line, now_s: float) -> None:
        self.said.append(f"{self._uri}: the device started anew; its samples go on after a gap")
        line.frames.begin_anew()
        self.clock.begin_anew()
        self.out.forget_result()
        self.out.begin_anew(now_s=now_s)
        line.anew = True
        self._needs_info = self.info is not None and not self._fresh

    def _samples(self, line: _Line, heard: HeardData) -> list[Chunk]:
        packet = line.frames.packet(heard.data, arrived_s=heard.arrived_s)
        if packet is None:
            return []
        self._fresh = False
        rate_hz = line.declared.rate_hz
        chunks = self._place(line, packet, heard) if line.anew else []
        chunks += line.order.push(packet)
        line.arrivals.heard(line.order.newest_s, arrived_s=heard.arrived_s)
        self.clock.sampled(heard.data.t_us + 1e6 * packet.n / rate_hz, arrived_s=heard.arrived_s)
        return chunks

    def _place(self, line: _Line, packet: Packet, heard: HeardData) -> list[Chunk]:
        line.anew = False
        rate_hz, newest_s = line.declared.rate_hz, line.order.newest_s
        length_s = packet.n / rate_hz
        begin_s = line.arrivals.place(length_s, arrived_s=heard.arrived_s, newest_s=newest_s)
        return line.order.restart(heard.data.sample_index, hole=round((begin_s - newest_s) * rate_hz))

    # --- what else ---

    def _ack(self, ack: Ack, now_s: float) -> None:
        name = _CONDITIONS.get(ack.condition)
        if name is None:
            self.dropped["unknown_condition"] += 1
            refusal = Error(
                seq=0, code=ErrorCode.UNKNOWN_CONDITION, about_type=FrameType.ACK, about_seq=ack.seq
            )
            self.out.refuse(refusal, now_s=now_s)
            return
        who = f"user {ack.user_id} of" if ack.user_id else "a button of"
        device = "the front end" if self.info is None else f"front end {self.info.serial}"
        self.acks.append((name, f"{who} {device}"))

    def _error(self, error: Error) -> None:
        first = self.errors[error.code] == 0
        self.errors[error.code] += 1
        if first:
            self.said.append(
                f"{self._uri}: the device says {_error_text(error)}; further ones are counted only"
            )

    def _look_at_wire(self, now_s: float) -> None:
        """Deal with what counters alone tell: another version, and a sender that started anew."""
        counters, seen = self._decoder.counters, self._seen
        refusal = version_error(seen, counters, seq=0)
        if refusal is not None:
            if seen.bad_version == 0:
                self.said.append(f"{self._uri}: {self.version_trouble()}")
            self.out.refuse(refusal, now_s=now_s)
        if counters.seq_back != seen.seq_back:
            self.out.begin_anew(now_s=now_s)
            if self._configuring is not None:
                self._configuring.begin_anew()
        self._seen = counters

    def version_trouble(self) -> str | None:
        """Say that the device speaks another version of the protocol, if it was heard to."""
        if self._decoder.counters.bad_version:
            return (
                "the device speaks another major version of the bridge protocol than 1, and was told so (ERROR); "
                "nothing is taken from it: give it a firmware of version 1"
            )
        if self.errors[ErrorCode.VERSION]:
            return "the device refuses version 1 of the bridge protocol; give it a firmware that speaks it"
        return None

    # --- what is told ---

    def losses(self) -> dict[str, int]:
        """Return what came and could not be delivered as it came, by name; only what has happened stands in it."""
        counted: Counter[str] = Counter(self.dropped)
        counted.update({name: n for name, n in vars(self.counters).items() if name not in _WELL})
        counted.update({f"{kind}s_unsent": n for kind, n in self.out.dropped.items()})
        counted.update({"device_errors": self.errors.total(), "unasked_pongs": self.clock.unasked})
        counted["device_clock_drift"] += self.clock.drifts
        if self._line is not None:
            counted.update(self._line.frames.dropped)
            counted.update(vars(self._line.order.disorder))
            counted.update({} if self._line.json is None else self._line.json.dropped)
        return {name: n for name, n in counted.items() if n}

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know of the device, as plain JSON types."""
        found: dict[str, Any] = {"sent": dict(self.out.sent), "clock": self.clock.status()}
        if self.clock.age_s is not None:
            found["age_s"] = round(self.clock.age_s, 3)
        if self.info is not None:
            found["serial"] = self.info.serial
            found["firmware"] = ".".join(map(str, self.info.firmware))
            found["filter_mode"] = self.info.filter_mode.name.lower()
            found["gain"] = self.info.gain_centi / 100
        if self._line is not None and self._line.order.disorder.restarts:
            found["misplaced_s"] = round(self._line.arrivals.misplaced_s, 3)
        return found


def _error_text(error: Error) -> str:
    known = {code.value: code.name.lower().replace("_", " ") for code in ErrorCode}
    text = f"ERROR {error.code} ({known.get(error.code, 'of a later version')})"
    about = f" about a frame of type 0x{error.about_type:02x}" if error.about_type else ""
    return f"{text}{about}, detail {error.detail}"
