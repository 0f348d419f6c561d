"""The bus keeps samples for a while, checkpoints for good, and lets one node serve a bed; against a real server."""

import asyncio

import needs
import pytest
from nats_server import free_port, nats_server

from ecgedge.cluster.bus import EVENTS, JOURNAL, BedTaken, BusError, BusSettings, bed_token, open_bus
from ecgedge.cluster.stream_reader import Mark, open_reader
from ecgedge.errors import UsageError

needs.nats()


async def read(bus, bed, n, *, after=0):
    found, there = [], asyncio.Event()

    async def take(delivery):
        found.append(delivery)
        if len(found) >= n:
            there.set()

    following = await bus.follow(bed, take, after=after)
    await asyncio.wait_for(there.wait(), 60.0)
    await following.close()
    return found, following


def test_samples_come_in_order_from_any_sequence_on(on_bus):
    async def test(bus):
        sequences = []
        for k in range(10):
            await bus.publish("other", b"no", number=k)
            sequences.append(await bus.publish("order.1", b"%d" % k, number=k))
        found, following = await read(bus, "order.1", 10)
        assert [d.data for d in found] == [b"%d" % k for k in range(10)]
        assert [d.sequence for d in found] == sequences
        assert [d.pending for d in found] == list(range(9, -1, -1))
        assert following.pending == 10
        found, following = await read(bus, "order.1", 4, after=sequences[5])
        assert [d.data for d in found] == [b"6", b"7", b"8", b"9"]
        assert following.pending == 4

    on_bus(test)


def test_what_comes_later_is_given_too(on_bus):
    async def test(bus):
        reading = asyncio.create_task(read(bus, "later", 2))
        await asyncio.sleep(0.2)
        await bus.publish("later", b"a", number=0)
        await bus.publish("later", b"b", number=1)
        found, following = await reading
        assert [d.data for d in found] == [b"a", b"b"]
        assert following.pending == 0

    on_bus(test)


def test_what_was_sent_twice_comes_once(on_bus):
    async def test(bus):
        first = await bus.publish("twice", b"a", number=7)
        assert await bus.publish("twice", b"a", number=7) == first
        await bus.publish("twice", b"b", number=8)
        assert [d.data for d in (await read(bus, "twice", 2))[0]] == [b"a", b"b"]

    on_bus(test)


def test_a_sequence_of_another_stream_gives_all(on_bus):
    async def test(bus):
        await bus.publish("reborn", b"a", number=0)
        found, _ = await read(bus, "reborn", 1, after=10**9)
        assert found[0].data == b"a"

    on_bus(test)


def test_who_keeps_a_checkpoint_has_the_bed(on_bus):
    async def test(bus):
        assert await bus.checkpoint("icu-1") is None
        first = await bus.keep("icu-1", b"one", revision=None)
        assert (await bus.checkpoint("icu-1")).data == b"one"
        second = await bus.keep("icu-1", b"two", revision=first)
        with pytest.raises(BedTaken, match="bed icu-1 is served by another node now"):
            await bus.keep("icu-1", b"three", revision=first)
        with pytest.raises(BedTaken):
            await bus.keep("icu-1", b"anew", revision=None)
        # The answer to the second was lost: the same again is no other node.
        assert await bus.keep("icu-1", b"two", revision=first) == second
        assert (await bus.checkpoint("icu-1")).revision == second

    on_bus(test)


def test_a_checkpoint_of_a_bed_is_not_too_large(on_bus):
    async def test(bus):
        await bus.keep("large", bytes(400_000), revision=None)
        assert len((await bus.checkpoint("large")).data) == 400_000

    on_bus(test)


def test_what_is_set_aside_is_no_checkpoint(on_bus):
    async def test(bus):
        assert await bus.set_aside("odd.1", b"torn") == "odd=2E1/unfit"
        assert await bus.checkpoint("odd.1") is None

    on_bus(test)


def test_events_of_all_beds_or_of_one(on_bus):
    async def test(bus):
        for bed in ("e1", "e2", "e1"):
            await bus.tell(bed, bed.encode())
        everyone, one = [], []

        async def take(delivery):
            everyone.append(delivery.data)

        async def take_one(delivery):
            one.append(delivery.data)

        await bus.follow_events(take)
        await bus.follow_events(take_one, bed="e1")
        while len(one) < 2 or len(everyone) < 3:
            await asyncio.sleep(0.01)
        assert (everyone, one) == ([b"e1", b"e2", b"e1"], [b"e1", b"e1"])

    on_bus(test)


def test_a_reader_goes_on_where_it_left_off(on_bus):
    async def test(bus):
        for k in range(5):
            await bus.record("r.1", b"%d" % k)
        reader = await open_reader(bus, JOURNAL, None)
        found = await reader.read(3, wait_s=5.0)
        assert [d.data for d in found] == [b"0", b"1", b"2"]
        mark = Mark.from_bytes(reader.mark(found[1].sequence).to_bytes())
        await reader.close()
        again = await open_reader(bus, JOURNAL, mark)
        assert [d.data for d in await again.read(9, wait_s=5.0)] == [b"2", b"3", b"4"]
        assert await again.read(9, wait_s=0.2) == []
        await bus.record("r.1", b"5")
        assert [d.data for d in await again.read(9, wait_s=5.0)] == [b"5"]
        of_another_stream = await open_reader(bus, JOURNAL, Mark("another", mark.after))
        assert len(await of_another_stream.read(99, wait_s=5.0)) == 6
        from_now = await open_reader(bus, JOURNAL, None, from_now=True)
        await bus.record("r.1", b"6")
        assert [d.data for d in await from_now.read(9, wait_s=5.0)] == [b"6"]

    on_bus(test)


def test_an_event_has_its_beds_mode(on_bus):
    async def test(bus):
        reader = await open_reader(bus, EVENTS, None, from_now=True)
        await bus.tell("m", b"a", mode="demo")
        await bus.tell("m", b"b")
        found = []
        while len(found) < 2:
            found += await reader.read(9, wait_s=5.0)
        assert [(d.data, d.mode) for d in found] == [(b"a", "demo"), (b"b", None)]

    on_bus(test)


def test_beds_that_have_a_checkpoint(on_bus):
    async def test(bus):
        await bus.keep("listed.1", b"one", revision=None)
        await bus.set_aside("aside", b"two")
        found = await bus.beds()
        assert "listed.1" in found
        assert not any("aside" in name or "/" in name for name in found)

    on_bus(test)


@pytest.mark.slow
def test_a_reader_outlives_a_restart_of_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr("ecgedge.cluster.stream_reader.QUIET_S", 0.5)
    with nats_server(tmp_path) as server:

        async def main():
            bus, found = await open_bus(server.uri), []
            reader = await open_reader(bus, JOURNAL, None)
            await bus.record("up", b"a")
            found += await reader.read(9, wait_s=5.0)
            server.stop()
            server.start()
            while len(found) < 2:
                try:
                    await bus.record("up", b"b")
                    found += await reader.read(1, wait_s=0.2)
                except BusError:
                    await asyncio.sleep(0.1)
            await bus.close()
            return found

        found = asyncio.run(asyncio.wait_for(main(), 60.0))
    assert [d.data for d in found] == [b"a", b"b"]


def test_what_is_older_than_the_replay_window_is_gone(tmp_path):
    with nats_server(tmp_path) as server:

        async def main():
            bus = await open_bus(server.uri, settings=BusSettings(replay_s=1.0))
            await bus.publish("old", b"a", number=0)
            await asyncio.sleep(2.0)
            await bus.publish("old", b"b", number=1)
            found, _ = await read(bus, "old", 1)
            assert found[0].data == b"b"
            await bus.close()

        asyncio.run(main())


def test_a_server_that_was_restarted_goes_on(tmp_path):
    with nats_server(tmp_path) as server:

        async def main():
            said, found = [], []

            async def take(delivery):
                found.append(delivery.data)

            bus = await open_bus(server.uri, say=said.append)
            await bus.publish("up", b"a", number=0)
            revision = await bus.keep("up", b"one", revision=None)
            await bus.follow("up", take, after=0)
            while not found:
                await asyncio.sleep(0.01)
            server.stop()
            with pytest.raises(BusError, match="does not take samples of up"):
                await bus.publish("up", b"b", number=1)
            server.start()
            while len(found) < 2:
                try:
                    await bus.publish("up", b"b", number=1)
                except BusError:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.1)
            assert found == [b"a", b"b"]
            await bus.keep("up", b"two", revision=revision)
            await bus.close()
            return said

        said = asyncio.run(asyncio.wait_for(main(), 60.0))
    assert any("is lost; trying again" in text for text in said)
    assert any("is there again" in text for text in said)


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("ecgedge.cluster.bus.CONNECT_S", 0.5)
    with pytest.raises(
        BusError, match=r"cannot reach the bus nats://127\.0\.0\.1:.*Start one with: nats-server"
    ):
        asyncio.run(open_bus(f"nats://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("uri", ["", "127.0.0.1:4222", "http://a:1", "nats://", "nats://a:1,b:2"])
def test_what_is_no_bus(uri):
    with pytest.raises(UsageError, match="expected nats://HOST:4222"):
        asyncio.run(open_bus(uri))


@pytest.mark.parametrize("wrong", [{"replay_s": 0.0}, {"replay_s": 1e9}, {"replicas": 2}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        BusSettings(**wrong)


def test_a_dot_does_not_part_a_name():
    assert bed_token("a.b-c_d") == "a=2Eb-c_d"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"made":1,"after":2}', b"[" * 5000])
def test_what_is_no_mark(data):
    assert Mark.from_bytes(data) is None
