"""A simulated patient as a feed: ``sim:NAME?seed=1&rate_hz=500&chunk_ms=20&leads=I,II&duration_s=60``.

A test stimulus, never evidence; the mode is always "demo".
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from typing import Final
from urllib.parse import urlsplit

from ecgedge.errors import EcgedgeError, FeedError
from ecgedge.feeds.base import Chunk, FeedInfo
from ecgedge.leads import STANDARD_LEADS, parse_lead_set, standard_rows
from ecgedge.query import read_query
from ecgedge.sim.scenario import DEFAULT_SEED, SCENARIOS
from ecgedge.sim.simulator import Simulator

_FORM: Final = "sim:NAME?seed=1&rate_hz=500&chunk_ms=20&leads=I,II&duration_s=60"
_CHUNKS_PER_BREATH: Final = 16
"""At full speed, the loop gets a turn after this many chunks."""
_LONGEST_CHUNK_MS: Final = 10_000.0


@dataclass(frozen=True)
class SimOptions:
    """What a sim: URI may say. Without `duration_s` the feed never ends."""

    scenario: str
    seed: int = DEFAULT_SEED
    rate_hz: float = 500.0
    chunk_ms: float = 20.0
    leads: tuple[str, ...] = STANDARD_LEADS
    duration_s: float = math.inf


_KEYS: Final = tuple(field.name for field in fields(SimOptions) if field.name != "scenario")


class SimFeed:
    """A simulator, paced.

    Parameters
    ----------
    uri, options
        As opened and as understood.
    speed
        1 is real time, 10 ten times faster, infinity as fast as the reader takes it.
    """

    def __init__(self, uri: str, options: SimOptions, *, speed: float) -> None:
        self._simulator = Simulator(options.scenario, seed=options.seed, rate_hz=options.rate_hz)
        self._rows = standard_rows(options.leads)
        self._chunk = max(1, round(options.rate_hz * options.chunk_ms / 1000.0))
        samples = options.duration_s * options.rate_hz
        self._left = round(samples) if math.isfinite(samples) else math.inf
        self._speed = speed
        self._closed = False
        self._info = FeedInfo(uri, options.leads, options.rate_hz, "demo", self._chunk / options.rate_hz)

    @property
    def info(self) -> FeedInfo:
        """What the feed declares."""
        return self._info

    @property
    def dropped(self) -> Mapping[str, int]:
        """Nothing: no wire lies between."""
        return {}

    @property
    def simulator(self) -> Simulator:
        """The simulated patient behind the feed, for its true pressure."""
        return self._simulator

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks, each when its last sample is due."""
        loop = asyncio.get_running_loop()
        start, seq = loop.time() - self._simulator.t_s / self._speed, 0
        while not self._closed and self._left > 0:
            n = int(min(self._left, self._chunk))
            t_s, samples_mv = self._simulator.t_s, self._simulator.read(n)[self._rows]
            # Against the start, not the last chunk: late wake-ups do not add up.
            wait_s = start + self._simulator.t_s / self._speed - loop.time()
            if wait_s > 0.0 or seq % _CHUNKS_PER_BREATH == 0:
                await asyncio.sleep(max(wait_s, 0.0))
            self._left -= n
            yield Chunk(t_s, samples_mv, seq)
            seq += 1

    async def close(self) -> None:
        """End the feed after the chunk that is under way; safe to call twice."""
        self._closed = True


async def open_sim(uri: str, *, speed: float) -> SimFeed:
    """Open a simulated patient.

    Parameters
    ----------
    uri
        As in the module's head; every option may be left out.
    speed
        Times real time; infinity for as fast as possible.

    Raises
    ------
    FeedError
        If the URI names no scenario that there is, or an option that cannot be.
    """
    if not speed > 0.0:
        raise FeedError(f"speed {speed:g} is not above 0; use 1 for real time, inf for as fast as possible")
    options = parse_sim_uri(uri)
    try:
        return SimFeed(uri, options, speed=speed)
    except EcgedgeError as error:
        raise FeedError(f"{uri}: {error}") from error


def parse_sim_uri(uri: str) -> SimOptions:
    """Read the options out of a sim: URI; FeedError says what is accepted."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise FeedError(f"{uri}: {error}; expected {_FORM}") from error
    if parts.scheme != "sim" or parts.netloc or parts.fragment or not parts.path:
        raise FeedError(f"{uri}: expected {_FORM}; scenarios: {', '.join(SCENARIOS)}")
    try:
        values = read_query(parts.query, _KEYS)
        return SimOptions(
            parts.path,
            seed=_whole(values, "seed", DEFAULT_SEED),
            rate_hz=_positive(values, "rate_hz", 500.0),
            chunk_ms=_positive(values, "chunk_ms", 20.0, at_most=_LONGEST_CHUNK_MS),
            leads=parse_lead_set(values.get("leads", "12")),
            duration_s=_positive(values, "duration_s", math.inf),
        )
    except ValueError as error:
        raise FeedError(f"{uri}: {error}; expected {_FORM}") from error


def _whole(values: dict[str, str], key: str, default: int) -> int:
    text = values.get(key, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{key} is {text!r:.60}, not a whole number") from None


def _positive(values: dict[str, str], key: str, default: float, *, at_most: float = math.inf) -> float:
    """Return a finite number above 0 or, where the key is absent, the default."""
    if key not in values:
        return default
    value = float(values[key])
    if not 0.0 < value < math.inf:
        raise ValueError(f"{key} is {values[key]}; it must be a number above 0")
    if value > at_most:
        raise ValueError(f"{key} is {values[key]}; it must be at most {at_most:g}")
    return value
