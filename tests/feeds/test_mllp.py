"""The mllp:// feed: a real ECG from a second process, the package hl7 as a peer, strangers, garbage, other patients."""

import asyncio
import contextlib
import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pytest
from free_ports import free_port
from hypothesis import given, settings
from hypothesis import strategies as st
from mosquitto import certificates

from ecgedge import read
from ecgedge.errors import FeedError
from ecgedge.feeds import open_feed
from ecgedge.feeds.mllp import PatientMessages, parse_mllp_uri
from ecgedge.hl7 import Envelope, Waveforms, frame, read_acknowledgement, write_waveforms

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)


def message(patient="A", *, start_s=0.0, leads=("I", "II"), rate_hz=500.0, mode="test", n=500, value=0.5):
    samples_mv = np.full((len(leads), n), value, np.float32)
    start = datetime.fromtimestamp(NOW.timestamp() + start_s, timezone.utc)
    waveforms = Waveforms(start, rate_hz, tuple(leads), samples_mv, patient, mode)
    return write_waveforms(waveforms, Envelope(NOW, "7"))


def take(messages, data):
    waveforms, answer = messages.take(data, NOW, 1)
    return waveforms, None if answer is None else read_acknowledgement(answer)


# ------------------------------------------------------------------------------------- messages, no I/O


def test_a_feed_is_one_patient_whoever_else_is_sent():
    messages = PatientMessages(None)
    waveforms, answer = take(messages, message("A"))
    assert (waveforms.patient_id, answer.accepted, answer.control_id) == ("A", True, "7")
    for other in ("B", None):
        waveforms, answer = take(messages, message(other))
        assert waveforms is None
        assert (answer.code, answer.text) == ("AE", "not taken: other patient")
    assert take(messages, message("A"))[0] is not None
    assert messages.dropped == {"other_patient": 2}


def test_the_patient_of_the_uri_is_waited_for():
    messages = PatientMessages("B")
    assert take(messages, message("A"))[0] is None
    assert messages.first is None
    assert take(messages, message("B"))[0].patient_id == "B"


@pytest.mark.parametrize("other", [{"leads": ("I",)}, {"rate_hz": 250.0}, {"mode": "real"}, {"mode": "demo"}])
def test_another_signal_never_mixes_in(other):
    messages = PatientMessages(None)
    take(messages, message())
    waveforms, answer = take(messages, message(**other))
    assert (waveforms, answer.code) == (None, "AE")
    assert messages.dropped == {"other_signal": 1}


def test_what_is_no_waveform_is_acknowledged_and_counted():
    messages = PatientMessages(None)
    waveforms, answer = take(messages, message().replace(b"|NA|", b"|ST|"))
    assert (waveforms, answer.code) == (None, "AA")
    assert take(messages, b"garbage") == (None, None)
    waveforms, answer = take(messages, message(rate_hz=20.0))
    assert (waveforms, answer.code) == (None, "AE")
    assert "20 Hz is not usable" in answer.text
    assert messages.dropped == {"no_waveform": 1, "bad_message": 1, "bad_waveform": 1}


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_messages_are_taken_or_counted_and_never_raise(data):
    messages = PatientMessages(None)
    bad = bytearray(message(n=20))
    for _ in range(data.draw(st.integers(1, 6))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    waveforms, _ = messages.take(bytes(bad), NOW, 1)
    assert (waveforms is None) == (sum(messages.dropped.values()) == 1)


# ------------------------------------------------------------------------------------- over sockets


@contextlib.contextmanager
def sender(source, uri, *more):
    command = [sys.executable, "-m", "ecgedge", "feed", "send", "--from", str(source), "--to", uri, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def listening(port):
    """Wait until someone listens."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody listens")


async def hear(uri, port, n_samples, talk):
    """Open the feed, let `talk` send, and return (info, chunks, dropped) once so many samples a lead have come."""
    opening = asyncio.create_task(open_feed(uri))
    await listening(port)
    talking = asyncio.create_task(talk())
    feed = await opening
    chunks = []
    async for chunk in feed:
        chunks.append(chunk)
        if sum(c.samples_mv.shape[1] for c in chunks) >= n_samples:
            break
    await talking
    dropped = dict(feed.dropped)
    await feed.close()
    await feed.close()
    return feed.info, chunks, dropped


@pytest.mark.parametrize("query", ["", "?message_s=0.25&lsb_nv=500"])
def test_a_real_ecg_arrives_exactly(ecg_data, query):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    port = free_port()
    uri = f"mllp://127.0.0.1:{port}"

    async def talk():
        with sender(f"file:{record}", uri + query, "--speed", "max") as process:
            assert await asyncio.to_thread(process.wait, 30.0) == 0

    info, chunks, dropped = asyncio.run(asyncio.wait_for(hear(uri, port, 5000, talk), 60.0))
    ecg = read(record)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), ecg.samples_mv)
    begin_s = chunks[0].t_s
    starts = np.cumsum([0, *(c.samples_mv.shape[1] for c in chunks)])[:-1] / 500.0
    np.testing.assert_allclose([c.t_s - begin_s for c in chunks], starts, atol=1e-6)
    assert dropped == {}


def test_another_packages_client_is_understood_and_understands():
    """PyPI hl7's own MLLP client sends, and reads the acknowledgement; between, what a wire may bring."""
    hl7 = pytest.importorskip("hl7", reason="needs the development group: make dev")
    from hl7.client import MLLPClient

    port = free_port()

    def talk():
        with MLLPClient("127.0.0.1", port) as client:
            first = hl7.parse(client.send_message(message(start_s=0.0)).strip(b"\x0b\x1c\r").decode())
            client.socket.sendall(
                b"garbage between" + b"\x0b" + b"x" * (10 << 20) + b"\x1c\r"
            )  # a 10 MB field
            second = client.send_message(message(start_s=1.0, value=0.25))
            return str(first.segment("MSA")), second

    async def run():
        answers = []

        async def in_thread():
            answers.append(await asyncio.to_thread(talk))

        heard = await hear(f"mllp://127.0.0.1:{port}", port, 1000, in_thread)
        return heard, answers[0]

    (_, chunks, dropped), (first, second) = asyncio.run(asyncio.wait_for(run(), 60.0))
    assert first.startswith("MSA|AA|7")
    assert b"MSA|AA|7" in second
    assert [float(c.samples_mv[0, 0]) for c in chunks] == [0.5, 0.25]
    assert dropped == {"bytes_outside": len("garbage between"), "oversized": 1}


def test_a_lost_message_is_a_hole_and_a_new_connection_goes_on():
    port = free_port()

    async def talk():
        for seconds in ((0.0, 1.0), (3.0, 4.0)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for start_s in seconds:
                writer.write(frame(message(start_s=start_s)))
                await writer.drain()
                assert b"MSA|AA" in await reader.read(1000)
            writer.close()

    _, chunks, dropped = asyncio.run(
        asyncio.wait_for(hear(f"mllp://127.0.0.1:{port}", port, 2000, talk), 30.0)
    )
    assert [round(c.t_s - chunks[0].t_s, 6) for c in chunks] == [0.0, 1.0, 3.0, 4.0]
    assert dropped == {"lost_samples": 500}


def test_nobody_who_sends_and_an_address_in_use_are_told(monkeypatch):
    monkeypatch.setattr("ecgedge.feeds.mllp.FIRST_S", 0.3)
    port = free_port()
    uri = f"mllp://127.0.0.1:{port}"
    with pytest.raises(FeedError, match=r"came: nothing at all.*is the monitor"):
        asyncio.run(open_feed(uri))

    async def twice():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        try:
            with pytest.raises(FeedError, match="cannot listen there"):
                await open_feed(uri)
        finally:
            server.close()

    asyncio.run(twice())


@pytest.mark.parametrize(
    "uri",
    ["mllp://host", "mllp://:1", "mllp://h:1?bed=2", "mllp://h:1?patient=1&patient=2", "mllp://h:99999"],
)
def test_a_wrong_uri_says_what_is_accepted(uri):
    with pytest.raises(FeedError, match="for example mllp://"):
        parse_mllp_uri(uri)


def test_tls_and_who_is_not_let_in(tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        certificates(folder)
    port = free_port()
    base = f"mllps://127.0.0.1:{port}"
    uri = f"{base}?cert={ours / 'server.pem'}&key={ours / 'server.key'}"

    async def talk():
        with sender(
            "sim:stable?leads=I,II", f"{base}?ca={other / 'ca.pem'}", "--duration", "3", "--speed", "max"
        ) as refused:
            _, said = await asyncio.to_thread(refused.communicate)
        assert "certificate" in said.lower()
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "ecgedge", "feed", "send", "--from", "sim:stable?leads=I,II", "--to",
                             f"{base}?ca={ours / 'ca.pem'}", "--duration", "3", "--speed", "max"], check=True,
            capture_output=True,
        )  # fmt: skip

    info, chunks, _ = asyncio.run(hear(uri, port, 1500, talk))
    assert info.leads == ("I", "II")
    assert sum(c.samples_mv.shape[1] for c in chunks) == 1500


@pytest.mark.parametrize(
    ("query", "said"),
    [("", "needs cert=FILE"), ("?cert=/no/file", "No such file"), ("?ca=x", "known are cert")],
)
def test_a_wrong_uri_of_tls_says_what_is_missing(query, said):
    with pytest.raises(FeedError, match=said):
        parse_mllp_uri(f"mllps://127.0.0.1:2575{query}")
