"""The ward's systemd unit, as systemd itself judges it, and its command as the shell of ecgedge takes it."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys

from .images import DEPLOY

UNIT = DEPLOY / "ecgedge-ward@.service"
BED_UNIT = DEPLOY / "ecgedge@.service"
EXPOSURE_LIMIT = 2.0
"""Well within what `systemd-analyze security` calls OK."""

WARD = """
[ward]
journals = "{state}/journals"
state = "{state}/state"
events = "{state}/events.jsonl"
control = "{state}/ward.sock"

[[bed]]
name = "icu-3"
feed = "sim:stable?chunk_ms=100"
"""


def settings_of(path):
    """The unit's lines with a value, as a list, without the comments."""
    return [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]


def test_systemd_accepts_it(analyze, tmp_path):
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/ecgedge/bin/ecgedge", sys.executable))
    done = analyze("verify", here)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_confined(analyze):
    done = analyze("security", "--offline=true", f"--threshold={round(EXPOSURE_LIMIT * 10)}", UNIT)
    assert done.returncode == 0, done.stdout


def test_it_is_confined_as_a_bed_is():
    own = ("Type=", "ExecStart=", "Description=", "RestartSec=", "TimeoutStopSec=", "EnvironmentFile=")
    missing = set(settings_of(BED_UNIT)) - set(settings_of(UNIT))
    assert {line for line in missing if not line.startswith(own)} == set()


def test_its_command_serves_a_ward_and_speaks_to_the_manager(tmp_path):
    """Ready, then alive within the time that the unit allows, then stopping."""
    text = UNIT.read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    (watchdog_s,) = re.findall(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)
    assert "Type=notify" in text
    beds = tmp_path / "icu.toml"
    beds.write_text(WARD.format(state=tmp_path))
    words = shlex.split(line.replace("${BUNDLE}", "embedded").replace("/etc/ecgedge/%i.toml", str(beds)))
    assert words[0] == "/opt/ecgedge/bin/ecgedge"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(float(watchdog_s))
        process = subprocess.Popen(
            [sys.executable, "-m", "ecgedge", *words[1:]],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                assert manager.recv(100) == b"READY=1"
                assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
                process.send_signal(signal.SIGTERM)
                while (heard := manager.recv(100)) == b"WATCHDOG=1":
                    pass
                assert heard == b"STOPPING=1"
                stderr = process.communicate(timeout=60.0)[1]
            finally:
                process.kill()
    assert process.returncode == 0, stderr
    assert (tmp_path / "state" / "icu-3.bed").exists()
    assert (tmp_path / "journals" / "icu-3.jsonl").exists()
