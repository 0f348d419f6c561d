"""The compiled front end of the dataset builder: the same bits as the one front end, or that one itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import COMPILED, condition
from ecgedge_train.cohorts.wfdb16 import read_record
from ecgedge_train.dataset import quick
from ecgedge_train.dataset.quick import quick_counts

SPEC = FrontEndSpec()


def wave(seed: int, n_leads: int, n: int, rate_hz: float) -> Recording:
    """Noise, a slope and an electrode offset, now and then beyond the clipping level."""
    rng = np.random.default_rng(seed)
    samples_mv = rng.normal(0.0, 2.0, (n_leads, n)) + rng.uniform(-300.0, 300.0, (n_leads, 1))
    samples_mv += np.linspace(0.0, rng.uniform(-20.0, 20.0), n)
    return Recording(samples_mv.astype(np.float32), rate_hz, STANDARD_LEADS[:n_leads])


@pytest.fixture
def compiled(monkeypatch):
    """Fail where the compiled pass hands the work on."""

    def refuse(*_: object) -> None:
        raise AssertionError("the compiled pass was not used")

    monkeypatch.setattr(quick, "condition", refuse)


def test_loops_are_compiled(compiled):
    quick_counts(wave(0, 12, 5000, 500.0), SPEC)
    assert COMPILED.loops is not None


@given(
    seed=st.integers(0, 10**6),
    n_leads=st.integers(1, 12),
    n=st.integers(1, 3000),
    rate_hz=st.sampled_from([100.0, 128.0, 250.0, 257.0, 300.0, 360.0, 400.0, 500.0, 977.1, 1000.0]),
)
@settings(deadline=None, max_examples=25)
def test_every_rate_length_and_number_of_leads_gives_the_same_bits(seed, n_leads, n, rate_hz):
    recording = wave(seed, n_leads, n, rate_hz)
    counts = quick_counts(recording, SPEC)
    assert counts.dtype == np.int16
    COMPILED.off()
    np.testing.assert_array_equal(counts, condition(recording, SPEC).counts)


def test_the_compiled_pass_is_used_here(compiled):
    assert quick_counts(wave(1, 12, 5000, 500.0), SPEC).shape == (12, 2500)


def test_real_records_give_the_same_bits(ecg_data):
    headers = sorted((ecg_data / "ptbxl/records500").rglob("*.hea"))[:20]
    headers += sorted((ecg_data / "ptbxl/records100").rglob("*.hea"))[:20]
    assert len(headers) == 40
    for header in headers:
        recording = read_record(header)
        np.testing.assert_array_equal(quick_counts(recording, SPEC), condition(recording, SPEC).counts)


@pytest.mark.parametrize("value", [np.nan, 1000.0])
def test_missing_samples_are_left_to_the_front_end(value):
    recording = wave(2, 3, 2000, 500.0)
    recording.samples_mv[1, 300:900] = value
    np.testing.assert_array_equal(quick_counts(recording, SPEC), condition(recording, SPEC).counts)


def test_another_front_end_is_followed(compiled):
    spec = FrontEndSpec(rate_hz=200.0, highpass_hz=0.67, notch_hz=(), lowpass_hz=30.0, clip_mv=2.0)
    recording = wave(3, 2, 1500, 500.0)
    np.testing.assert_array_equal(quick_counts(recording, spec), condition(recording, spec).counts)


def test_a_rate_that_does_not_carry_the_ecg_is_refused_as_ever():
    spec = FrontEndSpec(lowpass_hz=60.0)
    with pytest.raises(RecordError, match="100 Hz does not carry lowpass_hz 60"):
        quick_counts(wave(5, 1, 1000, 100.0), spec)
