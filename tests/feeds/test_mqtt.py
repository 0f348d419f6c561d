"""The mqtt:// feed with Debian's mosquitto, `ecgedge feed send` as the device in a process of its own, and
mosquitto's own clients as peers."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from mosquitto import broker, certificates, program, ready_subscriber

from ecgedge import read
from ecgedge.errors import FeedError
from ecgedge.feeds import mqtt, open_feed
from ecgedge.feeds.mqtt import parse_mqtt_uri

pytest.importorskip("aiomqtt", reason="needs the extra mqtt: pip install 'ecgedge[mqtt]'")


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a busy machine a process takes its time to begin."""
    monkeypatch.setattr("ecgedge.feeds.mqtt.CONNECT_TIMEOUT_S", 30.0)


@pytest.fixture
def running(tmp_path):
    with broker(tmp_path) as found:
        yield found


@contextlib.contextmanager
def sender(source, uri, *more):
    """`ecgedge feed send` in a process of its own."""
    command = [sys.executable, "-m", "ecgedge", "feed", "send", "--from", str(source), "--to", uri, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def begun(running, uri):
    """Begin to open the feed, and return the task once it listens: so a device that begins now loses nothing."""
    topic = f"{parse_mqtt_uri(uri).topic}/info"
    before = running.subscribed(topic)
    opening = asyncio.create_task(open_feed(uri))
    while running.subscribed(topic) == before and not opening.done():
        await asyncio.sleep(0.01)
    return opening


async def hear(running, uri, *device, until=10.0):
    """Open the feed, then start the device; return (info, chunks, what was dropped, how the feed ended)."""
    opening = await begun(running, uri)
    with sender(*device) as process:
        feed = await opening
        chunks = []
        try:
            async for chunk in feed:
                chunks.append(chunk)
                if chunk.t_s >= until:
                    return feed.info, chunks, dict(feed.dropped), None
        except FeedError as error:
            return feed.info, chunks, dict(feed.dropped), str(error)
        finally:
            await feed.close()
            await feed.close()
            assert process.poll() in (None, 0)
    raise AssertionError("the feed ended without a word")


async def end_of(feed, with_each):
    """Read a feed to its end, and return what it said then."""
    try:
        async for chunk in feed:
            with_each(chunk)
    except FeedError as error:
        return str(error)
    finally:
        await feed.close()
    return None


def samples_of(chunks, n_leads, n, rate_hz):
    """Put chunks where their times say; NaN where nothing came."""
    got = np.full((n_leads, n), np.nan, np.float32)
    for chunk in chunks:
        at = round(chunk.t_s * rate_hz)
        got[:, at : at + chunk.samples_mv.shape[1]] = chunk.samples_mv
    return got


@pytest.fixture(scope="module")
def record(ecg_data):
    """A real 12-lead ECG at 500 Hz, 1000 counts a millivolt."""
    return ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"


@pytest.mark.parametrize("query", ["", "?qos=1", "?format=json"])
def test_a_real_ecg_arrives_exactly(running, record, query):
    topic = f"mqtt://127.0.0.1:{running.port}/ward/bed1"
    heard = asyncio.run(hear(running, topic, f"file:{record}", topic + query, "--speed", "10"))
    info, chunks, dropped, ended = heard
    ecg = read(record)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    assert info.resolution_mv == pytest.approx(0.001)
    np.testing.assert_array_equal(samples_of(chunks, 12, 5000, 500.0), ecg.samples_mv)
    assert dropped == {}
    assert "the device is gone" in ended
    assert all(chunk.arrived_s <= time.monotonic() for chunk in chunks)


def test_a_real_ecg_arrives_exactly_over_tls_and_a_stranger_is_refused(tmp_path, record):
    with broker(tmp_path, tls=certificates(tmp_path)) as running:
        topic = f"mqtts://127.0.0.1:{running.port}/ward/bed1?ca={tmp_path / 'ca.pem'}"
        _, chunks, _, _ = asyncio.run(hear(running, topic, f"file:{record}", topic, "--speed", "10"))
        np.testing.assert_array_equal(samples_of(chunks, 12, 5000, 500.0), read(record).samples_mv)
        # As a user: Paho leaves the socket of a failed handshake to the garbage collector, which warns here.
        command = [sys.executable, "-m", "ecgedge", "stream", "--feed", topic.partition("?")[0]]
        stranger = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert stranger.returncode == 3
    assert "cannot connect" in stranger.stderr
    assert "certificate" in stranger.stderr


def test_faults_are_counted_and_shift_nothing(running, record):
    topic = f"mqtt://127.0.0.1:{running.port}/ward/bed1"
    faults = ["--drop", "0.05", "--reorder", "--corrupt", "1e-4", "--jitter", "3ms", "--lead-off", "V2@5s"]
    _, chunks, dropped, _ = asyncio.run(
        hear(running, topic, f"file:{record}", topic, "--speed", "4", "--seed", "1", *faults)
    )
    ecg_mv = read(record).samples_mv.copy()
    ecg_mv[7, 2500:] = np.nan
    got = samples_of(chunks, 12, 5000, 500.0)
    came = ~np.isnan(got[0])
    np.testing.assert_array_equal(got[:, came], ecg_mv[:, came])
    assert 0.01 < 1.0 - came.mean() < 0.25
    assert dropped["lost_samples"] > 0
    assert dropped["reordered"] > 0
    assert dropped["bad_crc"] > 0
    assert set(dropped) <= {"lost_samples", "reordered", "bad_crc"}


def test_a_device_that_dies_is_told_by_its_last_will(running):
    topic = f"mqtt://127.0.0.1:{running.port}/ward/bed1"

    async def run():
        opening = await begun(running, topic)
        with sender("sim:stable", topic) as process:
            feed = await opening
            assert "last will" in await end_of(feed, lambda _: process.kill())

    asyncio.run(asyncio.wait_for(run(), 30.0))


def test_a_broker_that_dies_is_told_and_the_feed_opens_again_with_the_next(running):
    topic = f"mqtt://127.0.0.1:{running.port}/ward/bed1"

    async def run():
        opening = await begun(running, topic)
        with sender("sim:stable", topic) as process:
            feed = await opening
            assert "the broker is gone" in await end_of(feed, lambda _: running.kill())
            assert await asyncio.to_thread(process.wait, 20.0) == 3  # and says so itself
        with pytest.raises(FeedError, match="cannot connect"):
            await open_feed(topic)
        running.start()
        _, chunks, _, _ = await hear(running, topic, "sim:stable", topic, until=0.5)
        assert chunks

    asyncio.run(asyncio.wait_for(run(), 60.0))


def test_a_broker_without_the_device_says_so(running, monkeypatch):
    connect = mqtt.connect

    async def connected(*which, **how):
        client = await connect(*which, **how)
        monkeypatch.setattr(mqtt, "CONNECT_TIMEOUT_S", 0.5)  # from here on
        return client

    monkeypatch.setattr(mqtt, "connect", connected)
    with pytest.raises(FeedError, match="is the device on"):
        asyncio.run(open_feed(f"mqtt://127.0.0.1:{running.port}/nobody"))


def test_mosquittos_own_clients_are_understood_and_understand(running):
    """mosquitto_pub as a device that sends JSON and garbage; mosquitto_sub as a listener."""
    base = ["-h", "127.0.0.1", "-p", str(running.port)]

    def publish(kind, message, *more):
        command = [program("mosquitto_pub"), *base, "-t", f"peer/{kind}", "-m", message, *more]
        subprocess.run(command, check=True)

    declared = {"leads": ["II"], "rate_hz": 250, "lsb_nv": 1000, "mode": "test"}
    publish("info", json.dumps(declared), "-r", "-q", "1")

    async def run():
        feed = await open_feed(f"mqtt://127.0.0.1:{running.port}/peer")
        for message in (
            '{"index": 0, "unit": "uV", "samples": [[100, 200]]}',
            "garbage",
            '{"index": 2, "unit": "mmHg", "samples": [[1, 2]]}',
            '{"index": 2, "unit": "mV", "samples": [[0.3, null]]}',
        ):
            await asyncio.to_thread(publish, "json", message)
        await asyncio.to_thread(publish, "data", "garbage")
        await asyncio.to_thread(publish, "info", json.dumps({**declared, "rate_hz": 500}))
        chunks = []
        assert "something else" in await end_of(feed, chunks.append)
        return chunks, dict(feed.dropped)

    chunks, dropped = asyncio.run(run())
    got = np.concatenate([chunk.samples_mv for chunk in chunks], axis=1)
    np.testing.assert_allclose(got, [[0.1, 0.2, 0.3, np.nan]], rtol=1e-6)
    assert dropped == {"bad_json": 1, "bad_unit": 1, "bad_length": 1}

    with ready_subscriber(running, "bed/json", "-C", "2") as listening:
        uri = f"mqtt://127.0.0.1:{running.port}/bed?format=json"
        with sender("sim:stable?chunk_ms=40", uri, "--duration", "2"):
            said = json.loads(listening.stdout.readline())
    assert (said["index"], said["unit"], len(said["samples"]), len(said["samples"][0])) == (0, "mV", 12, 20)


def test_a_bed_is_served_from_a_broker_as_a_user_would(running):
    topic = f"mqtt://127.0.0.1:{running.port}/ward/bed1"
    stream = [sys.executable, "-m", "ecgedge", "stream", "--bundle", "embedded", "--feed", topic]
    with sender("sim:stable?leads=I,II", topic, "--speed", "4", "--duration", "600") as device:
        assert "sending to" in device.stderr.readline()  # what it declares is retained
        bed = subprocess.run(
            [*stream, "--format", "jsonl", "--duration", "14"], capture_output=True, text=True, timeout=120
        )
    out = bed.stdout
    events = [json.loads(line) for line in out.splitlines()]
    estimates = [event for event in events if event["type"] == "estimate"]
    assert bed.returncode == 0
    assert estimates
    assert {(tuple(e["leads"]), e["mode"]) for e in estimates} == {(("I", "II"), "demo")}
    assert events[-1]["type"] == "summary"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mqtt:///topic", "host is missing"),
        ("mqtt://host", "topic"),
        ("mqtt://host/a/+/b", "topic"),
        ("mqtt://host/a/#", "topic"),
        ("mqtt://host:99999/a", "Port out of range"),
        ("mqtt://user:secret@host/a", "ends up in logs"),
        ("mqtt://host/a?qos=2", "neither 0 nor 1"),
        ("mqtt://host/a?speed=2", "unknown"),
        ("mqtt://host/a?qos=1&qos=1", "twice"),
        ("mqtt://host/a?ca=x.pem", "ca is for mqtts"),
        ("mqtts://host/a?ca=/no/such.pem", "cannot be read"),
    ],
)
def test_a_wrong_uri_says_what_is_accepted(uri, words):
    with pytest.raises(FeedError, match=words) as caught:
        parse_mqtt_uri(uri)
    assert "for example mqtt://" in str(caught.value)


def test_an_uri_is_read():
    address = parse_mqtt_uri("mqtt://anna@[::1]/ward%201/bed?qos=1")
    assert (address.host, address.port, address.topic) == ("::1", 1883, "ward 1/bed")
    assert (address.user, address.qos, address.tls) == ("anna", 1, None)
    assert parse_mqtt_uri("mqtts://host/a").port == 8883
