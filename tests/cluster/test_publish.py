"""A feed's samples come onto the bus whole and in order, however its chunks were cut."""

import asyncio
import socket

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.message import decode_chunk
from ecgedge.cluster.publish import Joiner, publish_feed
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.sim import Simulator
from ecgedge_bridge import encode_stream

INFO = FeedInfo("memory:", ("I", "II"), 100.0, "test", 0.1)


@given(
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=12),
    holes=st.lists(st.integers(0, 5), min_size=12, max_size=12),
)
def test_no_sample_moves_or_is_lost(sizes, holes):
    joiner, expected, made, at = Joiner(INFO, chunk_s=0.25), {}, [], 0
    for k, (n, hole) in enumerate(zip(sizes, holes, strict=False)):
        at += hole if hole > 2 else 0
        samples_mv = np.arange(2 * n, dtype=np.float32).reshape(2, n) + k
        expected |= {at + i: tuple(samples_mv[:, i]) for i in range(n)}
        made += joiner.push(Chunk(at / 100.0, samples_mv, k))
        at += n
    made += joiner.rest()
    found = {
        round(m.t_s * 100) + i: tuple(m.samples_mv[:, i]) for m in made for i in range(m.samples_mv.shape[1])
    }
    assert found == expected
    assert [m.sequence for m in made] == list(range(len(made)))
    assert max(m.samples_mv.shape[1] for m in made) <= 25
    assert all((m.leads, m.rate_hz, m.mode) == (("I", "II"), 100.0, "test") for m in made)


def test_messages_have_one_length():
    joiner = Joiner(INFO, chunk_s=0.5)
    made = [m for k in range(10) for m in joiner.push(Chunk(k * 0.3, np.zeros((2, 30), np.float32), k))]
    assert [m.samples_mv.shape[1] for m in [*made, *joiner.rest()]] == [50] * 6


@pytest.mark.parametrize("chunk_s", [0.0, -1.0, 1.5, float("nan")])
def test_a_length_that_cannot_be(chunk_s):
    with pytest.raises(UsageError, match="expected above 0 and up to 1 s"):
        Joiner(INFO, chunk_s=chunk_s)


def test_a_feed_on_the_bus(on_bus):
    needs.nats()
    uri = "sim:stable?seed=2&rate_hz=250&leads=I,II&duration_s=10.1"

    async def test(bus):
        found = []

        async def take(delivery):
            found.append(decode_chunk(delivery.data))

        await bus.follow("pub", take, after=0)
        published = await publish_feed(bus, "pub", uri, speed=float("inf"), say=pytest.fail)
        assert (published.sent, published.dropped) == (41, 0)
        while len(found) < 41:
            await asyncio.sleep(0.01)
        expected = Simulator("stable", seed=2, rate_hz=250.0).read(2525)[:2]
        np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in found], axis=1), expected)
        assert {(c.leads, c.rate_hz, c.mode) for c in found} == {(("I", "II"), 250.0, "demo")}
        assert [c.sequence for c in found] == list(range(41))

    on_bus(test)


def test_a_feed_that_is_not_there(on_bus):
    needs.nats()

    async def test(bus):
        with pytest.raises(FeedError):
            await publish_feed(bus, "none", "sim:nobody", say=pytest.fail)

    on_bus(test)


def test_a_device_that_comes_and_goes(on_bus, monkeypatch):
    """The device's own frames, over TCP; it hangs up once and is called again."""
    needs.nats()
    monkeypatch.setattr("ecgedge.cluster.publish.AGAIN_S", (0.01, 0.02))
    samples = ((k % 100, -(k % 50)) for k in range(1000))
    frames = list(encode_stream(samples, rate_hz=250.0, samples_per_frame=25))
    calls = []

    async def answer(_, writer):
        calls.append(writer)
        for frame in frames[: 20 * len(calls)]:
            writer.write(frame)
        await writer.drain()
        writer.close()

    async def test(bus):
        found, said = [], []

        async def take(delivery):
            found.append(decode_chunk(delivery.data))

        await bus.follow("dev", take, after=0)
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        uri = f"tcp://127.0.0.1:{port}?leads=I,II&rate_hz=250&lsb_nv=1000&mode=test"
        playing = asyncio.create_task(publish_feed(bus, "dev", uri, chunk_s=0.1, say=said.append))
        while len(found) < 60:
            await asyncio.sleep(0.01)
        playing.cancel()
        server.close()
        assert len(calls) >= 2
        assert "bed dev: the device has closed the connection; trying again" in said
        assert [c.sequence for c in found] == list(range(len(found)))

    on_bus(test)


@pytest.mark.parametrize("scheme", ["ws", "mqtt", "tcp"])
def test_any_live_feed_is_waited_for(on_bus, scheme):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings = "?leads=I&rate_hz=250&lsb_nv=1000" if scheme == "tcp" else "/bed"
        uri = f"{scheme}://127.0.0.1:{nobody.getsockname()[1]}{settings}"

        async def test(bus):
            said = []
            playing = asyncio.create_task(publish_feed(bus, "away", uri, say=said.append))
            while not said:
                await asyncio.sleep(0.01)
            assert not playing.done()
            playing.cancel()
            assert said[0].startswith("bed away: ")
            assert said[0].endswith("; trying again")

        on_bus(test)


def test_a_played_feed_that_cannot_be_opened_is_not_tried_again(on_bus):
    async def test(bus):
        with pytest.raises(FeedError, match="nobody"):
            await publish_feed(bus, "wrong", "sim:nobody", say=print)

    on_bus(test)
