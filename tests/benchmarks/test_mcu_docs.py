"""The page on microcontrollers repeats what the benchmarks found."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "mcu.md").read_text()


def test_the_table_is_what_was_found():
    model = json.loads((RESULTS / "mcu_model.json").read_text())["lead_sets"]
    ours, theirs = model["I"], json.loads((RESULTS / "mcu_executorch.json").read_text())
    for found in model.values():
        assert found["windows_exact_here"] == found["windows_exact_on_cortex_m4"] == found["windows"] == 100
    rows = [
        f"| flash, bytes | {ours['flash_text_bytes']:,}: all of it | "
        f"{theirs['file_bytes']:,}: its file, without a runtime |",
        f"| RAM, bytes | {ours['ram_arena_bytes']:,} and the window's {ours['ram_window_bytes']:,} | "
        f"{theirs['ram_planned_bytes']:,} planned, without a runtime |",
        f"| float in it | nothing | {theirs['calls_in_float']} calls |",
        f"| instructions a multiplication | {ours['instructions_per_mac']:.2f} | not run |",
    ]
    for row in rows:
        assert row in PAGE
    assert theirs["generator"].startswith("executorch 1.5.1,")
