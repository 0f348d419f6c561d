"""`ecgedge demo`: the whole story, on a machine with no training package, and with nothing hidden."""

import re

import pytest


@pytest.fixture(scope="module")
def story(cli_in, tmp_path_factory):
    """What the demo prints where there is no training package."""
    cli = cli_in(tmp_path_factory.mktemp("demo"))
    absent = ["torch", "onnx", "wfdb", "pyarrow", "sklearn", "matplotlib"]
    return re.sub(r"\s+", " ", cli.without(absent, "demo", "--speed", "1000000", exits=0).stdout)


def test_it_says_that_all_of_it_is_simulated_and_for_research(story):
    assert "Research use only" in story
    assert "Two SIMULATED patients" in story
    assert "trained on SIMULATED patients" in story


def test_both_patients_are_judged_by_what_the_simulator_knows(story):
    assert "stable: no mPCWP alarm in 3.5 simulated hours" in story
    assert re.search(r"decompensating: alarm at \S+ \d+ min (after|before) the latent mPCWP passed 25", story)
    assert "Other simulated patients are missed or give false alarms" in story


def test_the_real_ecg_is_no_clinical_answer(story):
    assert "One real ECG (1000 Hz, 10 s, DICOM)" in story
    assert "mode demo" in story
    assert "means nothing clinical" in story
