"""Run `ecgedge` as a user does: the installed script, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecgedge.ecg import Recording
from ecgedge.records import write_npz
from ecgedge.sim import Simulator

SCRIPT = Path(sys.executable).with_name("ecgedge")
# A narrow terminal would wrap the help; colour codes would break the words apart; two cores are shared.
SETTINGS = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}

WITHOUT = """
import sys

class Absent:
    names = sys.argv[1].split(",")

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["ecgedge", *sys.argv[2:]]
from ecgedge.cli import main
main()
"""
"""Runs the command line as on a machine where the named packages are not installed."""


class Cli:
    """Runs the installed script in `folder`."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments, exits=0, timeout_s=300.0, typed=None, **options):
        process = self.start(*arguments, **options, **({} if typed is None else {"stdin": subprocess.PIPE}))
        return self.finish(process, exits=exits, timeout_s=timeout_s, typed=typed)

    def start(self, *arguments, **options):
        return self._open([SCRIPT, *map(str, arguments)], **options)

    def without(self, packages, *arguments, exits=2):
        process = self._open([sys.executable, "-c", WITHOUT, ",".join(packages), *map(str, arguments)])
        return self.finish(process, exits=exits)

    def finish(self, process, *, exits=0, timeout_s=300.0, typed=None):
        """Wait for the end; whatever happened, a user must never see a traceback."""
        with process:
            try:
                stdout, stderr = process.communicate(typed, timeout=timeout_s)
            finally:
                process.kill()
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        assert done.returncode == exits, f"exit code {done.returncode}, expected {exits}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr
        return done

    def stream(self, feed, *options, exits=0):
        """Stream to JSON lines at full speed (unless told otherwise) and return the events."""
        speed = () if "--speed" in options else ("--speed", "max")
        done = self("stream", "--feed", feed, "--format", "jsonl", *speed, *options, exits=exits)
        return read_events(done.stdout)

    def _open(self, command, **options):
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **SETTINGS},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )


def read_events(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def cli(tmp_path):
    """The command line, run in the test's own folder."""
    return Cli(tmp_path)


@pytest.fixture(scope="module")
def cli_in():
    """Make a command line that runs in a folder that outlives one test."""
    return Cli


@pytest.fixture
def recording(tmp_path):
    """An .npz recording of a simulated patient: 30 s, 12 leads at 250 Hz."""
    path = tmp_path / "recording.npz"
    samples_mv = Simulator("stable", seed=3, rate_hz=250.0).read(7500)
    write_npz(Recording(samples_mv, 250.0, _leads(), mode="demo"), path)
    return path


@pytest.fixture
def gappy_recording(tmp_path):
    """The same with 2 s missing in every lead, from 12 s on."""
    path = tmp_path / "gappy.npz"
    samples_mv = Simulator("stable", seed=3, rate_hz=250.0).read(7500).copy()
    samples_mv[:, 3000:3500] = np.nan
    write_npz(Recording(samples_mv, 250.0, _leads(), mode="demo"), path)
    return path


def _leads():
    return ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
