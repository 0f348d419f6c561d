"""The vital:// feed: VitalDB's own simulator of Vital Recorder in another process, our sender, strangers, garbage."""

import asyncio
import contextlib
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import needs
import numpy as np
import pytest
from free_ports import free_port

from ecgedge import read
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import FeedInfo, open_feed
from ecgedge.feeds import vital as module
from ecgedge.feeds.vital import parse_vital_uri
from ecgedge.rig import open_sender

socketio = pytest.importorskip("socketio", reason="needs the extra vital: pip install 'ecgedge[vital]'")

PEER = Path(__file__).parents[1] / "support" / "vital_peer.py"
START_S = 1_700_000_000.0


@contextlib.contextmanager
def process(*command, **more):
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    ) as one:
        try:
            yield one
        finally:
            one.kill()


def write_vital(path, ecg, *, montype=1, sign=1.0, name=str):
    """Write a record as a .vital file with blocks of a second."""
    recorder = needs.vitaldb().utils.VitalFile(None)
    n = round(ecg.rate_hz)
    for lead, row in zip(ecg.leads, ecg.samples_mv, strict=True):
        blocks = [
            {"dt": START_S + k, "val": sign * row[k * n : (k + 1) * n]}
            for k in range(ecg.samples_mv.shape[1] // n)
        ]
        recorder.add_track(f"Monitor/{name(lead)}", blocks, srate=ecg.rate_hz, unit="mV").montype = montype
    recorder.dtstart, recorder.dtend = START_S, START_S + ecg.samples_mv.shape[1] / ecg.rate_hz
    assert recorder.to_vital(str(path), packed=False)
    return path


async def listening(port):
    """Wait until someone listens."""
    for _ in range(3000):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody listens")


async def hear(uri, n_chunks, talk):
    """Open the feed, let `talk` send, and return (info, chunks, dropped) once so many chunks have come."""
    opening = asyncio.create_task(open_feed(uri))
    await listening(parse_vital_uri(uri).port)
    talking = asyncio.create_task(talk())
    feed = await opening
    chunks = []
    async for chunk in feed:
        chunks.append(chunk)
        if len(chunks) >= n_chunks:
            break
    dropped = dict(feed.dropped)
    await feed.close()
    await feed.close()
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    return feed.info, chunks, dropped


def as_sent(ecg):
    """Return seconds of a record as the recorder sends them: every fifth sample, six digits; (seconds, leads, n)."""
    n = round(ecg.rate_hz)
    picked = ecg.samples_mv[:, :: n // 100]
    six = np.array([[float(f"{value:g}") for value in row] for row in picked.tolist()]).astype(np.float32)
    return np.stack(np.split(six, picked.shape[1] // 100, axis=1))


def seconds_of(chunks):
    """Return (seconds, leads, 100): a message may hold two seconds where its sender was late."""
    got = np.concatenate([chunk.samples_mv for chunk in chunks], axis=1)
    return np.stack(np.split(got, got.shape[1] // 100, axis=1))


def assert_no_hole(chunks):
    begins_s = np.cumsum([0, *(chunk.samples_mv.shape[1] for chunk in chunks)])[:-1] / 100.0
    np.testing.assert_allclose([chunk.t_s - chunks[0].t_s for chunk in chunks], begins_s, atol=1e-6)


@pytest.fixture(scope="module")
def ecg(ecg_data):
    return read(ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea")


@pytest.mark.parametrize("montype", [1, 0])  # ECG_WAV, and a track that says nothing of what it is
def test_a_real_ecg_arrives_from_vitaldbs_own_recorder_to_its_resolution(ecg, tmp_path, montype):
    pytest.importorskip("vitalrecorder", reason="needs the development group: make dev")
    port = free_port()
    bed = write_vital(tmp_path / "ours.vital", ecg, montype=montype)
    other = write_vital(tmp_path / "other.vital", ecg, sign=-1.0)

    async def talk():
        more = {"env": {**os.environ, "TMPDIR": str(tmp_path)}, "cwd": tmp_path}
        with process(str(PEER), f"http://127.0.0.1:{port}", "OR1", f"1={bed}", f"2={other}", **more) as peer:
            await asyncio.to_thread(peer.wait)

    uri = f"vital://127.0.0.1:{port}?vr=OR1&bed=BED-1"
    info, chunks, dropped = asyncio.run(asyncio.wait_for(hear(uri, 4, talk), 60.0))
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 100.0, "real", True)
    sent = as_sent(ecg)
    got = seconds_of(chunks)
    begin = next(k for k in range(len(sent)) if np.array_equal(sent[k], got[0]))
    np.testing.assert_array_equal(got, sent[(begin + np.arange(len(got))) % len(sent)])
    assert_no_hole(chunks)
    assert set(dropped) == {"other_bed"}


@contextlib.contextmanager
def sender(source, uri, *more):
    with process("-m", "ecgedge", "feed", "send", "--from", str(source), "--to", uri, *more) as one:
        yield one


def test_our_own_recorder_sends_the_same(ecg, ecg_data):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    uri = f"vital://127.0.0.1:{free_port()}?vr=OR 1"

    async def talk():
        with sender(f"file:{record}", f"{uri}&bed=B|2", "--speed", "max") as one:
            assert await asyncio.to_thread(one.wait, 30.0) == 0

    info, chunks, dropped, end = asyncio.run(asyncio.wait_for(hear_all(uri, talk), 60.0))
    assert (info.leads, info.rate_hz, info.mode) == (ecg.leads, 100.0, "test")
    np.testing.assert_array_equal(seconds_of(chunks), as_sent(ecg))
    assert_no_hole(chunks)
    assert dropped == {}
    assert "the recorder OR 1 has disconnected; open the feed again" in end


async def hear_all(uri, talk):
    """Open the feed, let `talk` send, and return (info, chunks, dropped, why it ended)."""
    opening = asyncio.create_task(open_feed(uri))
    await listening(parse_vital_uri(uri).port)
    talking = asyncio.create_task(talk())
    feed = await opening
    chunks = []
    try:
        try:
            async for chunk in feed:
                chunks.append(chunk)  # noqa: PERF401  # what came before the end is kept
        except FeedError as error:
            await talking
            return feed.info, chunks, dict(feed.dropped), str(error)
        raise AssertionError("a feed of a recorder ends with an error")
    finally:
        await feed.close()


def test_a_message_that_is_lost_is_a_hole(ecg_data):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    uri = f"vital://127.0.0.1:{free_port()}?vr=OR1"

    async def talk():
        with sender(f"file:{record}", uri, "--speed", "max", "--drop", "0.3", "--seed", "3") as one:
            assert await asyncio.to_thread(one.wait, 30.0) == 0

    _, chunks, dropped, _ = asyncio.run(asyncio.wait_for(hear_all(uri, talk), 60.0))
    span = round((chunks[-1].t_s - chunks[0].t_s) * 100) + 100
    assert dropped["lost_samples"] == span - sum(chunk.samples_mv.shape[1] for chunk in chunks) > 0


# ------------------------------------------------------------------------------------- strangers, in this process


@contextlib.asynccontextmanager
async def client(port, code=None):
    one = socketio.AsyncClient(reconnection=False)
    await one.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
    if code is not None:
        await one.emit("join_vr", code)
    try:
        yield one
    finally:
        # Until all is sent, or the server has gone.
        sent, gone = asyncio.create_task(one.eio.queue.join()), asyncio.create_task(one.eio.wait())
        await asyncio.wait({sent, gone}, timeout=30.0, return_when=asyncio.FIRST_COMPLETED)
        await one.disconnect()
        sent.cancel()
        await asyncio.gather(sent, gone, return_exceptions=True)


def second(begin, value=0.5, *, vr="OR1", mode="P"):
    values = "^".join([str(value)] * 100)
    return gzip.compress(
        (
            f"MSH|^~\\&|VitalRecorder|{vr}|||20261128100000||ORU^R01|1|{mode}|2.6\rPV1||I|BED-1\r"
            f"OBR|1|||VITAL_SIGNS|||202611281000{begin:02d}|202611281000{begin + 1:02d}\r"
            f"OBX|1|NA|ECG_WAV^Monitor/ECG_II@100||{values}|mV|||||R\r"
        ).encode()
    )


def test_what_strangers_send_is_counted_and_never_mixed_in():
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"

    async def talk():
        async with client(port, "OR1") as ours, client(port, "OR2") as other, client(port) as silent:
            # A call is answered once it has been dealt with: so each comes in its place.
            await other.call("send_data", second(0, 9.0))  # before ours: it must not become the feed
            await silent.call("send_data", second(0, 9.0))
            await ours.call("send_data", second(0))
            async with client(port, "OR1") as twin:
                await twin.call("send_data", second(1, 9.0))
            await other.call("send_data", second(1, 9.0))
            await ours.emit("send_data", gzip.compress(bytes(100 << 20)))
            for wrong in (b"garbage", "text", {"a": 1}, None):
                await ours.emit("send_data", wrong)
            await ours.emit("something", 1)
            await ours.emit("send_data", second(1, 9.0, vr="OR2"))
            await ours.call("send_data", second(2, 0.25))

    _, chunks, dropped, _ = asyncio.run(asyncio.wait_for(hear_all(uri, talk), 30.0))
    assert [float(chunk.samples_mv[0, 0]) for chunk in chunks] == [0.5, 0.25]
    assert [chunk.t_s - chunks[0].t_s for chunk in chunks] == [0.0, 2.0]
    assert dropped == {
        "other_recorder": 4,
        "other_connection": 1,
        "oversized": 1,
        "bad_gzip": 4,
        "unknown_event": 1,
        "lost_samples": 100,
    }


@pytest.mark.parametrize(
    ("garbage", "counted"),
    [
        (['451000000-["send_data",{"_placeholder":true,"num":0}]'], "bad_packet"),  # so many attachments
        (['452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"a", b"b"], "bad_packet"),
        ([b"no event"], "bad_packet"),
        (['42["send_data"'], "bad_packet"),
        (["42{}"], "bad_packet"),
        (["42" + "[" * 100_000], "bad_packet"),
        (["49[1]"], "bad_packet"),
        (["44"], "bad_packet"),
        (["43[]"], "bad_packet"),
        (["42/x,[1]"], "bad_packet"),
        (['451-["send_data",{"_placeholder":true,"num":7}]', b"a"], "bad_packet"),
        (['450-["send_data",{"_placeholder":true,"num":0}]', b"a"], "bad_packet"),
        (["x" * 100], "broken_connections"),
        ([b"x" * (2 << 20)], None),
        (["40"], None),
        (['42["disconnect"]', '42["connect"]'], None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_garbage_on_the_wire_of_a_stranger_harms_nobody(garbage, counted, caplog):
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"

    async def stranger():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket") as socket,
        ):
            await socket.receive()
            await socket.send_str("40")
            await socket.receive()
            # The last is answered once all before it has been dealt with, unless the connection was closed for it.
            for one in ['42["join_vr","OR1"]', *garbage, '421["join_vr","OR1"]']:
                with contextlib.suppress(ConnectionError):
                    await (socket.send_str(one) if isinstance(one, str) else socket.send_bytes(one))
            async for answer in socket:
                if answer.data == "431[]":
                    break

    async def talk():
        async with client(port, "OR1") as ours:
            await ours.emit("send_data", second(0))
            await stranger()
            await ours.emit("send_data", second(1, 0.25))

    _, chunks, dropped, _ = asyncio.run(asyncio.wait_for(hear_all(uri, talk), 30.0))
    assert [float(chunk.samples_mv[0, 0]) for chunk in chunks] == [0.5, 0.25]
    assert set(dropped) == ({counted} if counted else set())
    assert not [record for record in caplog.records if record.exc_info]


def test_a_feed_that_is_closed_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(module, "PING_S", 2.0)
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"

    async def run():
        for begin in (0, 1):  # the same port again
            opening = asyncio.create_task(open_feed(uri))
            await listening(port)
            async with client(port, "OR1") as ours, client(port), aiohttp.ClientSession() as session:
                # One that asks once and never again.
                address = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling"
                async with session.get(address) as answer:
                    assert answer.status == 200
                await ours.emit("send_data", second(begin))
                feed = await opening
                await feed.close()
        # Its connections are asked at most twice more.
        end_s = time.monotonic() + 30.0
        while (left := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < end_s:
            await asyncio.sleep(0.02)
        return left

    assert asyncio.run(run()) == set()


def test_a_recorder_that_is_killed_ends_the_feed():
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"

    async def run():
        opening = asyncio.create_task(open_feed(uri))
        await listening(port)
        with sender("sim:stable", uri) as one:
            feed = await opening
            try:
                async for _ in feed:
                    one.kill()  # in the midst of it
            except FeedError as error:
                return feed.info, dict(feed.dropped), str(error)
            finally:
                await feed.close()
        raise AssertionError("a feed of a recorder ends with an error")

    info, dropped, end = asyncio.run(asyncio.wait_for(run(), 60.0))
    assert (info.mode, dropped) == ("demo", {})
    assert "has disconnected; open the feed again" in end


# ------------------------------------------------------------------------------------- what cannot be opened


def test_nobody_who_sends_an_address_in_use_and_no_leads_are_told(monkeypatch):
    monkeypatch.setattr(module, "FIRST_S", 1.0)
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"
    with pytest.raises(FeedError, match=r"came: nothing at all.*is this address the server"):
        asyncio.run(open_feed(uri))

    async def unnamed():
        dealt_with = asyncio.Event()

        async def first(_):  # it is late as soon as all has come
            await dealt_with.wait()
            raise asyncio.TimeoutError

        monkeypatch.setattr(module.VitalSource, "first", first)
        opening = asyncio.create_task(open_feed(uri))
        await listening(port)
        async with client(port, "OR1") as ours:
            await ours.call(
                "send_data", gzip.compress(gzip.decompress(second(0)).replace(b"ECG_II", b"ECG1"))
            )
            dealt_with.set()
            with pytest.raises(FeedError, match=r"unknown_track 1.*leads=TRACK:LEAD: Monitor/ECG1"):
                await opening

    asyncio.run(unnamed())

    async def twice():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        try:
            with pytest.raises(FeedError, match="cannot listen there"):
                await open_feed(uri)
        finally:
            server.close()
            await server.wait_closed()

    asyncio.run(twice())


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "socketio", None)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[vital\]'"):
        asyncio.run(open_feed("vital://127.0.0.1:1?vr=OR1"))
    info = FeedInfo("sim:", ("II",), 100.0, "demo", 1.0)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[vital\]'"):
        asyncio.run(open_sender("vital://127.0.0.1:1?vr=OR1", info, say=print))


@pytest.mark.parametrize(
    "uri",
    [
        "vital://host?vr=1",
        "vital://:1?vr=1",
        "vital://h:1",
        "vital://h:1?vr=",
        "vital://h:1?vr=1&vr=2",
        "vital://h:1?vr=1&room=2",
        "vital://h:99999?vr=1",
        "vital://h:1?vr=1&unit=mmHg",
        "vital://h:1?vr=1&leads=ECG1",
        "vital://h:1?vr=1&leads=ECG1:X9",
        "vital://h:1?vr=1&leads=ECG1:II,ECG1:V1",
        "vital://h:1?vr=1&leads=ECG1:II,ECG2:II",
    ],
)
def test_a_wrong_uri_says_what_is_accepted(uri):
    with pytest.raises(FeedError, match="for example vital://"):
        parse_vital_uri(uri)


def test_all_settings_of_a_uri():
    chosen = parse_vital_uri("vital://h:1?vr=a&bed=B&device=D&leads=ECG1:mlii,D/ECG2:v5&unit=uV").selection
    assert (chosen.vr, chosen.bed, chosen.device, chosen.unit) == ("a", "B", "D", "uV")
    assert chosen.leads == {"ECG1": "II", "D/ECG2": "V5"}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("vital://h:1", "expected vital://"),
        ("vital://h:1?vr=1&x=2", "the setting x is unknown; known are vr, bed, rate_hz"),
        ("vital://h:1?vr=1&rate_hz=250", "100 Hz at most"),
        ("vital://127.0.0.1:1?vr=1", "does the server listen"),
    ],
)
def test_a_sender_that_cannot_send_says_why(uri, said):
    info = FeedInfo("sim:", ("II",), 100.0, "demo", 1.0)
    with pytest.raises(FeedError, match=said):
        asyncio.run(open_sender(uri, info, say=print))


def test_a_sender_hears_that_the_server_has_gone():
    port = free_port()
    uri = f"vital://127.0.0.1:{port}?vr=OR1"
    info = FeedInfo("sim:", ("II",), 100.0, "demo", 1.0)

    async def run():
        opening = asyncio.create_task(open_feed(uri))
        await listening(port)
        sending = await open_sender(uri, info, say=print)
        await sending.send(second(0))
        feed = await opening
        await feed.close()

        async def send_on():  # until it has heard of it
            while True:
                await sending.send(second(1))
                await asyncio.sleep(0.02)

        with pytest.raises(FeedError, match="has closed the connection"):
            await send_on()
        await sending.close()

    asyncio.run(asyncio.wait_for(run(), 30.0))
