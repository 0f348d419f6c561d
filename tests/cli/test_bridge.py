"""A device in a second process: its frames in over a socket, RESULT frames back, and a cable pulled out."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ecgedge.records import read
from ecgedge_bridge import encode_stream

DEVICE = Path(__file__).parents[1] / "feeds" / "eeb_device.py"
LSB_NV = 1000.0


@contextlib.contextmanager
def _device(folder, **plan):
    """Start the device; yields (process, port)."""
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    command = [sys.executable, str(DEVICE), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def real_counts(ecg_data, tmp_path):
    """60 s of leads II and V5 of MIT-BIH record 100, as counts of 1000 nV (samples x channels)."""
    samples_mv = read(ecg_data / "long_2lead" / "mitdb" / "100.hea").samples_mv[:, : 60 * 360]
    path = tmp_path / "counts.npy"
    np.save(path, np.round(samples_mv.T / (LSB_NV * 1e-6)).astype(int))
    return path


def _uri(port, **more):
    query = {"leads": "II,V5", "rate_hz": 360, "lsb_nv": LSB_NV, **more}
    return f"tcp://127.0.0.1:{port}?" + "&".join(f"{key}={value}" for key, value in query.items())


def _plan(counts, **more):
    return {"counts": str(counts), "rate_hz": 360, "samples_per_frame": 12, **more}


def test_each_estimate_goes_back_to_the_device(cli, tmp_path, real_counts):
    with _device(tmp_path, **_plan(real_counts, results=11)) as (device, port):
        events = cli.stream(_uri(port), "--sink", "bridge")
        seen = [line.split() for line in device.stdout.read().splitlines()]
    estimates = [e for e in events if e["type"] == "estimate"]
    assert len(estimates) == len(seen) == 11
    for estimate, (index, mpcwp, validity) in zip(estimates, seen, strict=True):
        assert int(index) == round(estimate["t_s"] * 360) - 1
        assert float(mpcwp) == pytest.approx(estimate["mpcwp_mmhg"], abs=0.051)
        assert validity == {"valid": "VLD", "questionable": "QST"}[estimate["validity"]]


def test_over_the_wire_or_from_the_file_the_estimates_agree(cli, ecg_data, tmp_path, real_counts):
    with _device(tmp_path, **_plan(real_counts)) as (_, port):
        wired = cli.stream(_uri(port))
    played = cli.stream(f"file:{ecg_data / 'long_2lead' / 'mitdb' / '100.hea'}", "--duration", "60")
    estimates = [[e for e in events if e["type"] == "estimate"] for events in (wired, played)]
    pairs = list(zip(*estimates, strict=True))
    assert len(pairs) == 11
    for a, b in pairs:
        # Counts of 1 uV are coarser than the file's millivolts, by up to half a count.
        assert a["mpcwp_mmhg"] == pytest.approx(b["mpcwp_mmhg"], abs=0.5)
        assert (a["variant"], a["validity"]) == (b["variant"], b["validity"])


def test_a_pulled_cable_is_a_lost_feed(cli, tmp_path, real_counts):
    # The device waits for two results, so that all its frames have been read before it breaks off.
    with _device(tmp_path, **_plan(real_counts, results=11, end="reset")) as (_, port):
        events = cli.stream(_uri(port), "--sink", "bridge", exits=3)
    (lost,) = [e for e in events if e["type"] == "feed" and e["state"] == "lost"]
    # Whether a time server holds the clock is the machine's matter.
    (alarm,) = [e for e in events if e["type"] == "alarm" and e["condition"] != "CLOCK_UNSYNC"]
    assert (alarm["condition"], alarm["presence"], alarm["t_s"]) == ("FEED_LOST", "on", lost["t_s"])
    assert lost["t_s"] == pytest.approx(60.0, abs=0.01)
    assert events[-1]["type"] == "summary"
    assert {**events[-1]["alarms"], "CLOCK_UNSYNC": 0} == {"FEED_LOST": 1, "CLOCK_UNSYNC": 0}


def test_lost_frames_are_a_gap_in_time_and_counted(cli, tmp_path, real_counts):
    with _device(tmp_path, **_plan(real_counts, drop=list(range(900, 915)), flip=[1200])) as (_, port):
        events = cli.stream(_uri(port))
    gaps = [e for e in events if e["type"] == "feed" and e["state"] == "gap"]
    assert [gap["age_s"] for gap in gaps] == [pytest.approx(0.5), pytest.approx(12 / 360)]
    assert events[-1]["dropped_samples"] == 16 * 12
    invalid = [e["t_s"] for e in events if e["type"] == "estimate" and e["validity"] == "invalid"]
    assert invalid


def test_simulated_frames_must_be_declared(cli, tmp_path, real_counts):
    with _device(tmp_path, **_plan(real_counts, simulated=True)) as (_, port):
        done = cli("stream", "--feed", _uri(port), "--speed", "max", exits=3)
    assert "mode=demo" in done.stderr


SECOND = list(encode_stream([[k % 100, 0] for k in range(360)], rate_hz=360, samples_per_frame=12))


@contextlib.contextmanager
def _by_hand(cli, *options):
    """A stream whose device is the test: yields (the device's socket, what the stream says as it says it).

    Whoever says nothing more for two minutes is killed, and has then said its last.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = _uri(server.getsockname()[1])
        process = cli.start("stream", "--feed", uri, "--format", "jsonl", *options)
        stuck = threading.Timer(120.0, process.kill)
        stuck.start()
        try:
            server.settimeout(120.0)
            with server.accept()[0] as peer:
                yield peer, map(json.loads, process.stdout)
            cli.finish(process)
        finally:
            stuck.cancel()
            process.kill()


@pytest.mark.parametrize("speed", ["1", "max"])
def test_a_device_that_falls_silent_is_lost_in_its_own_time_whatever_the_speed(cli, speed):
    with _by_hand(cli, "--speed", speed) as (device, events):
        device.sendall(b"".join(SECOND))
        alarms = []
        for event in events:
            # Whether a time server holds the clock is the machine's matter.
            if event["type"] == "alarm" and event["condition"] != "CLOCK_UNSYNC":
                alarms.append(event)
                if event["presence"] == "on" and event["t_s"] >= 1.0:  # behind all samples
                    break
    assert {alarm["condition"] for alarm in alarms} == {"FEED_LOST"}
    assert alarms[-1]["t_s"] == pytest.approx(3.0, abs=0.01)


def test_a_device_that_pauses_is_not_lost_sooner_at_another_speed(cli, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        "feed_lost_s = 60\n"
    )  # a pause of 600 s if it took the speed's time, and 0.6 s in its own
    half = len(SECOND) // 2
    with _by_hand(cli, "--speed", "1000", "--policy", str(policy)) as (device, events):
        device.sendall(b"".join(SECOND[:half]))
        assert next(event for event in events if event["type"] == "feed")["state"] == "connected"
        time.sleep(0.6)
        device.sendall(b"".join(SECOND[half:]))
        device.shutdown(socket.SHUT_WR)
        said = list(events)
    assert said[-1]["type"] == "summary"
    assert [event for event in said if event["type"] == "alarm"] == []


def test_a_device_that_hangs_up_at_once_is_an_empty_feed(cli):
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = _uri(server.getsockname()[1])
        process = cli.start("stream", "--feed", uri, "--format", "jsonl")
        server.settimeout(30.0)
        server.accept()[0].close()
        done = cli.finish(process, exits=3)
    assert "without a single sample" in done.stderr
    (summary,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (summary["type"], summary["windows"]) == ("summary", 0)


# --- INFO, ALERT, ACK ---

INFO = {"rate_num": 360, "lsb_pv": 1_000_000, "leads": [2, 11]}


def test_an_address_is_enough_and_the_device_is_told_of_alarms_and_acknowledges(cli, tmp_path, real_counts):
    plan = _plan(real_counts, info=INFO, lead_off=1 << 1, results=11, alerts=True, ack=5)
    with _device(tmp_path, **plan) as (device, port):
        done = cli("stream", "--feed", f"tcp://127.0.0.1:{port}", "--sink", "bridge", "--format", "jsonl")
        said = [line.split() for line in device.stdout.read().splitlines()]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    alarms = [e for e in events if e["type"] == "alarm" and e["condition"] == "LEAD_OFF"]
    assert [(a["signal"], a.get("user")) for a in alarms] == [
        ("on", None),
        ("acknowledged", "user 7 of front end SN-1"),
    ]
    told = [words[2:] for words in said if words[:2] == ["alert", "5"]]
    on_index = str(round(alarms[0]["t_s"] * 360))
    assert told[0] == ["ON", on_index]
    assert told[-1][0] == "ACKNOWLEDGED"
    assert len([words for words in said if words[0] != "alert"]) == 11
    assert "the device is SN-1, firmware 1.0.0, mode real" in done.stderr


def test_a_device_that_starts_anew_is_a_gap_and_is_counted(cli, tmp_path, real_counts):
    plan = _plan(real_counts, info=INFO, restart=900, away_s=0.5, results=11)
    with _device(tmp_path, **plan) as (device, port):
        done = cli("stream", "--feed", f"tcp://127.0.0.1:{port}", "--sink", "bridge", "--format", "jsonl")
        results = [line.split() for line in device.stdout.read().splitlines()]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (gap,) = [e for e in events if e["type"] == "feed" and e["state"] == "gap"]
    # Played faster than time: arrival says nothing, and the least hole is taken, or more where this machine is late.
    assert 0.24 < gap["age_s"] < 5.0
    assert "the device started anew" in done.stderr
    assert "restarts 1" in done.stderr
    assert events[-1]["type"] == "summary"
    # The device's count began anew with the window that ends after the restart.
    estimates = [e for e in events if e["type"] == "estimate" and e["t_s"] > gap["t_s"]]
    assert [int(r[0]) for r in results][-len(estimates) :] == [
        round((e["t_s"] - gap["t_s"]) * 360) - 1 for e in estimates
    ]


def test_a_uri_that_contradicts_the_device_is_refused(cli, tmp_path, real_counts):
    with _device(tmp_path, **_plan(real_counts, info=INFO)) as (_, port):
        done = cli("stream", "--feed", f"tcp://127.0.0.1:{port}?leads=I,II", exits=3)
    assert "says leads=I,II, and the device (SN-1, firmware 1.0.0) says II,V5" in done.stderr
