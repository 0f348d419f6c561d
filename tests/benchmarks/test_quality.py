"""The page on signal quality says what was measured, and the script that measures it counts right."""

import importlib
import json
import sys
from pathlib import Path

import needs
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PAGE = Path(__file__).parents[2] / "docs" / "quality.md"


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("quality")
    for name in ("quality", "quality_noise", "common"):
        sys.modules.pop(name, None)


@pytest.fixture
def committed():
    return json.loads((FOLDER / "results" / "quality.json").read_text())


@pytest.mark.parametrize("table", ["markdown", "detector_table", "cost_table"])
def test_the_page_holds_the_measured_tables(quality, committed, table):
    assert getattr(quality, table)(committed) in PAGE.read_text()


def test_the_page_holds_what_the_model_says(quality):
    model = importlib.import_module("quality_model")
    result = json.loads((FOLDER / "results" / "quality_model.json").read_text())
    assert model.markdown(result) in PAGE.read_text()
    assert [row["corruption"] for row in result["rows"]] == list(model.CASES)
    sys.modules.pop("quality_model")


def test_the_page_holds_what_other_sources_gave(quality):
    elsewhere = importlib.import_module("quality_elsewhere")
    result = json.loads((FOLDER / "results" / "quality_elsewhere.json").read_text())
    assert elsewhere.markdown(result) in PAGE.read_text()
    assert [row["source"] for row in result["rows"]] == list(elsewhere.SOURCES)
    sys.modules.pop("quality_elsewhere")


def test_other_sources_are_read_window_by_window(quality, ecg_data):
    """128 Hz, two leads, half an hour."""
    needs.wfdb()
    elsewhere = importlib.import_module("quality_elsewhere")
    path = ecg_data / "long_2lead" / "svdb" / "800.hea"
    found = list(elsewhere.windows(path))
    assert len(found) == 180
    assert {(raw.shape, counts.shape, rate_hz) for raw, counts, rate_hz in found} == {
        ((2, 1280), (2, 2500), 128.0)
    }
    said = elsewhere.objections(*found[5])
    assert set(said) == set(elsewhere.COLUMNS)
    assert max(said.values()) <= 2
    sys.modules.pop("quality_elsewhere")


def test_the_page_states_the_thresholds_of_the_code(quality):
    from ecgedge.signal import doubts, limb

    text = PAGE.read_text()
    for stated in (
        f"above {doubts.MAINS_RATIO:g} times the lead's standard deviation",
        f"above {doubts.BURST_SPREAD:g} of the window's rms slope",
        f"above {doubts.BASELINE_MV:g} mV",
        f"less than {doubts.AGREEMENT:g} are found by both",
        f"{100 * limb.CONTRADICTION:g} % or more of the limb leads' amplitude",
    ):
        assert stated in text
    assert doubts.MUSCLE_RATIO == 0.5
    assert "above half the lead's standard deviation" in text


def test_no_patient_chooses_and_reports(quality):
    names = [f"ptbxl {k}" for k in range(400)]
    assert 150 < sum(map(quality.reports, names)) < 250
    assert [quality.reports(name) for name in names] == [quality.reports(name) for name in names]


def test_a_rate_counts_leads_and_resamples_patients(quality):
    """Three patients: all of 4 leads held, none of 4, and one of 2 that count."""
    held = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
    counted = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]], bool)
    found = quality.rate(held, counted, ["a", "b", "c"], np.random.default_rng(0))
    assert (found["share"], found["leads"]) == (0.5, 10)
    assert (found["low"], found["high"]) == (0.0, 1.0)


def test_beats_are_matched_once(quality):
    true_s = np.arange(11.0, 18.0)
    found_s = np.array([11.1, 12.1, 12.2, 13.1, 14.6, 15.1, 16.1, 17.1])  # one double, one astray
    found = quality._score(true_s, found_s, 20.0)
    assert (found["beats"], found["delay_ms"]) == (7, pytest.approx(100.0))
    assert found["sensitivity"] == pytest.approx(6 / 7)
    assert found["ppv"] == pytest.approx(6 / 8)


def test_what_is_done_to_ecgs_has_its_size(quality):
    cases = importlib.import_module("quality_noise").corruptions()
    x = np.zeros((2, 12, 6500), np.float32)
    x[:, 0] = 1.0

    def change(name):
        return cases[name].change(x, np.random.default_rng(0)) - x

    assert change("muscle noise (20 to 150 Hz), 0.2 mV rms").std() == pytest.approx(0.2, rel=0.01)
    burst = change("muscle noise for 2 s of 10, 0.5 mV rms")
    assert np.flatnonzero(burst.any(axis=(0, 1)))[[0, -1]].tolist() == [3500, 4499]
    assert np.abs(change("hum, 50 Hz, 1 mV")).max() == pytest.approx(1.0, rel=0.01)
    assert (change("clipped at 0.5 mV")[:, 0] == -0.5).all()
    swapped = cases["electrodes RA and LA mixed up"].change(x, np.random.default_rng(0))
    assert (swapped[:, 0] == -1.0).all()


def test_it_runs_on_three_records_of_each(quality, ecg_data, committed, capsys):
    """Every corruption, every column: the keys are those of the committed results."""
    needs.wfdb()
    rows = quality.table_rows(quality.load(ecg_data, limit=3), seed=1)
    assert [row["corruption"] for row in rows] == [row["corruption"] for row in committed["rows"]]
    assert [set(row["rates"]) for row in rows] == [set(row["rates"]) for row in committed["rows"]]
    assert "white noise" in capsys.readouterr().out
