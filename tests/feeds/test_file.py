"""The file feed: content against the recording itself, pacing on a virtual clock, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.ecg import Recording
from ecgedge.errors import FeedError, RecordError
from ecgedge.feeds.base import Chunk, Feed
from ecgedge.feeds.file import FileFeed, FileOptions, open_file, parse_file_uri
from ecgedge.leads import STANDARD_LEADS

RATE_HZ = 250.0


class _VirtualSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the clock of its loop on by the time that would have been waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.now_s += timeout
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.virtual = _VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now_s


@contextlib.contextmanager
def virtual_loop() -> Iterator[_VirtualLoop]:
    loop = _VirtualLoop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def ramp(n_samples: int, leads: tuple[str, ...] = ("I", "II", "V2")) -> Recording:
    samples = np.arange(len(leads) * n_samples, dtype=np.float32).reshape(len(leads), n_samples) / 1000
    return Recording(samples, RATE_HZ, leads, mode="demo")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    records.write_npz(ramp(1003), tmp_path / "r.npz")
    return tmp_path / "r.npz"


def feed_of(recording: Recording, *, speed: float = math.inf, **options: object) -> FileFeed:
    return FileFeed(recording, uri="file:test", options=FileOptions(**options), speed=speed)


async def take(feed: Feed, limit: int | None = None) -> list[Chunk]:
    chunks: list[Chunk] = []
    async for chunk in feed:
        chunks.append(chunk)
        if len(chunks) == limit:
            await feed.close()
    return chunks


def play(uri: str, limit: int | None = None) -> list[Chunk]:
    async def run() -> list[Chunk]:
        return await take(await open_file(uri, speed=math.inf), limit)

    return asyncio.run(run())


def test_plays_the_whole_recording_in_order(path: Path) -> None:
    chunks = play(f"file:{path}")
    assert np.array_equal(np.hstack([c.samples_mv for c in chunks]), ramp(1003).samples_mv)
    assert [c.seq for c in chunks] == list(range(len(chunks)))
    assert [c.samples_mv.shape[1] for c in chunks] == [5] * 200 + [3]
    assert [c.t_s for c in chunks] == pytest.approx([i * 0.02 for i in range(201)])


def test_info_says_what_comes(path: Path) -> None:
    feed = asyncio.run(open_file(f"file:{path}?leads=V2,I&chunk_ms=40", speed=1.0))
    assert (feed.info.leads, feed.info.rate_hz, feed.info.mode) == (("I", "V2"), RATE_HZ, "demo")
    assert feed.info.chunk_s == pytest.approx(0.04)
    assert feed.info.uri == f"file:{path}?leads=V2,I&chunk_ms=40"


def test_a_subset_of_leads_keeps_their_samples(path: Path) -> None:
    samples = np.hstack([c.samples_mv for c in play(f"file:{path}?leads=V2,I")])
    assert np.array_equal(samples, ramp(1003).samples_mv[[0, 2]])


@given(n_samples=st.integers(1, 60), chunk_ms=st.floats(1, 300), repeats=st.integers(1, 3))
def test_chunks_join_without_loss_or_overlap(n_samples: int, chunk_ms: float, repeats: int) -> None:
    recording = ramp(n_samples)
    feed = feed_of(recording, chunk_ms=chunk_ms, loop=repeats > 1)
    per_repeat = math.ceil(n_samples / round(feed.info.chunk_s * RATE_HZ))
    chunks = asyncio.run(take(feed, per_repeat * repeats))
    assert np.array_equal(np.hstack([c.samples_mv for c in chunks]), np.tile(recording.samples_mv, repeats))
    played = np.cumsum([0] + [c.samples_mv.shape[1] for c in chunks])
    assert [c.t_s for c in chunks] == [n / RATE_HZ for n in played[:-1]]
    assert [c.seq for c in chunks] == list(range(len(chunks)))


def test_a_loop_runs_on_in_time_and_shows_its_seam(path: Path) -> None:
    chunks = play(f"file:{path}?loop=1", limit=202)
    assert chunks[201].t_s == pytest.approx(1003 / RATE_HZ)
    assert chunks[200].samples_mv[0, -1] == np.float32(1.002)
    assert chunks[201].samples_mv[0, 0] == 0.0, "the step back to the first sample is not hidden"


def test_gaps_are_refused_unless_kept(tmp_path: Path) -> None:
    samples = np.ones((1, 500), np.float32)
    samples[0, 100:200] = np.nan
    records.write_npz(Recording(samples, RATE_HZ, ("I",)), tmp_path / "r.npz")
    with pytest.raises(RecordError, match="100 samples are missing"):
        play(f"file:{tmp_path}/r.npz")
    played = np.hstack([c.samples_mv for c in play(f"file:{tmp_path}/r.npz?gaps=keep")])
    assert np.array_equal(played, samples, equal_nan=True)


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.5])
def test_each_chunk_comes_when_its_last_sample_would_be_measured(speed: float) -> None:
    async def arrivals(feed: FileFeed) -> list[float]:
        return [asyncio.get_running_loop().time() async for _ in feed]

    with virtual_loop() as loop:
        times_s = loop.run_until_complete(arrivals(feed_of(ramp(503), speed=speed)))
    expected = [min((i + 1) * 5, 503) / RATE_HZ / speed for i in range(101)]
    # asyncio lets timers fire up to one clock tick early
    assert times_s == pytest.approx(expected, abs=1e-6)


def test_a_slow_reader_is_caught_up_with() -> None:
    """Time lost by the reader does not add up: the feed keeps to its clock."""

    async def arrivals(feed: FileFeed) -> list[float]:
        times_s = []
        async for chunk in feed:
            times_s.append(asyncio.get_running_loop().time())
            if chunk.seq == 0:
                await asyncio.sleep(0.5)
        return times_s

    with virtual_loop() as loop:
        times_s = loop.run_until_complete(arrivals(feed_of(ramp(500), speed=1.0)))
    assert times_s[1:25] == pytest.approx([0.52] * 24, abs=1e-6), "the chunks that were due come at once"
    assert times_s[30:] == pytest.approx([0.02 * (i + 1) for i in range(30, 100)], abs=1e-6)


def test_real_clock_paces_too() -> None:
    async def duration() -> float:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        await take(feed_of(ramp(50), speed=2.0))
        return loop.time() - start_s

    assert asyncio.run(duration()) >= 0.099


def test_full_speed_lets_other_tasks_run() -> None:
    async def run() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await take(feed_of(ramp(500)))
        task.cancel()
        return turns

    assert asyncio.run(run()) >= 50


def test_close_ends_the_feed_and_may_be_called_twice() -> None:
    async def run() -> int:
        feed = feed_of(ramp(500), loop=True)
        count = 0
        async for _ in feed:
            count += 1
            if count == 3:
                await feed.close()
                await feed.close()
        return count

    assert asyncio.run(run()) == 3


def test_a_chunk_being_waited_for_is_not_delivered_after_close() -> None:
    async def run() -> list[Chunk]:
        feed = feed_of(ramp(500), speed=1.0)
        reader = asyncio.create_task(take(feed))
        await asyncio.sleep(0.03)
        await feed.close()
        return await reader

    with virtual_loop() as loop:
        assert len(loop.run_until_complete(run())) == 1


def test_a_real_record_plays_unchanged(ecg_data: Path) -> None:
    """360 Hz and 20 ms do not divide: 7 samples a chunk, none lost in half an hour."""
    name = ecg_data / "long_2lead/mitdb/100"
    chunks = play(f"file:{name}?chunk_ms=20")
    assert chunks[0].samples_mv.shape == (2, 7)
    played = np.hstack([c.samples_mv for c in chunks])
    assert np.array_equal(played, records.read(name).samples_mv)
    assert chunks[-1].t_s == pytest.approx((len(chunks) - 1) * 7 / 360)


@pytest.mark.parametrize(
    ("uri", "path", "options"),
    [
        ("file:a/b.hea", "a/b.hea", FileOptions()),
        ("file:/a/b.hea", "/a/b.hea", FileOptions()),
        ("file:///a/b.hea", "/a/b.hea", FileOptions()),
        ("file:my%20record%3F.npz", "my record?.npz", FileOptions()),
        ("file:a?loop=1", "a", FileOptions(loop=True)),
        ("file:a?loop=0&gaps=keep", "a", FileOptions(gaps="keep")),
        ("file:a?chunk_ms=12.5&leads=12", "a", FileOptions(chunk_ms=12.5, leads=STANDARD_LEADS)),
    ],
)
def test_uri(uri: str, path: str, options: FileOptions) -> None:
    assert parse_file_uri(uri) == (path, options)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?lop=1", "the setting lop is unknown"),
        ("?loop=1&loop=1", "the setting loop stands twice"),
        ("?loop=yes", "loop=yes is neither 0 nor 1"),
        ("?loop", "is not NAME=VALUE"),
        ("?loop=yes", "neither 0 nor 1"),
        ("?gaps=fill", "gaps=fill is neither refuse nor keep"),
        ("?chunk_ms=0", "chunk_ms=0 is not within 1 to 10000"),
        ("?chunk_ms=-20", "not within"),
        ("?chunk_ms=nan", "not within"),
        ("?chunk_ms=soon", "could not convert"),
        ("?leads=I,V9", "unknown lead 'V9'"),
        ("?leads=I,I", "stands twice"),
        ("?leads=", "at least one lead"),
        ("?leads=I,V5", r"no lead V5; the recording has I, II, V2"),
    ],
)
def test_bad_option_is_refused(path: Path, query: str, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        play(f"file:{path}{query}")


@pytest.mark.parametrize("uri", ["file:", "file:?loop=1", "sim:stable", "", "r.npz"])
def test_what_is_no_file_uri_is_refused(uri: str) -> None:
    with pytest.raises(FeedError, match=r"expected file:PATH\[\?loop=1\]"):
        play(uri)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_bad_speed_is_refused(path: Path, speed: float) -> None:
    with pytest.raises(FeedError, match="expected a positive number, or max"):
        asyncio.run(open_file(f"file:{path}", speed=speed))


def test_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        play(f"file:{tmp_path}/none.npz")
    np.savez(tmp_path / "empty.npz", samples_mv=np.zeros((1, 0)), rate_hz=250, leads=["I"])
    with pytest.raises(RecordError, match="holds no samples"):
        play(f"file:{tmp_path}/empty.npz")
