"""The sim: feed: what URIs it takes, what it delivers, and when."""

import asyncio
import math
import selectors

import numpy as np
import pytest

from ecgedge.errors import FeedError
from ecgedge.feeds.sim import SimOptions, open_sim, parse_sim_uri
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import DEFAULT_SEED, Simulator


class JumpingSelector(selectors.DefaultSelector):
    """Never waits: the loop's clock jumps to the next timer instead."""

    now_s = 0.0

    def select(self, timeout=None):
        self.now_s += timeout or 0.0
        return super().select(0)


def run_in_virtual_time(coroutine):
    """Run a coroutine function that takes the loop, on a loop whose clock only moves in sleeps."""
    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s
    try:
        return loop.run_until_complete(coroutine(loop))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def collect(uri, *, speed=math.inf, limit=None):
    async def run():
        feed, chunks = await open_sim(uri, speed=speed), []
        async for chunk in feed:
            chunks.append(chunk)
            if limit is not None and len(chunks) == limit:
                break
        await feed.close()
        return feed, chunks

    return asyncio.run(run())


def test_defaults():
    feed, chunks = collect("sim:stable", limit=3)
    assert feed.info.mode == "demo"
    assert feed.info.leads == STANDARD_LEADS
    assert (feed.info.rate_hz, feed.info.chunk_s, feed.info.uri) == (500.0, 0.02, "sim:stable")
    assert [chunk.seq for chunk in chunks] == [0, 1, 2]
    assert [chunk.t_s for chunk in chunks] == [0.0, 0.02, 0.04]
    assert parse_sim_uri("sim:stable") == SimOptions("stable", seed=DEFAULT_SEED)


def test_samples_are_the_simulator_s():
    _, chunks = collect("sim:lead-off?seed=7&rate_hz=250&chunk_ms=70&leads=I,II,V2&duration_s=65")
    expected = Simulator("lead-off", seed=7, rate_hz=250.0).read(65 * 250)[[0, 1, 7]]
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), expected)


def test_duration_ends_the_feed_with_a_short_chunk():
    _, chunks = collect("sim:stable?duration_s=0.29&rate_hz=100&chunk_ms=200")
    assert [c.samples_mv.shape for c in chunks] == [(12, 20), (12, 9)]


def test_leads_come_in_standard_order():
    feed, chunks = collect("sim:stable?leads=V1,ii,I&duration_s=0.1")
    assert feed.info.leads == ("I", "II", "V1")
    assert chunks[0].samples_mv.shape == (3, 10)


def test_close_ends_and_may_be_repeated():
    async def run():
        feed, seen = await open_sim("sim:stable", speed=math.inf), 0
        async for _ in feed:
            seen += 1
            if seen == 5:
                await feed.close()
                await feed.close()
        return seen

    assert asyncio.run(run()) == 5


@pytest.mark.parametrize("speed", [1.0, 5.0, 0.5])
def test_each_chunk_comes_when_its_last_sample_is_due(speed):
    async def run(loop):
        feed = await open_sim("sim:stable?duration_s=20&chunk_ms=100", speed=speed)
        start = loop.time()
        return [(loop.time() - start, chunk.t_s) async for chunk in feed]

    arrivals = np.array(run_in_virtual_time(run))
    assert len(arrivals) == 200
    np.testing.assert_allclose(arrivals[:, 0], (arrivals[:, 1] + 0.1) / speed, atol=1e-6)


def test_a_pause_of_the_reader_is_made_up_for():
    async def run(loop):
        feed = await open_sim("sim:stable?duration_s=60&chunk_ms=100", speed=1.0)
        start, arrivals = loop.time(), []
        async for chunk in feed:
            arrivals.append(loop.time() - start)
            if chunk.seq == 100:
                await asyncio.sleep(2.0)
        return np.array(arrivals)

    arrivals = run_in_virtual_time(run)
    due = 0.1 * (1 + np.arange(600))
    np.testing.assert_allclose(arrivals[:101], due[:101], atol=1e-6)
    assert arrivals[101] == pytest.approx(due[100] + 2.0, abs=1e-6)
    np.testing.assert_allclose(arrivals[125:], due[125:], atol=1e-6)


def test_full_speed_lets_others_run():
    async def run():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async for _ in await open_sim("sim:stable?duration_s=20", speed=math.inf):
            pass
        task.cancel()
        return turns

    assert asyncio.run(run()) >= 20


def test_true_pressure_is_at_hand():
    feed, _ = collect("sim:decompensating", limit=1)
    assert feed.simulator.mpcwp_mmhg(9000.0) == pytest.approx(28.0, abs=1.0)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("sim:nothing", "stable, decompensating, noisy, lead-off"),
        ("sim:", "stable, decompensating, noisy, lead-off"),
        ("file:stable", "expected sim:NAME"),
        ("sim://stable", "expected sim:NAME"),
        ("sim://[stable", "expected sim:NAME"),
        ("sim:stable?sede=1", "the setting sede is unknown; known are seed, rate_hz"),
        ("sim:stable?seed=1&seed=2", "stands twice"),
        ("sim:stable?seed=one", "expected sim:NAME"),
        ("sim:stable?seed=-1", "negative"),
        ("sim:stable?rate_hz=-500", "rate_hz is -500"),
        ("sim:stable?rate_hz=nan", "rate_hz is nan"),
        ("sim:stable?rate_hz=10", "sampling rate of 10 Hz"),
        ("sim:stable?chunk_ms=0", "chunk_ms is 0"),
        ("sim:stable?duration_s=", "expected sim:NAME"),
        ("sim:stable?duration_s=inf", "duration_s is inf"),
        ("sim:stable?leads=I,V9", "V9"),
        ("sim:stable?leads=", "at least one lead"),
    ],
)
def test_wrong_uris_say_what_is_accepted(uri, says):
    with pytest.raises(FeedError) as caught:
        collect(uri, limit=1)
    assert says in str(caught.value)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_wrong_speed_is_refused(speed):
    with pytest.raises(FeedError, match="speed"):
        collect("sim:stable", speed=speed, limit=1)
