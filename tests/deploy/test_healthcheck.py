"""The health check against a real stream: healthy while the journal grows, not before and not long after."""

import os
import subprocess
import sys
import time

import pytest

from .images import DEPLOY


def check(folder, *limit):
    command = [sys.executable, str(DEPLOY / "healthcheck.py"), str(folder), *limit]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def served(tmp_path):
    """A folder into whose journal a stream has just written."""
    command = [sys.executable, "-m", "ecgedge", "stream", "--feed", "sim:stable?duration_s=12&chunk_ms=1000"]
    journal = ["--speed", "max", "--journal", str(tmp_path / "bed.journal")]
    subprocess.run([*command, *journal], capture_output=True, check=True)
    return tmp_path


def test_a_bed_that_is_served_is_healthy(served):
    done = check(served)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_journal_that_stands_still_is_not(served):
    past_s = time.time() - 61.0
    os.utime(served / "bed.journal", (past_s, past_s))
    done = check(served)
    assert done.returncode == 1
    assert "has grown for 61 s" in done.stdout
    assert check(served, "3600").returncode == 0


def test_one_live_bed_of_two_is_enough(served):
    (served / "old.journal").touch()
    os.utime(served / "old.journal", (0.0, 0.0))
    assert check(served).returncode == 0


def test_without_a_journal_it_says_what_to_do(tmp_path):
    (tmp_path / "events.jsonl").touch()
    done = check(tmp_path)
    assert done.returncode == 1
    assert f"--journal {tmp_path}/NAME.journal" in done.stdout
