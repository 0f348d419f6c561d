"""The ws:// feed: a real ECG from a second process, plain and over TLS; connections that break or fall silent."""

import asyncio
import json
import ssl
import subprocess
import sys

import numpy as np
import pytest
from aiohttp import web
from mosquitto import certificates

from ecgedge import read
from ecgedge.errors import FeedError
from ecgedge.feeds import open_feed
from ecgedge.feeds.messages import write_json
from ecgedge.feeds.ws import parse_ws_uri
from ecgedge_bridge import Data, Info, Mode, Validity, make_result, pack, unpack

DECLARED = {"leads": ["I", "II"], "rate_hz": 500, "lsb_nv": 1000, "mode": "test"}


@pytest.mark.parametrize("kind", ["binary", "json"])
def test_a_real_ecg_arrives_exactly_from_a_second_process(ecg_data, kind):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    send = [sys.executable, "-m", "ecgedge", "feed", "send", "--from", f"file:{record}", "--speed", "max"]
    send += ["--to", f"ws://127.0.0.1:0/bed1?format={kind}"]

    async def run(uri):
        feed = await open_feed(uri)
        chunks = [chunk async for chunk in feed]
        dropped = dict(feed.dropped)
        await feed.close()
        await feed.close()
        return feed.info, chunks, dropped

    with subprocess.Popen(send, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as device:
        uri = device.stderr.readline().split()[-1]
        info, chunks, dropped = asyncio.run(asyncio.wait_for(run(uri), 60.0))
        assert device.wait(60.0) == 0
    ecg = read(record)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), ecg.samples_mv)
    assert dropped == {}


def gateway(talk, *, tls=None):
    """Return an async context of a gateway of this test's own: (port) while it serves `talk(socket)`."""

    class Gateway:
        async def __aenter__(self):
            async def greet(request):
                socket = web.WebSocketResponse()
                await socket.prepare(request)
                await talk(socket)
                return socket

            app = web.Application()
            app.router.add_get("/bed", greet)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
            return self._runner.addresses[0][1]

        async def __aexit__(self, *_):
            await self._runner.cleanup()

    return Gateway()


async def say(socket, *messages):
    for message in messages:
        await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))


def samples(index):
    return write_json(np.full((2, 10), 0.5, np.float32), index=index).decode()


def test_over_tls_with_the_gateways_own_authority(tmp_path):
    certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    async def talk(socket):
        await say(socket, json.dumps(DECLARED), samples(0))
        await socket.close()

    async def run():
        async with gateway(talk, tls=tls) as port:
            feed = await open_feed(f"wss://127.0.0.1:{port}/bed?ca={tmp_path / 'ca.pem'}")
            chunks = [chunk async for chunk in feed]
            await feed.close()
            with pytest.raises(FeedError, match=r"cannot connect .*certificate"):
                await open_feed(f"wss://127.0.0.1:{port}/bed")
        return chunks

    assert len(asyncio.run(run())) == 1


def test_garbage_is_counted_and_a_hole_stays_a_hole():
    async def talk(socket):
        await say(socket, json.dumps(DECLARED), samples(0), "garbage", b"garbage", samples(20), samples(30))
        await socket.close()

    async def run():
        async with gateway(talk) as port:
            feed = await open_feed(f"ws://127.0.0.1:{port}/bed")
            chunks = [chunk async for chunk in feed]
            await feed.close()
            return chunks, dict(feed.dropped)

    chunks, dropped = asyncio.run(run())
    assert [chunk.t_s for chunk in chunks] == [0.0, 0.04, 0.06]
    assert dropped == {"bad_json": 1, "bad_length": 1, "lost_samples": 10}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["hello"], "cannot be used"),
        ([b"\x00"], "before it said what it is"),
        ([json.dumps({**DECLARED, "rate_hz": 1})], "not usable"),
        ([], "cannot be used"),
    ],
)
def test_a_gateway_that_does_not_declare_is_refused(messages, words):
    async def talk(socket):
        await say(socket, *messages)
        await socket.close()

    async def run():
        async with gateway(talk) as port:
            await open_feed(f"ws://127.0.0.1:{port}/bed")

    with pytest.raises(FeedError, match=words):
        asyncio.run(run())


def test_a_connection_that_breaks_and_one_that_falls_silent_are_told(monkeypatch):
    async def cut(socket):
        await say(socket, json.dumps(DECLARED), samples(0))
        socket._req.transport.abort()  # the cable is out

    async def silent(socket):
        await say(socket, json.dumps(DECLARED), samples(0))
        await asyncio.sleep(1.5)

    async def end_of(talk):
        async with gateway(talk) as port:
            feed = await open_feed(f"ws://127.0.0.1:{port}/bed")
            feed._silent_s = 0.5
            try:
                async for _ in feed:
                    pass
            except FeedError as error:
                return str(error)
            finally:
                await feed.close()

    assert "the connection broke" in asyncio.run(end_of(cut))
    assert "nothing whole has come for 0.5 s" in asyncio.run(end_of(silent))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ws:///bed", "expected ws://"),
        ("ws://host:99999/bed", "Port out of range"),
        ("wss://host/bed?ca=/no/such.pem", "No such file"),
    ],
)
def test_a_wrong_uri_says_what_is_accepted(uri, words):
    with pytest.raises(FeedError, match=words) as caught:
        parse_ws_uri(uri)
    assert "for example ws://" in str(caught.value)


def test_nobody_there_says_so():
    with pytest.raises(FeedError, match="cannot connect"):
        asyncio.run(open_feed("ws://127.0.0.1:9/bed"))


def test_a_device_that_sends_info_needs_no_declaration_and_hears_the_host():
    heard = []

    async def talk(socket):
        info = Info(
            seq=0, rate_num=500, rate_den=1, lsb_pv=1_000_000, gain_centi=100, leads=(1, 2), serial="SN-1",
            firmware=(1, 0, 0), mode=Mode.DEMO, simulated=True,
        )  # fmt: skip
        data = Data(seq=1, sample_index=0, t_us=0, n_channels=2, counts=(1, 2, 3, 4), simulated=True)
        await say(socket, pack(info), pack(data))
        while len(heard) < 2:
            heard.append(unpack((await socket.receive()).data))
        await socket.close()

    async def run():
        async with gateway(talk) as port:
            feed = await open_feed(f"ws://127.0.0.1:{port}/bed")
            feed.send_result(make_result(seq=0, sample_index=1, validity=Validity.INV))
            chunks = [chunk async for chunk in feed]
            await feed.close()
            feed.send_result(make_result(seq=0, sample_index=1, validity=Validity.INV))  # nobody hears
            return feed.info, chunks, dict(feed.dropped)

    info, chunks, dropped = asyncio.run(asyncio.wait_for(run(), 60.0))
    assert (info.leads, info.mode) == (("I", "II"), "demo")
    (chunk,) = chunks
    np.testing.assert_allclose(chunk.samples_mv, [[1e-3, 3e-3], [2e-3, 4e-3]], rtol=1e-6)
    assert sorted(type(frame).__name__ for frame in heard) == ["Ping", "Result"]
    assert dropped == {}
