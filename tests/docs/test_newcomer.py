"""A newcomer's path: the commands of "Start here", as they stand, from the demo to an own bundle that streams."""

import os
import subprocess
import sys

import pytest
from doc_blocks import COMMANDS, REPO, blocks_of, commands_in, run_block
from user_files import make_hospital

from ecgedge.bundle import load_bundle

PAGE = blocks_of((REPO / "docs" / "index.md").read_text("utf-8"))
MOST_COMMANDS = 10


def _typed():
    """The commands that lead from the demo to an own bundle; `make test` is beside the way."""
    typed = [line for block in PAGE if block.language in COMMANDS for line in commands_in(block.text)]
    return [line for line in typed if line != "make test"]


def test_the_way_is_short():
    typed = _typed()
    assert typed[0] == "make demo"
    assert typed[-1].startswith("ecgedge stream --bundle first.ecgb")
    assert len(typed) <= MOST_COMMANDS


@pytest.mark.slow
def test_from_the_demo_to_an_own_bundle(ecg_data, tmp_path):
    demo = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}", f"DEMO_VENV={tmp_path / 'demo'}"],
        cwd=REPO, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Research use only" in demo.stdout + demo.stderr

    folder = tmp_path / "newcomer"
    folder.mkdir()
    make_hospital(folder, lambda: ecg_data)
    said = [run_block(block, folder, timeout_s=1200) for block in PAGE if block.comment == "run slowly"]
    looked, trained = said
    assert (folder / "ecg.png").read_bytes().startswith(b"\x89PNG")
    assert '"windows":1' in looked.replace(" ", "") or "windows" in looked
    assert load_bundle(folder / "first.ecgb").manifest.variants
    assert (folder / "reports" / "first" / "report.html").is_file()
    assert "p_mi" in trained
