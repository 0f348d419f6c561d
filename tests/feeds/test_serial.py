"""The serial: feed over real pseudo-terminals, with a second process as the device; ports that are gone, or none."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import tty

import numpy as np
import pytest

from ecgedge import read
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import open_feed
from ecgedge.feeds.eeb_feed import NEVER
from ecgedge.feeds.serial import SerialLink, parse_serial_uri
from ecgedge.feeds.serial_port import MAX_UNREAD, FdPort, ThreadPort, import_serial
from ecgedge_bridge import Validity, make_result


def send(*words):
    return [sys.executable, "-m", "ecgedge", "feed", "send", *map(str, words)]


@contextlib.contextmanager
def device(*words):
    """A device in a second process; yields (process, the URI that it says)."""
    with subprocess.Popen(
        send(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process, process.stderr.readline().split()[-1]
        finally:
            process.kill()


async def heard(uri, *, results=0):
    """Return what the feed says, its chunks, its end and what it counted."""
    feed = await open_feed(uri)
    chunks, end = [], None
    try:
        async for chunk in feed:
            chunks.append(chunk)
            if len(chunks) <= results:
                index = feed.device_index(chunk.t_s)
                feed.send_result(make_result(seq=0, sample_index=index, validity=Validity.INV))
    except FeedError as error:
        end = str(error)
    finally:
        await feed.close()
        await feed.close()
    return feed.info, chunks, end, dict(feed.dropped)


def test_a_real_ecg_arrives_exactly_and_results_go_back(ecg_data):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    with device("--from", f"file:{record}", "--to", "serial:pty", "--speed", 10) as (process, uri):
        assert uri.startswith("serial:/dev/")
        info, chunks, end, dropped = asyncio.run(asyncio.wait_for(heard(uri, results=3), 60.0))
        out, said = process.communicate(timeout=60)
    ecg = read(record)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), ecg.samples_mv)
    assert dropped == {}
    assert "the port is gone" in end
    assert process.returncode == 0
    assert "result 3" in out
    assert said.count("result at sample") == 3


@contextlib.contextmanager
def null_modem():
    """Two ports with a cable between them; yields their names and how to cut it."""
    pairs = [os.openpty() for _ in range(2)]
    names = [os.ttyname(theirs) for _, theirs in pairs]
    for _, theirs in pairs:
        tty.setraw(theirs)

    def carry(source, target):
        with contextlib.suppress(OSError):
            while True:
                os.write(target, os.read(source, 4096))

    cables = [(pairs[0][0], pairs[1][0]), (pairs[1][0], pairs[0][0])]
    for cable in cables:
        threading.Thread(target=carry, args=cable, daemon=True).start()

    def cut():
        for ours, theirs in pairs:
            os.close(theirs)
            os.close(ours)
        pairs.clear()

    yield names, cut
    if pairs:
        cut()


def test_a_port_at_each_end_joined_in_the_middle_of_the_stream():
    with null_modem() as ((there, here), _):
        words = ["--from", "sim:stable?leads=I,II", "--duration", 4, "--to", f"serial:{there}?baud=115200"]
        with device(*words):

            async def run():
                await asyncio.sleep(0.5)
                feed = await open_feed(
                    f"serial:{here}?baud=115200&leads=I,II&rate_hz=500&lsb_nv=1000&mode=demo"
                )
                chunks = []
                async for chunk in feed:
                    chunks.append(chunk)
                    if len(chunks) == 40:
                        break
                await feed.close()
                return chunks, dict(feed.dropped)

            chunks, dropped = asyncio.run(asyncio.wait_for(run(), 30.0))
    assert chunks[0].t_s > 0.0
    assert np.diff([c.t_s for c in chunks]) == pytest.approx(0.02)
    assert not set(dropped) - {"bad_cobs", "bad_crc", "bad_length"}


def test_a_pulled_cable_is_told_once_all_is_read():
    async def run():
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(theirs, False)
        port = FdPort(theirs, release=lambda: os.close(theirs), uri="serial:x")
        os.write(ours, b"abc")
        assert await port.receive() == b"abc"
        port.write(b"hello")
        await port.drained()
        assert os.read(ours, 10) == b"hello"
        os.close(ours)
        with pytest.raises(FeedError, match=r"the port is gone .* was the cable pulled out"):
            await asyncio.wait_for(port.receive(), 60.0)
        assert port.unsent == NEVER
        port.write(b"into nothing")
        await port.close()
        assert await port.receive() is None

    asyncio.run(run())


def test_who_does_not_read_gets_no_more_than_has_room():
    async def run():
        source, sink = os.pipe()
        os.set_blocking(source, False)
        port = FdPort(source, release=lambda: os.close(source), uri="serial:x")
        writing = asyncio.to_thread(os.write, sink, bytes(3 * MAX_UNREAD))
        task = asyncio.create_task(writing)
        try:
            while port._inbox.room:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # in which it could take more
            got = await port.receive()
            assert len(got) == MAX_UNREAD
            while len(got) < 3 * MAX_UNREAD:
                got += await asyncio.wait_for(port.receive(), 60.0)
            await task
        finally:
            await port.close()  # whoever still writes is refused, and does not wait for ever
            os.close(sink)

    asyncio.run(run())


def test_where_only_threads_can_wait_it_is_the_same():
    async def run():
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        port = import_serial().Serial(os.ttyname(theirs), timeout=0.1)
        os.close(theirs)
        link = SerialLink(ThreadPort(port, uri="serial:x"))
        os.write(ours, b"abc")
        received = b""
        while len(received) < 3:  # it may come byte by byte
            received += await asyncio.wait_for(link.receive(), 60.0)
        assert received == b"abc"
        link.write(b"hello")
        await asyncio.wait_for(link._port.drained(), 60.0)
        assert os.read(ours, 10) == b"hello"
        os.close(ours)
        with pytest.raises(FeedError, match="the port is gone"):
            await asyncio.wait_for(link.receive(), 60.0)
        await link.close()
        await link.close()
        assert await link.receive() is None

    asyncio.run(run())


def test_closing_ends_the_iteration():
    async def run():
        ours, theirs = os.openpty()
        os.set_blocking(theirs, False)
        port = FdPort(theirs, release=lambda: os.close(theirs), uri="serial:x")
        reading = asyncio.create_task(port.receive())
        await asyncio.sleep(0.05)
        await port.close()
        assert await asyncio.wait_for(reading, 60.0) is None
        os.close(ours)

    asyncio.run(run())


def test_uri():
    address = parse_serial_uri("serial:/dev/ttyACM0")
    assert (address.device, address.baud, address.rtscts) == ("/dev/ttyACM0", 921_600, False)
    assert address.settings.declared is None
    address = parse_serial_uri("serial:COM3?baud=115200&rtscts=1&leads=I,-&rate_hz=250&lsb_nv=10")
    assert (address.device, address.baud, address.rtscts) == ("COM3", 115_200, True)
    assert address.settings.declared.channels == ("I", "-")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("serial:", "the device is not there"),
        ("serial:?baud=9600", "the device is not there"),
        ("serial:/dev/x?baud=fast", "baud is 'fast'"),
        ("serial:/dev/x?baud=0", "baud is '0'"),
        ("serial:/dev/x?rtscts=yes", "rtscts is 'yes'"),
        ("serial:/dev/x?parity=N", "unknown setting 'parity'"),
        ("serial:/dev/x?leads=I,I", "stands twice"),
    ],
)
def test_a_wrong_uri_says_what_is_accepted(uri, words):
    with pytest.raises(FeedError, match=words) as caught:
        parse_serial_uri(uri)
    assert "for example serial:/dev/ttyUSB0" in str(caught.value)


def test_a_port_that_is_not_there_says_so(tmp_path):
    (tmp_path / "file").write_text("no port")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(FeedError, match=r"cannot open the port .*Is the device plugged in"):
            asyncio.run(open_feed(f"serial:{path}"))


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(UsageError, match=r"ecgedge\[serial\]"):
        asyncio.run(open_feed("serial:/dev/ttyUSB0"))
