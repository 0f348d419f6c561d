"""`ecgedge listen` beside a ward, as a user has them: stopped, killed, and in the company of garbage."""

import asyncio
import json
import os
import signal
import socket
import time
from contextlib import suppress

import numpy as np
import pytest

from ecgedge.wards.control import ask

FEED = "sim:lead-off?seed=1&rate_hz=250&chunk_ms=500"
STABLE = "sim:stable?seed=2&rate_hz=250&chunk_ms=500"
WARD = f"""
[ward]
control = "w.sock"
events = "events.jsonl"
journals = "journals"
state = "state"
delivery_s = 1.5

[[bed]]
name = "a"
feed = "{FEED}"

[[bed]]
name = "b"
feed = "{STABLE}"
"""


def until(is_so, *, within_s=60.0):
    end_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def read(path):
    """Whole lines only: the last may be in the middle of being written."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


@pytest.fixture
def start(cli, tmp_path):
    """Start a command whose output goes to a file of its name; all end with the test."""
    processes, files = [], []

    def start(*arguments, out):
        files.append((tmp_path / out).open("ab"))
        errors = (tmp_path / f"{out}.err").open("ab")
        files.append(errors)
        processes.append(cli.start(*arguments, stdout=files[-2], stderr=errors))
        return processes[-1]

    yield start
    for process in processes:
        with process, suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
    for file in files:
        file.close()


@pytest.fixture
def ward(start, tmp_path):
    """A ward at twenty times the pace of time, in which leads of bed a fall off and return."""
    (tmp_path / "beds.toml").write_text(WARD)
    process = start("ward", "--beds", "beds.toml", "--speed", "20", out="ward")
    events = tmp_path / "events.jsonl"
    until(lambda: {"a", "b"} <= {e["bed"] for e in read(events) if e["type"] == "self_check"})
    return process


@pytest.fixture
def listener(start, ward, tmp_path):
    process = start("listen", "w.sock", "--station", "desk-3", out="desk")
    until(lambda: station(tmp_path) and (tmp_path / "desk").stat().st_size)
    return process


def failed(folder, bed):
    return [
        e["presence"]
        for e in read(folder / "events.jsonl")
        if e["bed"] == bed and e.get("condition") == "DELIVERY_FAILED"
    ]


def station(folder):
    return asyncio.run(ask(folder / "w.sock", {"do": "status"}))["channels"]["stations"].get("desk-3")


def test_a_station_that_stops_fails_and_one_that_goes_on_catches_up(cli, ward, listener, tmp_path):
    until(lambda: station(tmp_path)["confirmed"] > 0)
    assert station(tmp_path)["delivery"] == "confirmed"
    assert failed(tmp_path, "a") == []
    listener.send_signal(signal.SIGSTOP)
    until(lambda: failed(tmp_path, "a") == ["on"])
    assert station(tmp_path)["delivery"] == "not confirmed"
    listener.send_signal(signal.SIGCONT)
    until(lambda: failed(tmp_path, "a")[:2] == ["on", "off"])
    until(lambda: station(tmp_path)["unconfirmed"] == 0)
    cli("tell", "w.sock", "drain")
    assert ward.wait(30.0) == 0
    assert listener.wait(30.0) == 1
    heard = [e for e in read(tmp_path / "desk") if e["bed"] == "a" and e["type"] == "alarm"]
    assert [{k: v for k, v in e.items() if k != "delivery"} for e in heard] == [
        e for e in read(tmp_path / "events.jsonl") if e["bed"] == "a" and e["type"] == "alarm"
    ]
    said = (tmp_path / "desk.err").read_text()
    assert "listening as desk-3" in said
    assert "does not send any more" in said
    assert "Traceback" not in said
    for bed, feed in (("a", FEED), ("b", STABLE)):
        done = cli("journal", "replay", f"journals/{bed}.jsonl", "--feed", feed)
        assert done.stdout.endswith(" events equal\n")


def test_a_station_that_is_killed_is_missed_by_all_beds_until_it_is_dismissed(
    cli, ward, listener, start, tmp_path
):
    listener.kill()
    until(lambda: failed(tmp_path, "a") == failed(tmp_path, "b") == ["on"])
    assert station(tmp_path) == {"delivery": "gone"}
    start("listen", "w.sock", "--station", "desk-3", out="desk-again")
    until(lambda: failed(tmp_path, "a") == failed(tmp_path, "b") == ["on", "off"])
    cli("tell", "w.sock", "dismiss", "station=desk-3", "user=Nurse Seven")
    until(lambda: station(tmp_path) is None)
    time.sleep(1.0)
    assert failed(tmp_path, "b") == ["on", "off"]


def test_a_station_whose_reader_does_not_read_does_not_confirm(cli, ward, tmp_path):
    process = cli.start("listen", "w.sock", "--station", "desk-3")  # nobody reads its pipe
    try:
        until(lambda: failed(tmp_path, "a") == ["on"])
    finally:
        process.kill()
        process.communicate()


def test_garbage_on_the_socket_harms_nobody(cli, ward, listener, tmp_path):
    noise = np.random.default_rng(7)
    pieces = [
        b"\n".join([noise.bytes(200) for _ in range(50)]) + b"\n",
        b'{"do":"confirm","delivery":1}\n{"do":"confirm"}\n{"do":"listen"}\n{"do":"listen","station":"../x"}\n',
        b'{"do":"listen","station":"x1"}\n{"do":"listen","station":"x1"}\n'
        b'{"do":"confirm","delivery":99999}\n{"do":"confirm","delivery":true}\n' + noise.bytes(5000),
        b"x" * 100_000,
    ]
    for piece in pieces:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(10.0)
            connection.connect(str(tmp_path / "w.sock"))
            connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):  # until all is answered
                pass
    until(lambda: failed(tmp_path, "b") == ["on"])  # x1 has listened, and is gone
    cli("tell", "w.sock", "dismiss", "station=x1", "user=Nurse Seven")
    until(lambda: failed(tmp_path, "b") == ["on", "off"])
    assert listener.poll() is None
    until(lambda: station(tmp_path)["delivery"] == "confirmed")
    assert asyncio.run(ask(tmp_path / "w.sock", {"do": "status"}))["refused_commands"]["unknown_command"] > 40
    assert "Traceback" not in (tmp_path / "ward.err").read_text()


def test_a_station_that_listens_again_is_back_when_the_ward_is(ward, start, tmp_path):
    """A killed ward and the next one: the station is told what is on, and no bed misses it."""
    start("listen", "w.sock", "--station", "desk-3", "--again", out="desk")
    until(lambda: station(tmp_path) and station(tmp_path)["confirmed"] > 0)
    ward.kill()
    ward.wait()
    until(lambda: "trying again" in (tmp_path / "desk.err").read_text())
    lines = len(read(tmp_path / "desk"))
    start("ward", "--beds", "beds.toml", "--speed", "20", out="ward-again")
    until(lambda: len(read(tmp_path / "desk")) > lines)
    until(lambda: station(tmp_path)["delivery"] == "confirmed")
    assert (tmp_path / "desk.err").read_text().count("listening as desk-3") == 2


def test_what_cannot_be_is_said(cli, ward, tmp_path):
    assert "no ward listens on x.sock" in cli("listen", "x.sock", "--station", "a", exits=2).stderr
    assert "the ward refuses: name is 'a/b'" in cli("listen", "w.sock", "--station", "a/b", exits=2).stderr
