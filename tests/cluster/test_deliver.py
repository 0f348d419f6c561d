"""The events of a cluster reach a sink, whoever ends and comes back; real bus, real HTTP server, the real sink."""

import asyncio
import json
from contextlib import asynccontextmanager

import needs
import pytest
from bus_lines import RATE_HZ, Told, messages
from sink_events import http_server

from ecgedge.cluster.bus import open_bus
from ecgedge.cluster.deliver import STATE, Deliverer, DeliveryWatch, acknowledge_at
from ecgedge.errors import UsageError
from ecgedge.sim import Simulator
from ecgedge.sinks.outbox import Outbox
from ecgedge.sinks.webhook import open_webhook

needs.nats()
SECONDS = 40


@pytest.fixture(scope="module")
def sent():
    samples_mv = Simulator("stable", seed=3, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    samples_mv[8, 5000:] = float("nan")
    return messages(samples_mv)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("ecgedge.cluster.deliver.RENEW_S", 0.2)
    monkeypatch.setattr("ecgedge.cluster.ward_node.RENEW_S", 0.2)
    monkeypatch.setattr("ecgedge.cluster.deliver.GONE_S", 1.0)


@asynccontextmanager
async def delivering(uri, port, said):
    bus = await open_bus(uri)
    webhook = f"webhook:http://127.0.0.1:{port}/"
    box = Outbox(open_webhook(webhook), say=said.append, late_s=0.5, again_s=(0.05, 0.1), attempt_s=2.0)
    deliverer = Deliverer(bus, {webhook: box}, say=said.append)
    running = asyncio.create_task(deliverer.run())
    try:
        await asyncio.sleep(0.5)  # a sink that is new begins with what is told from now on
        assert not running.done(), running.exception()
        yield deliverer
    finally:
        deliverer.stop()
        await running
        await box.close(wait_s=1.0)
        await bus.close()


def taken(server):
    return [event for _, _, body in server.requests for event in json.loads(body)["data"]["events"]]


def told_of(told, bed):
    return [line for line in told.of(bed) if line["type"] not in ("answer", "moved")]


def keys(events):
    """Events without what a sink adds."""
    added = ("at", "number", "run", "mode", "research_use_only")
    return {json.dumps({k: v for k, v in e.items() if k not in added}, sort_keys=True) for e in events}


async def play(bus, bed, sent):
    for k, message in enumerate(sent):
        await bus.publish(bed, message, number=k)


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.02)


def failed(told, bed, presence):
    wanted = {"condition": "DELIVERY_FAILED", "presence": presence}
    return [line for line in told.of(bed) if wanted.items() <= line.items()]


def test_every_event_reaches_the_sink_over_an_end_of_who_delivers(with_node, server, sent):
    async def test(bus, new_node, said):
        told, heard = await Told.follow(bus), []
        await (await new_node(["d.1"])).take(["d.1"])
        async with http_server() as web:
            async with delivering(server.uri, web.port, heard):
                await play(bus, "d.1", sent[:50])
                await until(lambda: len(taken(web)) >= 3)
            for k, message in enumerate(sent[50:], 50):  # nobody delivers these
                await bus.publish("d.1", message, number=k)
            await told.until(lambda told: any(x.get("t_s", 0.0) >= SECONDS - 5.0 for x in told.of("d.1")))
            async with delivering(server.uri, web.port, heard) as deliverer:
                await until(lambda: keys(told_of(told, "d.1")) <= keys(taken(web)))
            found = [event for event in taken(web) if event["bed"] == "d.1"]
        assert keys(found) == keys(told_of(told, "d.1"))
        assert {event["mode"] for event in found} == {"demo"}
        assert all(event["research_use_only"] for event in found)
        assert deliverer.dropped == {}
        # In the world's time an event was told when it came onto the bus, not when it was delivered at last.
        at = [event["at"] for event in found if event["type"] == "estimate"]
        assert at == sorted(at)
        assert heard == said == []

    with_node(test)


def test_a_receiver_that_takes_nothing_is_an_alarm_of_the_beds_until_it_does(with_node, server, sent):
    async def test(bus, new_node, said):
        told, heard = await Told.follow(bus), []
        await (await new_node(["down"])).take(["down"])
        async with http_server() as web, delivering(server.uri, web.port, heard):
            web.answers = [503]
            await play(bus, "down", sent)
            await until(lambda: failed(told, "down", "on"))
            web.answers = [200]
            await until(lambda: failed(told, "down", "off"))
            await until(lambda: keys(told_of(told, "down")) <= keys(taken(web)))
        (alarm,) = failed(told, "down", "on")[:1]
        assert "webhook:http://127.0.0.1" in alarm["text"]
        assert "503" in alarm["text"]

    with_node(test)


def test_that_nobody_delivers_any_more_is_an_alarm_and_an_end_in_good_order_none(with_node, sent):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        await (await new_node(["alone"])).take(["alone"])
        await play(bus, "alone", sent[:20])
        await bus.set_state(STATE, b'{"why":null}')  # as of a process that was killed
        await until(lambda: failed(told, "alone", "on"))
        assert "nobody has delivered events for 1 s" in failed(told, "alone", "on")[0]["text"]
        await bus.set_state(STATE, None)
        await until(lambda: failed(told, "alone", "off"))

    with_node(test)


def test_two_do_not_deliver(server, on_bus):
    async def test(bus):
        async with delivering(server.uri, 1, []):
            with pytest.raises(UsageError, match="another process delivers this cluster's events"):
                await Deliverer(bus, {}, say=print).run()

    on_bus(test)


def test_a_sink_that_acknowledges(with_node, sent):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        await (await new_node(["sdc"])).take(["sdc"])
        await play(bus, "sdc", sent)
        await until(lambda: any(line.get("condition") == "LEAD_OFF" for line in told.of("sdc")))
        await acknowledge_at(bus, "sdc", "LEAD_OFF", "SDC consumer")
        acknowledged = {"condition": "LEAD_OFF", "signal": "acknowledged", "user": "SDC consumer"}
        assert any(acknowledged.items() <= line.items() for line in told.of("sdc"))
        with pytest.raises(UsageError, match="unknown condition"):
            await acknowledge_at(bus, "sdc", "TIRED", "SDC consumer")

    with_node(test)


def test_a_state_that_cannot_be_read_is_a_trouble(on_bus):
    async def test(bus):
        watch = DeliveryWatch()
        for _ in range(2):
            await bus.set_state(STATE, b"garbage")
            await watch.look(bus)
        assert (watch.is_known, watch.why) == (True, "how delivery fares cannot be read")
        await bus.set_state(STATE, None)
        await watch.look(bus)
        assert watch.why is None

    on_bus(test)


def test_what_is_no_event_is_dropped_by_name(server, on_bus):
    async def test(bus):
        # The last test here: what it puts onto the bus no other reader of the file expects.
        async with http_server() as web, delivering(server.uri, web.port, []) as deliverer:
            for line in (
                b"garbage",
                b"[]",
                b'{"bed":"x","type":"dance"}',
                b'{"bed":"x","type":"self_check"}',
            ):
                await bus.tell("x", line, mode="real")
            line = b'{"bed":"x","type":"feed","t_s":1.0,"state":"connected"}'
            await bus.tell("x", line)
            await bus.tell("x", line, mode="test")
            await until(lambda: taken(web))
        assert deliverer.dropped == {"no event": 4, "no mode": 1}
        assert [(event["bed"], event["mode"]) for event in taken(web)] == [("x", "test")]

    on_bus(test)
