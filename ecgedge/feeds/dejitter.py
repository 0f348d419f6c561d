"""Packets as a wire brings them, put in order on the grid of samples: no clock and no I/O.

A packet says which sample it begins with, by the device's count (`index`) or by the device's clock (`t_s`). Whatever
comes between, a hole stays a hole: nothing is interpolated, and no sample is shifted. All that a wire does to packets
is dealt with here, for all feeds, and each has a counter in `Disorder`.

A missing packet is waited for until `wait_s` of samples have come after it: of samples, not of a clock's time, so that
the same packets give the same chunks whenever they are looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk

JUMP_S: Final = 5.0
"""A clock that is off by more was set; by less, packets were lost or went astray."""

LARGEST_HOLE_S: Final = 3600.0
"""A longer hole in a device's count is a fault, and nobody downstream should have to fill it."""

SLACK: Final = 0.4
"""A time may be off by this share of its packet and still mean the sample that is due: clocks have jitter."""

FOLLOW: Final = 0.05
"""So much of a time's deviation is taken over with each packet: a clock that drifts is followed."""

RESTART_S: Final = 2.0
"""A device started anew where a run of samples from the past is longer; a wire that keeps the order brings none, and
there two packets are enough."""

MAX_HELD: Final = 1024
"""Packets that wait at most."""


@dataclass(frozen=True, eq=False)
class Packet:
    """Samples as they came.

    Attributes
    ----------
    samples_mv
        (n_leads, n) float32 millivolts, NaN where not measured.
    index
        Number of the first sample by the device's count; None where only a clock tells.
    t_s
        Device time of the first sample; not looked at where there is an index.
    arrived_s
        As in `Chunk`.
    """

    samples_mv: NDArray[np.float32]
    index: int | None = None
    t_s: float = 0.0
    arrived_s: float | None = None

    @property
    def n(self) -> int:
        """Samples per lead."""
        return int(self.samples_mv.shape[1])


@dataclass
class Disorder:
    """What a wire did to packets.

    Attributes
    ----------
    reordered
        Came after one that follows them, and were put back in their place.
    duplicates
        Came twice.
    late
        Came after their place had been given up.
    lost_samples
        Of each lead: holes that were given up.
    strays
        Came from more than `JUMP_S` off, and nothing followed them.
    long_holes
        Samples went on more than `JUMP_S` later: a silence, or the device's clock was set forward.
    clock_jumps
        Samples went on more than `JUMP_S` earlier: the device's clock was set back. The time is told as it is.
    restarts
        The device started anew, and the stream went on after a hole (`Dejitter.restart`).
    """

    reordered: int = 0
    duplicates: int = 0
    late: int = 0
    lost_samples: int = 0
    strays: int = 0
    long_holes: int = 0
    clock_jumps: int = 0
    restarts: int = 0


class Dejitter:
    """Puts the packets of one device in order.

    Parameters
    ----------
    rate_hz
        Of the samples.
    wait_s
        For how long, in samples that came after it, a missing packet is waited for; 0 where a wire keeps the order.
    modulus
        Where the device's count begins anew; None where it never does.

    Attributes
    ----------
    disorder
        What has happened so far.
    """

    def __init__(self, *, rate_hz: float, wait_s: float = 0.0, modulus: int | None = None) -> None:
        self._rate_hz, self._modulus = rate_hz, modulus
        self._wait = round(wait_s * rate_hz)
        self._next: int | None = None
        self._shift = 0  # from the device's count to ours; another one after each of its restarts
        self._t0_s = self._off_s = 0.0
        self._held: dict[int, Packet] = {}
        self._given_up: deque[tuple[int, int]] = deque(maxlen=16)
        self._stale_end: int | None = None  # of a run of packets from the past
        self._stale_n = 0
        self._restart = round(RESTART_S * rate_hz) if self._wait else 1
        self._seq = 0
        self._astray: Packet | None = None
        self.disorder = Disorder()

    @property
    def drift_s(self) -> float:
        """By how much the device's clock has run ahead of its own samples, since its first or since it was set."""
        return self._off_s

    def push(self, packet: Packet) -> list[Chunk]:
        """Take a packet; return the chunks that can be told now.

        Raises
        ------
        FeedError
            When a device that counts its samples started anew, or leaps more than `LARGEST_HOLE_S` ahead: its time
            begins anew, and so must the feed.
        """
        if packet.n == 0:
            return []
        if self._next is None:
            self._begin(packet)
        chunks: list[Chunk] = []
        sure = self._sure(packet)
        if len(sure) > 1:
            chunks += self._leap(sure[0].t_s)
        for one in sure:
            chunks += self._take(one)
        return chunks

    def _take(self, packet: Packet) -> list[Chunk]:
        first = self._place(packet)
        if first is None:
            return []
        if first in self._held:
            self.disorder.duplicates += 1
            return []
        self.disorder.reordered += self._expected <= first < self._newest
        chunks: list[Chunk] = []
        if first > self._expected:
            self._held[first] = packet
        else:
            chunks += self._tell(first, packet)
        chunks += self._what_follows()
        while self._held and (self._ahead > self._wait or len(self._held) > MAX_HELD):
            chunks += self._give_up()
        return chunks

    def flush(self) -> list[Chunk]:
        """Return what still waits: nothing comes any more."""
        chunks: list[Chunk] = []
        while self._held:
            chunks += self._give_up()
        return chunks

    def restart(self, index: int, *, hole: int) -> list[Chunk]:
        """Take that the device counts anew: its sample `index` comes `hole` samples after the newest that it had sent.

        Return what still waited. It is for a feed that knows so, and knows when; the hole is counted as lost samples.
        """
        chunks = self.flush()
        if self._next is not None:
            self._shift = self._expected + hole - index
            self.disorder.restarts += 1
        self._given_up.clear()
        self._stale_end = None
        return chunks

    @property
    def newest_s(self) -> float:
        """Stream time after the newest sample that has come."""
        return self._t0_s + self._newest / self._rate_hz

    def device_index(self, t_s: float) -> int:
        """Return the device's number of the sample at a stream time; below 0 if that was before it last started.

        Of a device that counts its samples, once one has come; where its count begins anew, less that.
        """
        return round(t_s * self._rate_hz) - self._shift

    @property
    def _expected(self) -> int:
        return self._next or 0

    @property
    def _ahead(self) -> int:
        """How many samples have come after the missing ones."""
        return sum(packet.n for packet in self._held.values())

    # --- where a packet belongs ---

    def _begin(self, packet: Packet) -> None:
        self._next = 0 if packet.index is None else packet.index
        self._t0_s = packet.t_s if packet.index is None else 0.0

    def _place(self, packet: Packet) -> int | None:
        """Return the number of a packet's first sample; None for one that is dropped."""
        first = self._by_time(packet) if packet.index is None else self._by_index(packet.index)
        if first + packet.n <= self._expected:
            self._is_past(first, packet)
            return None
        self._stale_end = None
        if packet.index is not None and first - self._expected > LARGEST_HOLE_S * self._rate_hz:
            raise FeedError(
                f"the device's sample index leapt {first - self._expected} samples ahead, more than an hour. "
                "Open the feed again"
            )
        return first

    def _by_index(self, index: int) -> int:
        index += self._shift
        if self._modulus is None:
            return index
        ahead = (index - self._expected) % self._modulus
        return self._expected + (ahead - self._modulus if ahead >= self._modulus // 2 else ahead)

    def _by_time(self, packet: Packet) -> int:
        """Return the number that a time means; a clock's jitter and drift are followed."""
        first = round(self._at(packet))
        dues = [self._expected, self._newest, min(self._held, default=packet.n) - packet.n]
        due = min(dues, key=lambda k: abs(k - self._at(packet)))
        if abs(off := self._at(packet) - due) > SLACK * packet.n:
            return first
        self._off_s += FOLLOW * off / self._rate_hz
        return due

    def _at(self, packet: Packet) -> float:
        """Return a packet's place by its time, in samples."""
        return (packet.t_s - self._off_s - self._t0_s) * self._rate_hz

    @property
    def _newest(self) -> int:
        """Number of the sample after the newest that has come."""
        return max((first + held.n for first, held in self._held.items()), default=self._expected)

    # --- time that leaps ---

    def _sure(self, packet: Packet) -> list[Packet]:
        """Return what can be placed: a packet from far off waits for one that follows it."""
        if packet.index is not None:
            return [packet]
        astray, self._astray = self._astray, None
        if abs(self._at(packet) - self._newest) <= JUMP_S * self._rate_hz:
            self.disorder.strays += astray is not None
            return [packet]
        if astray is None:
            self._astray = packet
            return []
        if abs((packet.t_s - astray.t_s) * self._rate_hz - astray.n) > SLACK * packet.n:
            self.disorder.strays += 1
            self._astray = packet
            return []
        if self._at(packet) < self._newest:
            self.disorder.clock_jumps += 1
        else:
            self.disorder.long_holes += 1
        return [astray, packet]

    def _leap(self, t_s: float) -> list[Chunk]:
        """Tell all that waits, and count anew from another time."""
        chunks = self.flush()
        self._next = 0
        self._t0_s, self._off_s = t_s, 0.0
        self._given_up.clear()
        return chunks

    def _is_past(self, first: int, packet: Packet) -> None:
        """Count what comes too late, and find a device that started anew."""
        if any(a <= first < b for a, b in self._given_up):
            self.disorder.late += 1
            return
        if packet.index is not None:
            self._stale_n = self._stale_n if self._stale_end == first else 0
            if self._stale_n >= self._restart:
                raise FeedError(
                    f"the device started anew: its sample index went from {self._wire_index(self._expected)} back to "
                    f"{self._wire_index(first)}. Open the feed again; its time begins anew"
                )
            self._stale_n += packet.n
            self._stale_end = first + packet.n
        self.disorder.duplicates += 1

    def _wire_index(self, index: int) -> int:
        index -= self._shift
        return index if self._modulus is None else index % self._modulus

    # --- what is told ---

    def _tell(self, first: int, packet: Packet) -> list[Chunk]:
        """Tell a packet that follows, less what was told of it already."""
        known = self._expected - first
        self.disorder.duplicates += known > 0
        samples_mv = packet.samples_mv[:, known:] if known else packet.samples_mv
        t_s = self._t0_s + self._expected / self._rate_hz
        self._next = first + packet.n
        self._seq += 1
        return [Chunk(t_s, samples_mv, self._seq - 1, packet.arrived_s)]

    def _what_follows(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        while self._held and (first := min(self._held)) <= self._expected:
            packet = self._held.pop(first)
            if first + packet.n > self._expected:
                chunks += self._tell(first, packet)
            else:
                self.disorder.duplicates += 1
        return chunks

    def _give_up(self) -> list[Chunk]:
        """Wait no more for what is missing before the first that waits."""
        first = min(self._held)
        lost = first - self._expected
        self.disorder.lost_samples += lost
        self._given_up.append((self._expected, first))
        self._seq += max(1, round(lost / self._held[first].n))
        self._next = first
        return self._what_follows()
