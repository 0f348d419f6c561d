"""The device's side of the bridge protocol (firmware_bridge/PROTOCOL.md) for a rig: no clock and no I/O.

It says what it is (INFO), sends samples, answers PING, and hears results and alarms. What it has to answer goes out
with the next samples, so that frames leave in the order of their numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import Declared, declared_of, positive_setting
from ecgedge.feeds.eeb import MODULUS
from ecgedge.rig.writing import LSB_NV, FrameWriter
from ecgedge_bridge import (
    Ack,
    Alert,
    Config,
    ConfigAck,
    ConfigStatus,
    Decoder,
    Error,
    Frame,
    Info,
    Mode,
    Ping,
    Pong,
    Result,
)
from ecgedge_bridge.control import CONDITION_IDS, LEADS

INFO_S: Final = 5.0
SERIAL: Final = "ECGEDGE-RIG"
FIRMWARE: Final = (0, 1, 0)

_CONDITIONS: Final = {number: name for name, number in CONDITION_IDS.items()}


def device_of(
    info: FeedInfo, options: Mapping[str, str], *, uri: str, say: Callable[[str], None]
) -> EebDevice:
    """Return a device that plays a feed, by a URI's options: `lsb_nv`, and `info=0` for one of version 1.0.

    Raises
    ------
    FeedError
        If they are none, or do not fit INFO.
    """
    lsb_nv = positive_setting(options, "lsb_nv", LSB_NV, uri=uri)
    if not 1 <= round(lsb_nv * 1e3) < 2**32:
        raise FeedError(f"{uri}: lsb_nv is {lsb_nv:g}; a device can say 0.001 to 4294967")
    if options.get("info", "1") not in ("0", "1"):
        raise FeedError(f"{uri}: info is '{options['info']}', neither 0 nor 1")
    return EebDevice(info, declared_of(info, lsb_nv=lsb_nv), says_info=options.get("info") != "0", say=say)


class EebDevice:
    """A device that plays a feed.

    Parameters
    ----------
    info, declared
        Of the feed, and what the device says of it.
    says_info
        Whether it sends INFO; one of version 1.0 sends none.
    say
        Hears of results, alarms and errors of the host.

    Attributes
    ----------
    declared
        What it says of itself.
    heard
        Frames of the host, by type.
    """

    def __init__(
        self, info: FeedInfo, declared: Declared, *, says_info: bool = True, say: Callable[[str], None]
    ) -> None:
        self._says_info = says_info
        self._info, self.declared, self._say = info, declared, say
        self._writer = FrameWriter(info, declared)
        self._decoder = Decoder()
        self._seq = 0
        self._base_s: float | None = None  # of the feed's time, where this start of the device began
        self._info_due_s = 0.0
        self._clock = (0.0, 0.0, 0.0)  # device time at a time of ours, and the latest that was told
        self._index = 0
        self._answers: list[Frame] = []
        self._signals: dict[int, str] = {}
        self.heard: Counter[str] = Counter()

    def encode(self, chunk: Chunk, *, now_s: float) -> list[Frame]:
        """Return the frames that carry a chunk, and before them what is due."""
        if self._base_s is None:
            self._base_s = chunk.t_s
        t_s = chunk.t_s - self._base_s
        frames: list[Frame] = []
        if self._says_info and t_s >= self._info_due_s:
            self._info_due_s = t_s + INFO_S
            frames.append(self._about())
        end_s = t_s + chunk.samples_mv.shape[1] / self._info.rate_hz
        self._clock = (end_s, now_s, self._clock[2])
        data = self._writer.frames(replace(chunk, t_s=t_s))
        self._index = data[-1].sample_index + data[-1].n_samples if data else self._index
        frames += [self._going(answer, now_s) for answer in self._answers]
        self._answers = []
        return [self._number(frame) for frame in [*frames, *data]]

    def restart(self) -> None:
        """Start anew: everything counts from 0 again, with the next chunk."""
        self._say("the device starts anew")
        self._seq, self._base_s, self._info_due_s = 0, None, 0.0
        self._clock, self._index = (0.0, 0.0, 0.0), 0
        self._answers, self._signals, self._decoder = [], {}, Decoder()

    def push(self, received: bytes, *, now_s: float) -> None:
        """Take bytes of the host, in any portions."""
        for frame in self._decoder.push(received):
            self._hear(frame, now_s)

    def message(self, received: bytes, *, now_s: float) -> None:
        """Take a message of the host, on a transport that keeps messages apart."""
        frame = self._decoder.take(received)
        if frame is not None:
            self._hear(frame, now_s)

    def acknowledge(self, condition: str, user_id: int) -> None:
        """Let a user press the button; KeyError if there is no such condition."""
        number = CONDITION_IDS[condition]
        ack = Ack(seq=0, sample_index=self._index % MODULUS, condition=number, user_id=user_id)
        self._answers.append(ack)

    @property
    def lost(self) -> dict[str, int]:
        """What of the host's frames did not come whole."""
        found = vars(self._decoder.counters)
        return {name: n for name, n in found.items() if n and name not in ("frames", "long_payload")}

    # --- what came ---

    def _hear(self, frame: Frame, now_s: float) -> None:
        self.heard[type(frame).__name__.lower()] += 1
        if isinstance(frame, Ping):
            t2_us = self._now_us(now_s)
            self._answers.append(
                Pong(seq=0, ping_id=frame.ping_id, t1_us=frame.t1_us, t2_us=t2_us, t3_us=t2_us)
            )
        elif isinstance(frame, Config):
            refused = ConfigAck(
                seq=0, sample_index=0, config_id=frame.config_id, status=ConfigStatus.UNSUPPORTED
            )
            self._answers.append(refused)
        elif isinstance(frame, Alert):
            self._show(frame)
        elif isinstance(frame, Result):
            shown = "no number" if frame.mpcwp_mmhg is None else f"{frame.mpcwp_mmhg:.2f} mmHg (estimate)"
            self._say(f"result at sample {frame.sample_index}: {shown}, {frame.validity.name}")
        elif isinstance(frame, Error):
            self._say(f"the host says ERROR {frame.code}, detail {frame.detail}")

    def _show(self, alert: Alert) -> None:
        name = _CONDITIONS.get(alert.condition, f"condition {alert.condition}")
        signal = alert.signal.name.lower()
        if self._signals.get(alert.condition, "off") != signal:
            self._say(f"alert {name}: {signal}, {alert.priority.name.lower()} priority")
        self._signals[alert.condition] = signal

    # --- what goes ---

    def _now_us(self, now_s: float) -> int:
        """Return the device's clock; it follows the samples that it plays, and never goes back."""
        end_s, at_s, told_s = self._clock
        t_s = max(told_s, end_s + (now_s - at_s))
        self._clock = (end_s, at_s, t_s)
        return round(t_s * 1e6)

    def _going(self, answer: Frame, now_s: float) -> Frame:
        return replace(answer, t3_us=self._now_us(now_s)) if isinstance(answer, Pong) else answer

    def _number(self, frame: Frame) -> Frame:
        self._seq += 1
        return replace(frame, seq=(self._seq - 1) % 2**16)

    def _about(self) -> Info:
        rate = Fraction(self._info.rate_hz).limit_denominator(10**6)
        return Info(
            seq=0,
            rate_num=rate.numerator,
            rate_den=rate.denominator,
            lsb_pv=round(self.declared.lsb_nv * 1e3),
            gain_centi=100,
            leads=tuple(LEADS.index(lead) if lead in LEADS else 0 for lead in self.declared.channels),
            serial=SERIAL,
            firmware=FIRMWARE,
            mode=Mode.DEMO if self.declared.mode == "demo" else Mode.TEST,
            simulated=True,
        )
