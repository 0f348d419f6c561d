"""docs/calibration.md says what was measured and what the code does."""

import json
from pathlib import Path

from ecgedge.alarms.users import READING_SD_MMHG
from ecgedge.stream.baseline import EVERY_MINUTES, LEAST_BEFORE, LEAST_NOW
from ecgedge.stream.one_point import LEAST_SHARE, SPAN_S

REPO = Path(__file__).parents[1]
PAGE = " ".join((REPO / "docs" / "calibration.md").read_text("utf-8").split())


def test_figures_are_those_of_the_file():
    found = json.loads((REPO / "benchmarks" / "results" / "one_point.json").read_text())
    assert f"{found['patients']} SIMULATED stable patients ({found['not calibrated']} more" in PAGE
    for value, low, high in found["figures"].values():
        assert f"{value:.2f} ({low:.2f} to {high:.2f})" in PAGE


def test_numbers_are_those_of_the_code():
    assert f"estimates of the last {SPAN_S:g} s" in PAGE
    assert LEAST_SHARE == 0.5  # "at least half"
    assert f"(`sd_mmhg`, {READING_SD_MMHG:g} by default)" in PAGE
    assert (EVERY_MINUTES, LEAST_NOW, LEAST_BEFORE) == (5, 5, 30)  # "each five", "five of them", "thirty"


def test_it_says_for_what_it_is():
    assert "Research use only" in PAGE
