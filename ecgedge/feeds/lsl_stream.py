"""What a Lab Streaming Layer stream says of itself, and its samples as packets: no I/O, and no pylsl."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode, check_rate
from ecgedge.errors import FeedError, RecordError
from ecgedge.feeds.base import FeedInfo
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.stamps import StampGrid
from ecgedge.leads import canonical_lead, order_leads

OURS: Final = "ecgedge"
"""The element of a stream's description that our own sender adds."""

USUAL_CHUNK_S: Final = 0.1
"""Of a stream that does not say how long its chunks are."""

_MV_PER_UNIT: Final = {
    **dict.fromkeys(("mv", "millivolt", "millivolts"), 1.0),
    **dict.fromkeys(("uv", "µv", "μv", "microvolt", "microvolts"), 1e-3),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}
_NO_NUMBERS: Final = 3
"""LSL's channel format of text (`cf_string`)."""


@dataclass(frozen=True)
class LslStream:
    """A stream as it describes itself; `channels` and `mv_per_unit` have one entry a channel."""

    channels: tuple[str, ...]
    mv_per_unit: tuple[float, ...]
    rate_hz: float
    mode: Mode
    chunk_s: float

    @property
    def leads(self) -> tuple[str, ...]:
        """The leads, in standard order."""
        return order_leads(self.channels)

    def info(self, uri: str) -> FeedInfo:
        """Return what a feed of it declares."""
        return FeedInfo(
            uri=uri, leads=self.leads, rate_hz=self.rate_hz, mode=self.mode, chunk_s=self.chunk_s, live=True
        )


@dataclass(frozen=True, eq=False)
class Pulled:
    """Samples as an inlet gave them: (n, n_channels) in the stream's units, (n,) stamps in seconds."""

    values: NDArray[Any]
    stamps_s: NDArray[np.float64]
    arrived_s: float


def read_stream(described: Any, *, uri: str) -> LslStream:
    """Read a stream's full description, pylsl's `StreamInfo`.

    Raises
    ------
    FeedError
        If a channel is no lead or has no unit of voltage, a lead stands twice, or the rate is none.
    """
    try:
        return _read(described)
    except (ValueError, RecordError) as error:
        raise FeedError(
            f"{uri}: the stream '{described.name()}' of {described.hostname()} cannot be used: {error}. Its "
            "description must give each channel's label (a lead) and unit (V, mV or uV), as XDF's meta-data does"
        ) from error


def _read(described: Any) -> LslStream:
    if described.channel_format() == _NO_NUMBERS:
        raise ValueError("its samples are text")
    rate_hz = float(described.nominal_srate())
    if rate_hz == 0.0:
        raise ValueError("its rate is irregular (0 Hz), and an ECG's must be regular")
    check_rate(rate_hz, source="the stream")
    n = int(described.channel_count())
    channel = described.desc().child("channels").child("channel")
    channels, mv_per_unit = [], []
    for k in range(n):
        label, unit = channel.child_value("label"), channel.child_value("unit")
        channels.append(_lead(label, k))
        mv_per_unit.append(_mv_per_unit(unit, label))
        channel = channel.next_sibling("channel")
    _ = order_leads(channels)  # Raises on a repeated lead.
    ours = described.desc().child(OURS)
    return LslStream(tuple(channels), tuple(mv_per_unit), rate_hz, _mode(ours), _chunk_s(ours))


def _lead(label: str, k: int) -> str:
    if not label:
        raise ValueError(f"channel {k + 1} has no label")
    return canonical_lead(label)


def _mv_per_unit(unit: str, label: str) -> float:
    factor = _MV_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise ValueError(f"the unit of channel {label} is '{unit}', which is no voltage that we know")
    return factor


def _mode(ours: Any) -> Mode:
    mode = ours.child_value("mode") or "real"
    if mode not in get_args(Mode):
        raise ValueError(f"its mode '{mode}' is not one of {', '.join(get_args(Mode))}")
    return cast("Mode", mode)


def _chunk_s(ours: Any) -> float:
    try:
        chunk_s = float(ours.child_value("chunk_ms")) / 1e3
    except ValueError:
        return USUAL_CHUNK_S
    return chunk_s if 0.0 < chunk_s <= 10.0 else USUAL_CHUNK_S


class StampedSamples:
    """Samples of one stream in, packets out.

    Attributes
    ----------
    dropped
        `infinite`: single values that are no number of millivolts; they are told as not measured.
    """

    def __init__(self, stream: LslStream) -> None:
        self._rows = [stream.channels.index(lead) for lead in stream.leads]
        self._mv_per_unit = np.array(stream.mv_per_unit)[self._rows, np.newaxis]
        self._grid = StampGrid(rate_hz=stream.rate_hz)
        self._queue: deque[tuple[NDArray[np.float32], float]] = (
            deque()
        )  # samples without a number, and when they came
        self.dropped: Counter[str] = Counter()

    def push(self, pulled: Pulled) -> list[Packet]:
        """Take samples; return those whose place is sure.

        Raises
        ------
        FeedError
            When the stream's clock is set back.
        """
        if len(pulled.stamps_s) == 0:
            return []
        self._queue.append((self._samples_mv(pulled.values), pulled.arrived_s))
        return list(self._packets(self._grid.push(pulled.stamps_s)))

    def flush(self) -> list[Packet]:
        """Return those that wait: nothing comes any more."""
        return list(self._packets(self._grid.flush()))

    def _samples_mv(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n_leads, n) millivolts."""
        samples_mv = values.T[self._rows].astype(np.float64) * self._mv_per_unit
        with np.errstate(over="ignore"):
            narrow: NDArray[np.float32] = samples_mv.astype(np.float32)
        infinite = np.isinf(narrow)
        if infinite.any():
            self.dropped["infinite"] += int(infinite.sum())
            narrow[infinite] = np.nan
        return narrow

    def _packets(self, numbers: NDArray[np.int64]) -> Iterator[Packet]:
        """Cut what waits at holes, and where it came at another time."""
        ends = [*(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        done = 0
        for end in ends:
            while done < end:
                samples_mv, arrived_s = self._queue.popleft()
                n = min(samples_mv.shape[1], end - done)
                if n < samples_mv.shape[1]:
                    self._queue.appendleft((samples_mv[:, n:], arrived_s))
                yield Packet(np.ascontiguousarray(samples_mv[:, :n]), int(numbers[done]), arrived_s=arrived_s)
                done += n
