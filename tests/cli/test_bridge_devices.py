"""`ecgedge feed send` as a device of the bridge and `ecgedge stream` as its host: two processes, three transports.

A real ECG with a lead that comes off, a device that starts anew, bytes that are lost, and a user who presses a button.
"""

import contextlib
import json
import subprocess
import sys
import threading

import pytest

TRANSPORTS = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/bed", "serial:pty"]
SPEED = 5  # the user has 2.6 s between the alarm and the restart


class Device:
    """A rig in a second process, whose user acknowledges LEAD_OFF as soon as the device shows it."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "ecgedge", "feed", "send", *map(str, words), "--control", "-"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        self.uri = self.process.stderr.readline().split()[-1]
        self.said = []
        self._user = threading.Thread(target=self._watch)
        self._user.start()

    def _watch(self):
        for line in self.process.stderr:
            self.said.append(line.strip().removeprefix("ecgedge: "))
            if self.said[-1].startswith("alert LEAD_OFF: on"):
                self._press("ack NOTHING\nack LEAD_OFF 7\n")

    def _press(self, lines):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(lines)
            self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60.0)
        self.process.kill()
        self._user.join()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.mark.parametrize("target", TRANSPORTS)
def test_a_device_and_its_host(cli, ecg_data, target):
    record = ecg_data / "long_2lead" / "mitdb" / "100.hea"
    faults = ["--lead-off", "V5@6s", "--restart", "20s"]
    with Device(
        "--from", f"file:{record}", "--to", target, "--speed", SPEED, "--duration", 32, *faults
    ) as device:
        # A port has no other end than that it is gone.
        exits = 3 if target.startswith("serial") else 0
        words = ["--feed", device.uri, "--sink", "bridge", "--format", "jsonl", "--bed", "icu-3"]
        done = cli("stream", *words, exits=exits)
        device.process.wait(60.0)
    events = [json.loads(line) for line in done.stdout.splitlines()]

    # The lead comes off, its alarm goes to the device, whose user acknowledges it; the device is told so.
    (off,) = [e["t_s"] for e in events if e["type"] == "feed" and e["state"] == "lead_off"]
    assert off == pytest.approx(6.0, abs=0.05)
    alarms = [e for e in events if e["type"] == "alarm" and e["condition"] == "LEAD_OFF"]
    assert [(a["signal"], a.get("user")) for a in alarms[:2]] == [
        ("on", None),
        ("acknowledged", "user 7 of front end ECGEDGE-RIG"),
    ]
    lead_off = [line for line in device.said if line.startswith("alert LEAD_OFF")]
    assert lead_off[:2] == ["alert LEAD_OFF: on, low priority", "alert LEAD_OFF: acknowledged, low priority"]
    assert "control line dropped: unknown condition 'NOTHING'" in device.said

    # It starts anew: the stream goes on after a gap, and says so; the results' indices are of its new count.
    assert "the device starts anew" in device.said
    (gap,) = [e for e in events if e["type"] == "feed" and e["state"] == "gap"]
    assert gap["t_s"] - gap["age_s"] == pytest.approx(20.0, abs=0.05)
    assert "the device started anew; its samples go on after a gap" in done.stderr
    assert ", restarts 1" in done.stderr

    # Each result names its window's last sample by the count that the device has then.
    estimates = [e["t_s"] for e in events if e["type"] == "estimate"]
    expected = [round((t - gap["t_s"] * (t > gap["t_s"])) * 360) - 1 for t in estimates]
    results = [int(line.split()[3].rstrip(":")) for line in device.said if line.startswith("result at")]
    assert len(results) >= 3
    assert set(results) <= set(expected)
    assert results[0] == expected[0]


def test_lost_bytes_are_holes_and_are_counted(cli, ecg_data):
    record = ecg_data / "long_2lead" / "mitdb" / "100.hea"
    words = ["--from", f"file:{record}", "--to", TRANSPORTS[0], "--speed", "max", "--duration", 30]
    with Device(*words, "--lose", 0.001) as device:
        done = cli("stream", "--feed", device.uri, "--sink", "bridge", "--format", "jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    counted = done.stderr.partition("bad_")[1:]
    assert counted[0] == "bad_"
    gaps = [e for e in events if e["type"] == "feed" and e["state"] == "gap"]
    lost = int(done.stderr.partition("lost_samples ")[2].split(",")[0].split()[0])
    assert events[-1]["type"] == "summary"
    assert events[-1]["dropped_samples"] == lost == round(sum(gap["age_s"] for gap in gaps) * 360) > 0
    assert "restarts" not in done.stderr
