"""What VitalDB's Vital Recorder sends each second, no I/O: a gzip of HL7 v2.6 messages, one for each of its beds.

A waveform is an OBX with NA and `ECG_WAV^DEVICE/TRACK@RATE`. Times are whole seconds of the recorder's wall clock
(OBR-7 and OBR-8, the stretch that a message covers), too coarse to place samples by: these follow each other by count,
and the times only tell holes (`Timeline`).

Source: PyPI vitalrecorder 1.0.0, VitalDB's own simulator of it.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ecgedge.ecg import check_rate
from ecgedge.errors import Hl7Error, RecordError
from ecgedge.feeds.dejitter import FOLLOW, Packet
from ecgedge.hl7 import Message, Segment, Waveforms, parse, read_waveforms, split_messages
from ecgedge.hl7.message import escape
from ecgedge.hl7.numbers import read_time
from ecgedge.leads import canonical_lead

MAX_COMPRESSED: Final = 1 << 20
"""Bytes of one second of all beds as they come; ten beds of 12 leads are 200 kB."""

MAX_INFLATED: Final = 1 << 22
"""Bytes that they may become: gzip shrinks numbers five times, and zeros a thousand times."""

WHOLE_SECONDS_S: Final = 2.0
"""By how much a time in whole seconds, and where a block of samples was cut, can be off without a hole."""

SHORTEST_HOLE_S: Final = 0.4
"""A message that is missing leaves more: a second, less a block of samples that came a message later."""

LONG_BLOCK_S: Final = 1.25
"""Where no message was shorter, blocks of samples are longer than messages, and not every message has one; a whole
second's error then looks like a hole of a second, and is none."""

MAX_NAMES: Final = 8
"""Names of tracks that an error message tells."""

_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which recorder, bed and tracks a feed takes.

    Attributes
    ----------
    vr
        The recorder's code, as it joins with (`join_vr`) and as MSH-4 says.
    bed
        PV1-3; None takes the first bed that brings an ECG.
    device
        What stands before the "/" of a track's name; None takes that of the first ECG track.
    leads
        Leads of tracks that name none: {"ECG1": "II"}, the name with or without its device.
    unit
        What is meant where a track names no unit; None refuses it.
    """

    vr: str
    bed: str | None = None
    device: str | None = None
    leads: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None


def inflate(payload: bytes) -> bytes:
    """Unpack one gzip member, and no more than `MAX_INFLATED` bytes of it.

    Raises
    ------
    ValueError
        `bad_gzip` or `oversized`: the name under which it is counted.
    """
    if len(payload) > MAX_COMPRESSED:
        raise ValueError("oversized")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        data = unpacker.decompress(payload, MAX_INFLATED + 1)
    except zlib.error as error:
        raise ValueError("bad_gzip") from error
    if len(data) > MAX_INFLATED:
        raise ValueError("oversized")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("bad_gzip")
    return data


class Timeline:
    """Places messages in whole seconds on the grid of samples.

    Samples follow those before by count. A hole is told where a message does not begin when the last one ended and
    brings less than the time since then, and where it follows but its end is later than samples can account for; its
    length is right to a second. A clock that drifts is followed; one that is set back changes nothing. Where a
    recorder's blocks of samples are longer than a second, a hole of a second is not seen.

    Attributes
    ----------
    set_back
        How often the recorder's clock was set back.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._next: int | None = None
        self._end_s = self._off_s = 0.0
        self._shortest_s = math.inf
        self.set_back = 0

    def place(self, begin_s: float, end_s: float, n: int, *, after_loss: bool = False) -> int:
        """Return the number of a message's first sample, of `n`; `after_loss` if one before it was dropped here."""
        self._shortest_s = min(self._shortest_s, n / self._rate_hz)
        if self._next is None:
            self._next = round(begin_s * self._rate_hz)
            self._off_s = end_s - (self._next + n) / self._rate_hz
            hole = 0
        else:
            hole = self._hole(begin_s, end_s, n)
            if after_loss:
                hole = max(hole, n)
        first = self._next + hole
        self._next, self._end_s = first + n, end_s
        return first

    def _hole(self, begin_s: float, end_s: float, n: int) -> int:
        """Return how many samples are missing before a message."""
        length_s = n / self._rate_hz
        ahead_s = end_s - ((self._next or 0) + n) / self._rate_hz - self._off_s
        limit_s = WHOLE_SECONDS_S + length_s
        if ahead_s < -limit_s:
            self.set_back += 1
            self._off_s += ahead_s
            return 0
        missing_s = end_s - self._end_s - length_s if begin_s != self._end_s else 0.0
        missing_s = ahead_s if ahead_s > limit_s else missing_s
        if missing_s > (SHORTEST_HOLE_S if self._shortest_s < LONG_BLOCK_S else LONG_BLOCK_S):
            return round(missing_s * self._rate_hz)
        self._off_s += FOLLOW * ahead_s
        return 0


@dataclass(frozen=True)
class Track:
    """A track's identifier, DEVICE/TRACK@RATE; `rate` is a text, "" where none stands."""

    device: str
    name: str
    rate: str


class BedMessages:
    """What one recorder sends in, packets of one bed out; what cannot be used is dropped and counted.

    Attributes
    ----------
    first
        The waveforms that came first: leads, rate and mode of the feed are theirs.
    dropped
        Payloads: `oversized`, `bad_gzip`. Messages: `bad_message` (no HL7), `other_recorder`, `other_bed`,
        `no_waveform` (without an ECG), `bad_waveform`, `other_signal` (another rate or mode than at first),
        `clock_set_back` (taken). Tracks of messages: `unknown_track` (an ECG without a lead), `other_device`,
        `double_lead`, `new_lead` (was not there at first).
    unknown
        Names of tracks that were counted as unknown, the first few.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._bed, self._device = selection.bed, selection.device
        self._lost = False
        self._timeline: Timeline | None = None
        self.first: Waveforms | None = None
        self.dropped: Counter[str] = Counter()
        self.unknown: dict[str, None] = {}

    def take(self, payload: bytes, *, arrived_s: float | None = None) -> list[Packet]:
        """Take what a recorder sent; return the packets of our bed in it."""
        try:
            messages = split_messages(inflate(payload))
        except ValueError as error:
            self._drop(str(error))
            return []
        packets = [self._packet(data, arrived_s) for data in messages]
        return [packet for packet in packets if packet is not None]

    def _packet(self, data: bytes, arrived_s: float | None) -> Packet | None:
        try:
            message = parse(data)
            other = self._other(message)
        except Hl7Error:
            self._drop("bad_message")
            return None
        if other:
            self.dropped[other] += 1
            return None
        try:
            waveforms, end_s = self._waveforms(message)
        except Hl7Error:
            self._drop("bad_waveform")
            return None
        if waveforms is None:
            self.dropped["no_waveform"] += 1
            return None
        if self.first is None:
            self._begin(message, waveforms)
        return self._placed(waveforms, end_s, arrived_s)

    def _drop(self, name: str) -> None:
        """Count what may have been our bed's: then the next samples do not follow those before."""
        self.dropped[name] += 1
        self._lost = True

    def _other(self, message: Message) -> str:
        """Return under which name a message of somebody else is counted; "" for ours."""
        if message.field("MSH", 4) not in ("", self._selection.vr):
            return "other_recorder"
        return "other_bed" if self._bed not in (None, message.field("PV1", 3)) else ""

    def _waveforms(self, message: Message) -> tuple[Waveforms | None, float]:
        """Return the ECG of our device's tracks, None if there is none, and when it ended by the recorder's clock."""
        lines = [_line(segment, track, self._selection.unit) for segment, track in self._tracks(message)]
        if not lines:
            return None, 0.0
        waveforms = read_waveforms(replace(message, lines=(*_heads(message), *lines)))
        try:
            check_rate(waveforms.rate_hz, source="its sampling rate")
            end = message.field("OBR", 8)
            end_s = read_time(end).timestamp() if end else _end_s(waveforms)
        except (RecordError, ValueError) as error:
            raise Hl7Error(str(error), place="OBR") from error
        return waveforms, end_s

    def _begin(self, message: Message, waveforms: Waveforms) -> None:
        """Take the first ECG: its bed and device are the feed's."""
        self.first, self._bed = waveforms, message.field("PV1", 3)
        if self._device is None:
            tracks = map(_track, self._ecgs(message))
            self._device = next(track.device for track in tracks if self._lead(track) is not None)
        self._timeline, self._lost = Timeline(waveforms.rate_hz), False

    def _placed(self, waveforms: Waveforms, end_s: float, arrived_s: float | None) -> Packet | None:
        first, timeline = self.first, self._timeline
        if first is None or timeline is None:
            return None
        if (waveforms.rate_hz, waveforms.mode) != (first.rate_hz, first.mode):
            self._drop("other_signal")
            return None
        n = waveforms.samples_mv.shape[1]
        samples_mv = np.full((len(first.leads), n), np.nan, np.float32)
        for lead, row in zip(waveforms.leads, waveforms.samples_mv, strict=True):
            if lead in first.leads:
                samples_mv[first.leads.index(lead)] = row
            else:
                self.dropped["new_lead"] += 1
        lost, self._lost = self._lost, False
        index = timeline.place(waveforms.start.timestamp(), end_s, n, after_loss=lost)
        if timeline.set_back:
            self.dropped["clock_set_back"] = timeline.set_back
        return Packet(samples_mv, index, arrived_s=arrived_s)

    def _tracks(self, message: Message) -> Iterator[tuple[Segment, str]]:
        """Give the segments of our device's leads, each with its identifier as `read_waveforms` reads it."""
        device, seen = self._device, set[str]()
        for segment in self._ecgs(message):
            track = _track(segment)
            lead = self._lead(track)
            if lead is None:
                self._unknown(track)
            elif (device := track.device if device is None else device) != track.device:
                self.dropped["other_device"] += 1
            elif lead in seen:
                self.dropped["double_lead"] += 1
            else:
                seen.add(lead)
                yield segment, f"{lead}@{track.rate}"

    def _ecgs(self, message: Message) -> Iterator[Segment]:
        """Give the segments with an ECG: called so, or called nothing and named as a lead."""
        for segment in message.segments("OBX"):
            if segment.raw_field(2) == b"NA":
                kind = segment.field(3)
                if kind == "ECG_WAV" or (not kind and self._lead(_track(segment)) is not None):
                    yield segment

    def _lead(self, track: Track) -> str | None:
        leads = self._selection.leads
        for name in (f"{track.device}/{track.name}", track.name):
            if name in leads:
                return leads[name]
        try:
            return canonical_lead(track.name)
        except ValueError:
            return None

    def _unknown(self, track: Track) -> None:
        self.dropped["unknown_track"] += 1
        if len(self.unknown) < MAX_NAMES:
            self.unknown[f"{track.device}/{track.name}"[:40]] = None


def _track(segment: Segment) -> Track:
    name, _, rate = (segment.field(3, 2) or segment.field(3)).rpartition("@")
    if not name:
        name, rate = rate, ""
    device, _, track = name.rpartition("/")
    return Track(device, track, rate)


def _line(segment: Segment, track: str, unit: str | None) -> bytes:
    """Return a lead's OBX as `read_waveforms` reads it, in `unit` where it names none."""
    fields = [*segment.fields, *[b""] * (7 - len(segment.fields))]
    fields[3] = segment.separators.component + escape(track).encode()
    fields[6] = fields[6].strip() or (unit or "").encode()
    return segment.separators.field.join(fields)


def _heads(message: Message) -> tuple[bytes, ...]:
    return tuple(line for line in message.lines if not line.startswith(b"OBX"))


def _end_s(waveforms: Waveforms) -> float:
    n = int(waveforms.samples_mv.shape[1])
    return waveforms.start.timestamp() + n / waveforms.rate_hz
