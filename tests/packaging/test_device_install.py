"""A device install, from the wheel, in an environment of its own: no torch, and the line works."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory):
    """Path of the `bin` folder of an environment that has what a device has."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", REPO / "constraints.txt", f"{wheel}[ort]"]
    subprocess.run(install, check=True, cwd=folder)
    return python.parent


def _run(device, *arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [device / "ecgedge", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_nothing_for_training_is_installed(device, tmp_path):
    listing = subprocess.run(
        [device / "python", "-m", "pip", "list", "--format=json"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    names = {package["name"].lower() for package in json.loads(listing.stdout)}
    assert not names & {"torch", "onnx", "wfdb", "pandas", "matplotlib", "pyarrow", "scikit-learn"}


def test_the_embedded_bundle_verifies_and_streams(device, tmp_path):
    checked = _run(device, "bundle", "verify", "embedded", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "self-test passed" in checked.stdout
    streamed = _run(
        device, "stream", "--feed", "sim:stable?chunk_ms=1000", "--speed", "max", "--duration", "60",
        "--format", "jsonl", cwd=tmp_path,
    )  # fmt: skip
    assert streamed.returncode == 0, streamed.stderr
    events = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert events[-1]["type"] == "summary"
    assert events[-1]["windows"] == 11
    assert "research use only" in streamed.stderr.lower()


def test_demo_runs(device, tmp_path):
    shown = _run(device, "demo", "--speed", "1e9", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "SIMULATED" in shown.stdout
    assert "ecgedge[records]" in shown.stdout
