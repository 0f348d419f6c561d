"""The page on microcontrollers repeats what the benchmarks found, and they found what is promised."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "mcu.md").read_text()
MODEL = json.loads((RESULTS / "mcu_model.json").read_text())["lead_sets"]


def test_every_integer_is_right_and_every_window_close():
    """The form that was taken: on the tune split, which chose it, and on the test split, which did not."""
    assert list(MODEL) == ["I", "II", "I,II"]
    for found in MODEL.values():
        taken = found["taken"]
        windows = taken["against_fp32"]["windows"]
        assert taken["windows_exact_here"] == taken["windows_exact_on_cortex_m4"] == windows == 242
        assert f"all {windows} windows of the test split" in PAGE
        assert taken["against_fp32"]["centred_cosine_least"] >= 0.995
        *refused, last = found["tried_on_the_tune_split"]
        assert last["form"]["activation_bits"] == taken["activation_bits"] == 16
        assert last["centred_cosine_least"] >= 0.995 > max(form["centred_cosine_least"] for form in refused)


def test_the_tables_are_what_was_found():
    rows = []
    for leads, found in MODEL.items():
        for form, what in (("taken", "16 bits, taken"), ("in_8_bits", "8 bits")):
            cosine = found[form]["against_fp32"]
            rows.append(
                f"| {leads} | {what} | {cosine['centred_cosine_least']:.4f} | {cosine['centred_cosine_median']:.4f} | "
                f"{found[form]['ram_arena_bytes']:,} | {found[form]['flash_text_bytes']:,} | "
                f"{found[form]['instructions_per_mac']:.2f} |"
            )
    ours, narrow = MODEL["I"]["taken"], MODEL["I"]["in_8_bits"]
    theirs = json.loads((RESULTS / "mcu_executorch.json").read_text())
    rows += [
        f"| flash, bytes | {ours['flash_text_bytes']:,}: all of it | {narrow['flash_text_bytes']:,} | "
        f"{theirs['file_bytes']:,}: its file, without a runtime |",
        f"| RAM, bytes | {ours['ram_arena_bytes']:,} and the window's {ours['ram_window_bytes']:,} | "
        f"{narrow['ram_arena_bytes']:,} and as much | {theirs['ram_planned_bytes']:,} planned, without a runtime |",
        f"| float in it | nothing | nothing | {theirs['calls_in_float']} calls |",
        f"| instructions a multiplication | {ours['instructions_per_mac']:.2f} | "
        f"{narrow['instructions_per_mac']:.2f} | not run |",
    ]
    for row in rows:
        assert row in PAGE
    assert theirs["generator"].startswith("executorch 1.5.1,")
