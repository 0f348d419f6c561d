"""Half an hour of stream time in a ward of 500 that is never left in peace: memory does not grow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_a_ward_keeps_its_size(tmp_path):
    """The two hours of benchmarks/results/soak.json are the same run, longer; what it costs is for that to say."""
    out = tmp_path / "soak.json"
    command = [sys.executable, str(SCRIPT), "--beds", "500", "--hours", "0.5", "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=900)
    found = json.loads(out.read_text())
    assert found["kB a bed and stream hour"] < 10.0  # of some 280
    # Beds that say nothing would not grow either.
    assert found["events"]["Estimate"] > 0.9 * 500 * 1800 / 5
    assert min(found["events"][kind] for kind in ("Alarm", "FeedEvent", "SelfCheck")) > 1000
