"""Instructions of the whole example firmware on an emulated Cortex-M4: the same each time, not above the record."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import qemu_firmware

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "results" / "firmware_qemu.json").read_text())["counted"]


@pytest.fixture
def firmware_qemu(monkeypatch):
    qemu_firmware.require_programs()
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("firmware_qemu")
    for name in ("firmware_qemu", "common"):
        sys.modules.pop(name, None)


def test_instructions_a_second_are_the_same_each_time_and_not_above_the_record(firmware_qemu):
    counted = firmware_qemu.count()
    assert firmware_qemu.count() == counted
    assert counted["frames"] == RECORD["frames"] == firmware_qemu.SECONDS * 50
    # Another compiler may do a little more; benchmarks/firmware_qemu.py --out makes the record anew.
    assert counted["instructions_a_second"] <= 1.05 * RECORD["instructions_a_second"]


def test_the_readme_says_what_was_counted():
    readme = (ROOT / "firmware_bridge" / "qemu" / "README.md").read_text()
    assert f"{RECORD['instructions_a_second'] / 1e6:.2f} million instructions a second" in readme
    assert f"{RECORD['instructions_a_frame']:,.0f} a frame" in readme
