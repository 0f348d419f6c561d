"""`ecgedge feed send` as a user runs it: a recording into tcp://, heard by `ecgedge stream`; what is wrong is named."""

import json
import subprocess
import sys

import pytest


def ecgedge(*words):
    return [sys.executable, "-m", "ecgedge", *map(str, words)]


def test_a_second_process_plays_and_the_first_streams():
    send = ecgedge(
        "feed", "send", "--from", "sim:stable?leads=I,II,V1", "--to", "tcp://127.0.0.1:0", "--speed", "max",
        "--duration", "14", "--drop", "0.01", "--corrupt", "1e-5", "--lead-off", "V1@12s",
    )  # fmt: skip
    with subprocess.Popen(send, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as device:
        said = device.stderr.readline()
        uri = said.split()[-1]
        assert "waiting for a host: tcp://127.0.0.1:" in said
        heard = subprocess.run(
            ecgedge("stream", "--feed", uri, "--format", "jsonl"), capture_output=True, text=True, timeout=60
        )
        out, _ = device.communicate(timeout=30)
    assert device.returncode == 0
    assert out.splitlines()[0] == "7000 samples a lead sent (demo)"
    assert "the device is ECGEDGE-RIG, firmware 0.1.0, mode demo" in heard.stderr
    events = [json.loads(line) for line in heard.stdout.splitlines()]
    assert {e["mode"] for e in events if e["type"] == "estimate"} == {"demo"}
    assert any(e["type"] == "feed" and e["state"] == "gap" for e in events)
    assert any(e["type"] == "feed" and e["state"] == "lead_off" and e["lead"] == "V1" for e in events)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--to", "udp://host"], 2, "expected one of tcp:"),
        (["--to", "tcp://127.0.0.1:0?speed=2"], 3, "expected tcp://HOST:PORT"),
        (["--to", "tcp://127.0.0.1:99999"], 3, "Port out of range"),
        (["--to", "ws://[127.0.0.1:0"], 3, "Invalid IPv6 URL; expected ws://HOST:PORT/PATH"),
        (["--to", "lsl:?type=ECG"], 3, "an outlet needs a name"),
        (["--to", "mqtt://127.0.0.1:9/x?format=xml"], 3, "expected binary or json"),
        (["--to", "mqtt://127.0.0.1:9/x"], 3, "cannot connect"),
        (["--to", "tcp://127.0.0.1:0", "--drop", "2"], 2, "--drop is 2"),
        (["--to", "tcp://127.0.0.1:0", "--duration", "0"], 2, "--duration"),
        (["--to", "tcp://127.0.0.1:0", "--restart", "soon"], 2, "--restart is 'soon'"),
        (["--to", "tcp://127.0.0.1:0", "--control", "x"], 2, "--control is 'x'"),
        (["--to", "tcp://127.0.0.1:0?lsb_nv=1e9"], 3, "a device can say 0.001 to 4294967"),
    ],
)
def test_what_is_wrong_is_named(words, code, said):
    done = subprocess.run(
        ecgedge("feed", "send", "--from", "sim:stable", *words), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
