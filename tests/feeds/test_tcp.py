"""The tcp:// feed: URIs, frames to chunks, and a real ECG from a second process over a real socket."""

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import FeedError
from ecgedge.feeds.eeb_feed import MAX_UNSENT, open_eeb
from ecgedge.feeds.tcp import TcpLink, _connect, host_of, open_tcp, parse_tcp_uri
from ecgedge_bridge import (
    Alert,
    AlertKind,
    AlertPriority,
    Data,
    Decoder,
    SignalPresence,
    Validity,
    cobs,
    encode_stream,
    make_result,
    to_wire,
)
from ecgedge_bridge.crc import crc32c

URI = "tcp://127.0.0.1:5000?leads=I,II&rate_hz=500&lsb_nv=1000"


class Reader:
    """A host that hears everything at one moment."""

    def __init__(self, query):
        uri = f"tcp://host:1?{query}"
        self.host = host_of(uri, parse_tcp_uri(uri).settings)

    def push(self, received):
        return self.host.take(received, now_s=0.0)

    @property
    def dropped(self):
        """What the samples' way counts; `seq` is 0 in all frames here."""
        return {k: n for k, n in self.host.losses().items() if k not in ("seq_back", "lost_frames")}


def reader(query="leads=I,II&rate_hz=500&lsb_nv=1000"):
    return Reader(query)


def frame(index, *, t_us=None, seq=0, counts=(1000, -2000), n_channels=2, **more):
    t_us = index * 2000 if t_us is None else t_us
    data = Data(seq=seq, sample_index=index, t_us=t_us, n_channels=n_channels, counts=counts, **more)
    return to_wire(data)


# ------------------------------------------------------------------------------------------ the URI


def test_uri():
    address = parse_tcp_uri(
        "tcp://[::1]:5000?leads=V1,-,avr,I&rate_hz=250&lsb_nv=286.1&mode=demo&chunk_ms=50"
    )
    declared = address.settings.declared
    assert (address.host, address.port, declared.mode, declared.chunk_s) == ("::1", 5000, "demo", 0.05)
    assert declared.channels == ("V1", "-", "aVR", "I")
    assert declared.leads == ("I", "aVR", "V1")


@pytest.mark.parametrize("query", ["", "?band_hz=0.05,150&drift_ppm=50", "?leads=I,II&rate_hz=500"])
def test_what_info_says_may_be_left_out(query):
    settings = parse_tcp_uri(f"tcp://host:5000{query}").settings
    assert settings.declared is None
    assert settings.drift_ppm == (50.0 if "drift" in query else 200.0)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("tcp://host?leads=I&rate_hz=500&lsb_nv=1", "host and port"),
        ("tcp://:5000?leads=I&rate_hz=500&lsb_nv=1", "host and port"),
        ("tcp://host:99999?leads=I&rate_hz=500&lsb_nv=1", "Port out of range"),
        ("udp://host:5000?leads=I&rate_hz=500&lsb_nv=1", "host and port"),
        ("tcp://host:5000?drift_ppm=-1", "drift_ppm is '-1'"),
        ("tcp://host:5000?drift_ppm=fast", "drift_ppm is 'fast'"),
        ("tcp://host:5000?leads=I&rate_hz=500&lsb_nv=1&gain=2", "unknown setting 'gain'"),
        ("tcp://host:5000?leads=I&leads=II&rate_hz=500&lsb_nv=1", "twice"),
        ("tcp://host:5000?leads=I,I&rate_hz=500&lsb_nv=1", "stands twice"),
        ("tcp://host:5000?leads=I,X&rate_hz=500&lsb_nv=1", "unknown lead 'X'"),
        ("tcp://host:5000?leads=-&rate_hz=500&lsb_nv=1", "at least one lead"),
        ("tcp://host:5000?leads=I&rate_hz=fast&lsb_nv=1", "rate_hz is 'fast'"),
        ("tcp://host:5000?leads=I&rate_hz=50&lsb_nv=1", "50 Hz is not usable"),
        ("tcp://host:5000?leads=I&rate_hz=500&lsb_nv=0", "lsb_nv is '0'"),
        ("tcp://host:5000?leads=I&rate_hz=500&lsb_nv=nan", "lsb_nv is 'nan'"),
        ("tcp://host:5000?leads=I&rate_hz=500&lsb_nv=1&mode=live", "mode 'live'"),
        ("tcp://host:5000?leads", "bad query field"),
    ],
)
def test_a_wrong_uri_says_what_is_accepted(uri, words):
    with pytest.raises(FeedError, match=words) as caught:
        parse_tcp_uri(uri)
    assert "for example tcp://" in str(caught.value)


# ------------------------------------------------------------------------------------------ frames to chunks


def test_counts_become_millivolts_in_standard_lead_order():
    # Channel order V1, spare, I; 1000 nV per count: 1000 counts are 1 mV.
    chunks = reader("leads=V1,-,I&rate_hz=500&lsb_nv=1000").push(
        frame(500, counts=(100, 7, 1000, -200, 7, 2000), n_channels=3)
    )
    (chunk,) = chunks
    assert chunk.t_s == 1.0
    assert chunk.samples_mv.dtype == np.float32
    np.testing.assert_allclose(chunk.samples_mv, [[1.0, 2.0], [0.1, -0.2]], rtol=1e-6)


@pytest.mark.parametrize("bit", [1, 17])
def test_either_input_off_makes_the_lead_nan(bit):
    (chunk,) = reader().push(frame(0, lead_off=1 << bit))
    np.testing.assert_array_equal(np.isnan(chunk.samples_mv), [[False], [True]])


def test_lead_off_bits_of_channels_that_do_not_exist_are_ignored():
    (chunk,) = reader().push(frame(0, lead_off=0xFFFC_FFFC))
    assert not np.isnan(chunk.samples_mv).any()


def test_a_hole_in_the_index_is_a_hole_in_time():
    r = reader()
    chunks = r.push(frame(0) + frame(1) + frame(4) + frame(5))
    assert [c.t_s for c in chunks] == [0.0, 0.002, 0.008, 0.01]
    assert [c.seq for c in chunks] == [0, 1, 4, 5]
    assert r.dropped == {"lost_samples": 2}


def test_the_index_may_wrap():
    r = reader()
    first = 2**32 - 1
    chunks = r.push(b"".join(frame(i % 2**32, t_us=i * 2000) for i in (first, first + 1, first + 4)))
    assert [c.t_s for c in chunks] == [first / 500, (first + 1) / 500, (first + 4) / 500]
    assert r.dropped["lost_samples"] == 2


def test_a_frame_from_the_past_is_dropped_and_counted():
    r = reader()
    chunks = r.push(frame(100) + frame(99) + frame(101, t_us=1) + frame(101))
    assert [c.t_s for c in chunks] == [0.2, 0.202]
    assert r.dropped == {"stale": 1, "duplicates": 1}


def test_a_leap_of_more_than_an_hour_ends_the_feed():
    with pytest.raises(FeedError, match="leapt"):
        reader().push(frame(0) + frame(1 + 3600 * 500 + 1))


def test_another_number_of_channels_is_dropped_and_counted():
    r = reader()
    chunks = r.push(frame(0) + frame(1, counts=(1, 2, 3), n_channels=3) + frame(2))
    assert [c.t_s for c in chunks] == [0.0, 0.004]
    assert r.dropped == {"wrong_channels": 1, "lost_samples": 1}


def test_another_gain_is_dropped_and_counted():
    r = reader()
    assert len(r.push(frame(0, gain_id=3) + frame(1, gain_id=4) + frame(2, gain_id=3))) == 2
    assert r.dropped["gain_changed"] == 1


def test_a_result_from_a_device_is_counted_only():
    r = reader()
    assert r.push(to_wire(make_result(seq=0, sample_index=0, validity=Validity.INV))) == []
    assert r.dropped == {"not_data": 1}


def test_simulated_samples_never_pass_as_real():
    with pytest.raises(FeedError, match="simulated; declare mode=demo"):
        reader().push(frame(0, simulated=True))
    assert len(reader("leads=I,II&rate_hz=500&lsb_nv=1&mode=demo").push(frame(0, simulated=True))) == 1


@given(st.lists(st.integers(0, 60), max_size=6), st.sets(st.integers(0, 19)))
@settings(deadline=None, max_examples=50)
def test_chunking_never_matters_and_losses_never_shift(cuts, lost):
    samples = [(i, -i) for i in range(200)]
    frames = [f for i, f in enumerate(encode_stream(samples, rate_hz=500.0)) if i not in lost]
    stream = b"".join(frames)
    whole = reader().push(stream)
    parts, edges = reader(), [0, *sorted(c * len(stream) // 60 for c in cuts), len(stream)]
    portions = [c for a, b in itertools.pairwise(edges) for c in parts.push(stream[a:b])]
    assert [(c.t_s, c.seq, c.samples_mv.tobytes()) for c in portions] == [
        (c.t_s, c.seq, c.samples_mv.tobytes()) for c in whole
    ]
    for chunk in whole:
        first = round(chunk.t_s * 500)
        np.testing.assert_allclose(chunk.samples_mv[0], np.arange(first, first + 10) * 1e-3, rtol=1e-6)


# ------------------------------------------------------------------------------------------ over a socket


@contextlib.contextmanager
def device(tmp_path, counts, **plan):
    """A second process that plays `counts`; yields (port, process)."""
    np.save(tmp_path / "counts.npy", counts)
    plan = {"counts": str(tmp_path / "counts.npy"), "samples_per_frame": 20, **plan}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, str(Path(__file__).with_name("eeb_device.py")), str(tmp_path / "plan.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


async def drain(feed):
    return [chunk async for chunk in feed]


@pytest.fixture(scope="module")
def ecg_counts(ecg_data):
    """PTB-XL record 00001 at 500 Hz as the device's counts: (5000, 12), 1000 per mV, so 1000 nV each.

    WFDB format 16 is plain int16, so the numbers come here without any reader of ours.
    """
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr"
    header = record.with_suffix(".hea").read_text().splitlines()
    assert header[0].split()[1:4] == ["12", "500", "5000"]
    assert [line.split()[2] for line in header[1:13]] == ["1000.0(0)/mV"] * 12
    leads = [line.split()[8].upper() for line in header[1:13]]
    assert leads == ["I", "II", "III", "AVR", "AVL", "AVF", *(f"V{i}" for i in range(1, 7))]
    return np.fromfile(record.with_suffix(".dat"), "<i2").reshape(5000, 12)


@pytest.fixture(scope="module")
def ecg_mv(ecg_counts):
    """The same record in millivolts: (12, 5000)."""
    return ecg_counts.T / 1000.0


TWELVE = "leads=I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6&rate_hz=500&lsb_nv=1000"


def test_a_real_ecg_arrives_exactly_but_for_what_was_damaged(tmp_path, ecg_counts, ecg_mv):
    async def run(port):
        feed = await open_tcp(f"tcp://127.0.0.1:{port}?{TWELVE}", speed=1.0)
        try:
            return feed.info, await drain(feed), feed.dropped
        finally:
            await feed.close()
            await feed.close()

    faults = {"drop": [10, 11], "flip": [100], "lead_off": 1 << 7}
    with device(tmp_path, ecg_counts, rate_hz=500.0, first_index=2**32 - 1000, **faults) as (port, _):
        info, chunks, dropped = asyncio.run(run(port))
    assert (info.leads[0], info.leads[11], info.rate_hz, info.mode) == ("I", "V6", 500.0, "real")

    got = np.full((12, 5000), np.inf)
    for chunk in chunks:
        at = round(chunk.t_s * 500) - (2**32 - 1000)
        got[:, at : at + chunk.samples_mv.shape[1]] = chunk.samples_mv
    damaged = np.zeros(5000, bool)
    damaged[200:240] = damaged[2000:2020] = True
    assert np.isinf(got[:, damaged]).all()
    assert np.isnan(got[7, ~damaged]).all()
    others = np.arange(12) != 7
    np.testing.assert_allclose(got[others][:, ~damaged], ecg_mv[others][:, ~damaged], atol=1e-6)
    assert len(chunks) == 247
    assert {**dropped, "bad_crc": 0, "bad_cobs": 0} == {
        "lost_samples": 60,
        "lost_frames": 3,
        "bad_crc": 0,
        "bad_cobs": 0,
    }
    assert dropped.get("bad_crc", 0) + dropped.get("bad_cobs", 0) == 1


def test_24_bit_samples_arrive_too(tmp_path, ecg_counts, ecg_mv):
    async def run(port):
        uri = f"tcp://127.0.0.1:{port}?leads=V1,II,-&rate_hz=500&lsb_nv=7.8125&mode=test"
        feed = await open_tcp(uri, speed=1.0)
        chunks = await drain(feed)
        await feed.close()
        return chunks

    # 128 times finer, as a 24-bit converter is; beyond 16 bits.
    counts = ecg_counts[:, [6, 1, 2]].astype(int) * 128
    assert np.abs(counts).max() > 32767
    with device(tmp_path, counts, rate_hz=500.0, fmt="I24") as (port, _):
        chunks = asyncio.run(run(port))
    got = np.concatenate([c.samples_mv for c in chunks], axis=1)
    np.testing.assert_allclose(got, ecg_mv[[1, 6]], atol=1e-6)


def test_results_go_back_over_the_same_connection(tmp_path, ecg_counts):
    async def run(port):
        feed = await open_tcp(f"tcp://127.0.0.1:{port}?{TWELVE}", speed=1.0)
        sent = make_result(seq=0, sample_index=4999, validity=Validity.VLD, mpcwp_mmhg=17.2, p_elevated=0.4)
        feed.send_result(sent)
        feed.send_result(make_result(seq=0, sample_index=5000, validity=Validity.INV))
        await drain(feed)
        await feed.close()
        feed.send_result(sent)  # too late: nobody hears, nothing breaks
        return feed.status()["sent"], feed.dropped

    with device(tmp_path, ecg_counts, rate_hz=500.0, results=2) as (port, process):
        sent, dropped = asyncio.run(run(port))
        assert process.stdout.read().splitlines() == ["4999 17.2 VLD", "5000 None INV"]
    assert (sent, dropped) == ({"result": 2}, {})


def test_a_reset_is_a_lost_feed(tmp_path, ecg_counts):
    async def run(port):
        feed = await open_tcp(f"tcp://127.0.0.1:{port}?{TWELVE}", speed=1.0)
        try:
            # The device answers one result with a reset.
            feed.send_result(make_result(seq=0, sample_index=0, validity=Validity.INV))
            with pytest.raises(FeedError, match="the connection broke"):
                await drain(feed)
        finally:
            await feed.close()

    with device(tmp_path, ecg_counts[:100], rate_hz=500.0, results=1, end="reset") as (port, _):
        asyncio.run(run(port))


def test_a_refused_connection_says_so():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    uri = f"tcp://127.0.0.1:{port}?leads=I&rate_hz=500&lsb_nv=1"
    with pytest.raises(FeedError, match=r"cannot connect .*Is the device on"):
        asyncio.run(open_tcp(uri, speed=1.0))


def test_a_name_that_is_none_says_so():
    with pytest.raises(FeedError, match="cannot connect"):
        asyncio.run(open_tcp("tcp://a..b:5000?leads=I&rate_hz=500&lsb_nv=1", speed=1.0))


@contextlib.contextmanager
def silent_peer():
    """A peer that never reads and never sends: the kernel takes the connection, nobody accepts it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield URI.replace("5000", str(server.getsockname()[1]))


def test_a_device_that_does_not_read_never_holds_up_the_host():
    result = make_result(seq=0, sample_index=0, validity=Validity.INV)
    alert = Alert(
        seq=0, sample_index=0, condition=5, kind=AlertKind.TECHNICAL, priority=AlertPriority.LOW,
        present=True, signal=SignalPresence.ON,
    )  # fmt: skip

    async def run(uri):
        feed = await open_tcp(uri, speed=1.0)
        # Until the kernel's buffers on both sides are full and ours begin to fill.
        for _ in range(1_000_000):
            feed.send_result(result)
            if feed.dropped.get("results_unsent", 0) > 10:
                break
        assert feed.dropped == {"results_unsent": 11}
        sent = feed.status()["sent"]
        feed.send_alert(alert)
        assert feed.status()["sent"] == sent
        assert next(feed._host.out.take(now_s=1e9)).condition == 5  # kept, and first when there is room
        assert feed._link.unsent <= MAX_UNSENT + len(to_wire(result))
        await asyncio.wait_for(feed.close(), 30.0)

    with silent_peer() as uri:
        asyncio.run(run(uri))


def test_closing_ends_the_iteration():
    async def run(uri):
        feed = await open_tcp(uri, speed=1.0)
        reading = asyncio.create_task(drain(feed))
        await asyncio.sleep(0.05)
        assert not reading.done()
        await feed.close()
        assert await asyncio.wait_for(reading, 30.0) == []

    with silent_peer() as uri:
        asyncio.run(run(uri))


# ------------------------------------------------------------------------------------------ what comes is not known


def opened_with(sent, *, wait_s=0.5):
    """Open a feed, by its address alone, of a peer that sends these bytes and stays; return what the peer hears."""
    heard = []

    async def run():
        async def greet(reader, writer):
            writer.write(sent)
            heard.append(await reader.read(4096))
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        uri = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = TcpLink(uri, await _connect("127.0.0.1", int(uri.rpartition(":")[2])))
        try:
            with pytest.raises(FeedError) as caught:
                await open_eeb(link, host_of(uri, parse_tcp_uri(uri).settings), uri=uri, wait_s=wait_s)
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.05)
        return str(caught.value)

    return asyncio.run(run()), [f for data in heard for f in Decoder().push(data)]


def test_a_device_without_info_says_what_to_do():
    said, _ = opened_with(frame(0) + frame(1, seq=1))
    assert "2 frames of the bridge protocol and no INFO for 0.5 s" in said
    assert "name its leads, rate_hz and lsb_nv in the URI" in said


def test_a_peer_that_is_no_device_says_so():
    said, _ = opened_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert "no whole frame and no INFO for 0.5 s" in said


def test_another_major_version_is_refused_with_an_error_and_a_reason():
    body = bytearray(cobs.decode(frame(0)[:-1], limit=640)[:-4])
    body[0] = 2
    wire = cobs.encode(bytes(body) + crc32c(bytes(body)).to_bytes(4, "little")) + b"\0"
    said, heard = opened_with(wire)
    assert "another major version of the bridge protocol than 1" in said
    (error,) = heard
    assert (error.code, error.detail) == (1, 1)
