"""A recording played as a feed: `file:PATH?loop=1&gaps=keep&chunk_ms=20&leads=I,II`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk, Feed, FeedInfo
from ecgedge.leads import parse_lead_set
from ecgedge.query import read_query

_ACCEPTED: Final = "file:PATH[?loop=1][&gaps=keep][&chunk_ms=20][&leads=I,II]"
MIN_CHUNK_MS: Final = 1.0
MAX_CHUNK_MS: Final = 10_000.0


@dataclass(frozen=True)
class FileOptions:
    """What the URI's query asks for; `leads` None plays all leads of the recording."""

    loop: bool = False
    gaps: Literal["refuse", "keep"] = "refuse"
    chunk_ms: float = 20.0
    leads: tuple[str, ...] | None = None


async def open_file(uri: str, *, speed: float) -> Feed:
    """Open a recording as a feed.

    Parameters
    ----------
    uri
        `file:PATH`, where PATH may be relative, absolute or `//`-prefixed and has %XX decoded. Query: `loop=1`
        starts again at the end, `gaps=keep` lets missing samples pass as NaN, `chunk_ms` is the length of a
        chunk, `leads` plays a subset.
    speed
        1 plays in real time, 2 twice as fast, infinity as fast as the reader takes it.

    Raises
    ------
    FeedError
        If the URI, the speed or a wanted lead is not usable.
    RecordError
        If the recording cannot be read.
    """
    if not speed > 0:
        raise FeedError(f"speed {speed:g} cannot work; expected a positive number, or max")
    path, options = parse_file_uri(uri)
    # Decoding takes long enough to starve another bed that runs on this loop.
    recording = await asyncio.to_thread(records.read, path, gaps=options.gaps)
    if options.leads is not None:
        recording = _subset(recording, options.leads)
    return FileFeed(recording, uri=uri, options=options, speed=speed)


def parse_file_uri(uri: str) -> tuple[str, FileOptions]:
    """Split a `file:` URI into its path and options.

    Raises
    ------
    FeedError
        On another scheme, an empty path, or an unknown, repeated or unusable option.
    """
    scheme, _, rest = uri.partition(":")
    raw_path, _, query = rest.partition("?")
    path = unquote(raw_path.removeprefix("//"))
    if scheme != "file" or not path:
        raise FeedError(f"{uri!r} is no file feed; expected {_ACCEPTED}")
    try:
        return path, _options(read_query(query, ("loop", "gaps", "chunk_ms", "leads")))
    except ValueError as error:
        raise FeedError(f"{uri!r}: {error}; expected {_ACCEPTED}") from error


def _options(values: Mapping[str, str]) -> FileOptions:
    """Read the options; a value that cannot work is a ValueError."""
    loop = values.get("loop", "0")
    if loop not in ("0", "1"):
        raise ValueError(f"loop={loop} is neither 0 nor 1")
    gaps = values.get("gaps", "refuse")
    if gaps not in ("refuse", "keep"):
        raise ValueError(f"gaps={gaps} is neither refuse nor keep")
    chunk_ms = float(values.get("chunk_ms", "20"))
    if not MIN_CHUNK_MS <= chunk_ms <= MAX_CHUNK_MS:
        raise ValueError(f"chunk_ms={chunk_ms:g} is not within {MIN_CHUNK_MS:g} to {MAX_CHUNK_MS:g}")
    leads = parse_lead_set(values["leads"]) if "leads" in values else None
    return FileOptions(loop == "1", "keep" if gaps == "keep" else "refuse", chunk_ms, leads)


def _subset(recording: Recording, leads: tuple[str, ...]) -> Recording:
    absent = [lead for lead in leads if lead not in recording.leads]
    if absent:
        raise FeedError(
            f"{recording.source}: no lead {', '.join(absent)}; the recording has {', '.join(recording.leads)}"
        )
    rows = [recording.leads.index(lead) for lead in leads]
    return Recording(recording.samples_mv[rows], recording.rate_hz, leads, recording.source, recording.mode)


class FileFeed:
    """Plays a recording.

    A chunk is delivered when its last sample would have been measured. With `loop`, time and chunk numbers
    run on, and the jump between the last and the first sample is delivered as it is: the seam is a step in
    the signal that no heart made, so looped playback is for demonstrations and load tests.
    """

    def __init__(self, recording: Recording, *, uri: str, options: FileOptions, speed: float) -> None:
        self._samples_mv = recording.samples_mv
        self._chunk_samples = max(1, round(options.chunk_ms * 1e-3 * recording.rate_hz))
        self._loop = options.loop
        self._speed = speed
        self._closed = False
        self._info = FeedInfo(
            uri=uri,
            leads=recording.leads,
            rate_hz=recording.rate_hz,
            mode=recording.mode,
            chunk_s=self._chunk_samples / recording.rate_hz,
        )

    @property
    def info(self) -> FeedInfo:
        """What the feed declares."""
        return self._info

    @property
    def dropped(self) -> Mapping[str, int]:
        """Nothing: a file loses nothing on its way."""
        return {}

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Deliver chunks from the start of the recording."""
        clock = asyncio.get_running_loop()
        start_s = clock.time()
        n_samples = self._samples_mv.shape[1]
        played = 0  # samples delivered over all repetitions: times are computed from it, so they never drift
        seq = 0
        while not self._closed:
            first = played % n_samples
            samples_mv = self._samples_mv[:, first : first + self._chunk_samples]
            end_s = (played + samples_mv.shape[1]) / self._info.rate_hz
            await asyncio.sleep(self._wait_s(clock.time() - start_s, end_s))
            if self._closed:
                return
            yield Chunk(t_s=played / self._info.rate_hz, samples_mv=samples_mv, seq=seq)
            played += samples_mv.shape[1]
            seq += 1
            if played % n_samples == 0 and not self._loop:
                return

    def _wait_s(self, elapsed_s: float, end_s: float) -> float:
        """Return how long to wait; 0 when late or at full speed, which still lets other tasks run."""
        return 0.0 if math.isinf(self._speed) else max(0.0, end_s / self._speed - elapsed_s)

    async def close(self) -> None:
        """Stop: the chunk being waited for is not delivered. Safe to call twice."""
        self._closed = True
