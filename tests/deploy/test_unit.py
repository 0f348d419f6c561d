"""The systemd unit, as systemd itself judges it, and its command as the shell of ecgedge takes it."""

import re
import shlex
import subprocess
import sys

from .images import DEPLOY

UNIT = DEPLOY / "ecgedge@.service"
EXPOSURE_LIMIT = 2.0
"""Well within what `systemd-analyze security` calls OK."""


def test_systemd_accepts_it(analyze, tmp_path):
    # The one thing that a machine without an installation lacks is the program itself.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/ecgedge/bin/ecgedge", sys.executable))
    done = analyze("verify", here)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_refuses_a_typing_error(analyze, tmp_path):
    wrong = tmp_path / UNIT.name
    wrong.write_text(UNIT.read_text().replace("ProtectHome=yes", "ProtectHom=yes"))
    assert "'ProtectHom'" in analyze("verify", wrong).stderr


def test_it_is_confined(analyze):
    done = analyze("security", "--offline=true", f"--threshold={round(EXPOSURE_LIMIT * 10)}", UNIT)
    assert done.returncode == 0, done.stdout


def test_its_command_serves_a_bed(tmp_path):
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    values = {
        "BUNDLE": "embedded",
        "FEED": "sim:stable?duration_s=12&chunk_ms=1000",
        "STATE_DIRECTORY": str(tmp_path),
    }
    program, *words = [re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], word) for word in shlex.split(line)]
    assert program == "/opt/ecgedge/bin/ecgedge"
    done = subprocess.run(
        [sys.executable, "-m", "ecgedge", *words, "--speed", "max"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bed.journal").stat().st_size > 0


def test_no_watchdog_that_nobody_feeds():
    assert "WatchdogSec" not in UNIT.read_text()
    assert "Type=notify" not in UNIT.read_text()
