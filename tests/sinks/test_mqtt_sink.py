"""The sink mqtt:// with Debian's mosquitto; mosquitto's own subscriber is who reads."""

import asyncio
import json

import pytest
from mosquitto import broker, certificates, ready_subscriber, retained_lines
from sink_events import alarm, estimate, expired, outbox, until

from ecgedge.errors import UsageError
from ecgedge.sinks.mqtt import discovery, open_mqtt_sink, publications
from ecgedge.sinks.outbox import Told

pytest.importorskip("aiomqtt", reason="needs the extra mqtt: pip install 'ecgedge[mqtt]'")


SHOWN = ("-F", "%t %r %p")
"""Topic, retained or not, payload."""


def retained(running, topic="#"):
    """What a subscriber that comes now finds, by topic."""
    lines = [line.split(" ", 2) for line in retained_lines(running, topic, *SHOWN)]
    assert {flag for _, flag, _ in lines} <= {"1"}
    return {topic: payload for topic, _, payload in lines}


@pytest.fixture
def running(tmp_path):
    with broker(tmp_path) as found:
        yield found


def test_state_is_retained_and_events_are_not(run, running):
    uri = f"mqtt://127.0.0.1:{running.port}/ward?discovery=homeassistant"
    with ready_subscriber(running, "ward/+/event", *SHOWN) as reader:

        async def main():
            async with outbox(open_mqtt_sink(uri)) as box:
                box.put("icu-3", "demo", estimate(30.0, 17.25))
                box.put("icu-3", "demo", estimate(40.0, 18.5))
                box.put("icu-3", "demo", alarm(41.0))
                box.put("icu-4", "demo", alarm(42.0, "LEAD_OFF", kind="technical"))
                await until(lambda: box.delivered == 4)
                return retained(running)

        state = run(main())
        events = [json.loads(reader.stdout.readline().split(" ", 2)[2]) for _ in range(4)]
        reader.kill()
    assert state["ward/status"] == "online"
    newest = json.loads(state["ward/icu-3/estimate"])
    assert (newest["mpcwp_mmhg"], newest["mode"], newest["research_use_only"]) == (18.5, "demo", True)
    assert json.loads(state["ward/icu-3/alarm/MPCWP_ELEVATED"])["presence"] == "on"
    assert json.loads(state["ward/icu-4/alarm/LEAD_OFF"])["bed"] == "icu-4"
    found = json.loads(state["homeassistant/sensor/ecgedge_icu-3/mpcwp/config"])
    assert found["state_topic"] == "ward/icu-3/estimate"
    assert found["availability_topic"] == "ward/status"
    assert [e["t_s"] for e in events] == [30.0, 40.0, 41.0, 42.0]
    assert retained(running)["ward/status"] == "offline", "at its end"


def test_an_expired_estimate_is_taken_away(run, running):
    async def main():
        async with outbox(open_mqtt_sink(f"mqtt://127.0.0.1:{running.port}/ward")) as box:
            box.put("a", "real", estimate())
            box.put("a", "real", expired())

    run(main())
    assert retained(running).keys() == {"ward/status"}


def test_the_broker_forgets_an_estimate_that_is_too_old(run, running):
    async def main():
        uri = f"mqtt://127.0.0.1:{running.port}/ward?lifetime_s=2"
        async with outbox(open_mqtt_sink(uri)) as box:
            box.put("a", "real", estimate())
            await until(lambda: box.delivered == 1)
            there = "ward/a/estimate" in retained(running)
            await asyncio.sleep(2.5)
            return there, "ward/a/estimate" in retained(running)

    assert run(main()) == (True, False)


def test_an_estimate_that_waited_too_long_is_an_event_but_no_state():
    told = Told("a", "real", estimate(), _now(), 0, "run")
    assert [p.topic for p in publications(told, lifetime_s=600, age_s=599.5)] == ["a/event"]
    assert [p.lifetime_s for p in publications(told, lifetime_s=600, age_s=100.0)] == [None, 500]


def test_a_broker_that_dies_and_comes_back_gets_all(run, running):
    async def main():
        async with outbox(open_mqtt_sink(f"mqtt://127.0.0.1:{running.port}/ward")) as box:
            box.put("a", "real", alarm(1.0))
            await until(lambda: box.delivered == 1)
            running.kill()
            box.put("a", "real", alarm(2.0, presence="off"))
            box.put("a", "real", alarm(3.0))
            await until(lambda: box.trouble is not None)
            assert "127.0.0.1" in box.trouble
            running.start()
            await until(lambda: box.n_waiting == 0)
            assert box.trouble is None
            return retained(running)

    state = run(main())
    assert json.loads(state["ward/a/alarm/MPCWP_ELEVATED"])["t_s"] == 3.0
    assert state["ward/status"] == "online"


def test_tls_and_a_wrong_authority(run, tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        certificates(folder)
    with broker(tmp_path, tls=ours) as running:
        base = f"mqtts://127.0.0.1:{running.port}/ward?ca="

        async def main(ca):
            async with outbox(open_mqtt_sink(base + str(ca))) as box:
                box.put("a", "real", alarm())
                await until(lambda: box.delivered or box.trouble)
                return box.delivered, box.trouble

        assert run(main(ours / "ca.pem")) == (1, None)
        delivered, trouble = run(main(other / "ca.pem"))
    assert delivered == 0
    assert "certificate" in trouble.lower()


def test_what_home_assistant_reads():
    first, second = discovery("icu-3", topic="ward", prefix="homeassistant")
    assert first.retain
    assert first.topic == "homeassistant/sensor/ecgedge_icu-3/mpcwp/config"
    assert json.loads(first.payload)["unit_of_measurement"] == "mmHg"
    assert json.loads(first.payload)["unique_id"] != json.loads(second.payload)["unique_id"]
    assert "research use only" in json.loads(first.payload)["device"]["name"]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mqtt://host", "topic"),
        ("mqtt://host/a?lifetime_s=0", "lifetime_s is '0'"),
        ("mqtt://host/a?colour=red", "known are"),
        ("mqtt://me:secret@host/a", "ends up in logs"),
    ],
)
def test_a_wrong_uri_is_named(uri, said):
    with pytest.raises(UsageError, match=said):
        open_mqtt_sink(uri)


def _now():
    from datetime import datetime, timezone

    return datetime.now(timezone.utc)
