"""What the tests of the units share."""

import shutil
import subprocess

import pytest


@pytest.fixture
def analyze():
    """Run systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is absent; `make system-deps` installs it on Debian")

    def run(*arguments):
        command = ["systemd-analyze", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run
