"""The simulated bed: chunks, seeds, leads, and that what it makes is an ECG."""

import hashlib
import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, find_peaks, sosfiltfilt, welch

from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS, derivation_matrix
from ecgedge.sim import SCENARIOS, Simulator

TOTAL = 6000
ROW = {lead: row for row, lead in enumerate(STANDARD_LEADS)}


@pytest.fixture(scope="module")
def whole():
    """30 s of each scenario at 200 Hz in one read."""
    return {name: Simulator(name, seed=3, rate_hz=200.0).read(TOTAL) for name in SCENARIOS}


@pytest.fixture(scope="module")
def filtered():
    """A minute of a stable patient between 0.5 and 40 Hz."""
    raw = Simulator("stable", seed=1).read(30_000)
    return sosfiltfilt(butter(2, (0.5, 40.0), "band", fs=500.0, output="sos"), raw - raw[:, :1], axis=1)


@given(cuts=st.lists(st.integers(0, TOTAL), max_size=12), name=st.sampled_from(sorted(SCENARIOS)))
@settings(max_examples=40, deadline=None)
def test_any_chunking_gives_the_same_samples(whole, cuts, name):
    simulator = Simulator(name, seed=3, rate_hz=200.0)
    edges = [0, *sorted(cuts), TOTAL]
    parts = [simulator.read(end - start) for start, end in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[name])


def test_lead_off_in_any_chunking():
    once = Simulator("lead-off", seed=2, rate_hz=100.0).read(60_000)
    other = Simulator("lead-off", seed=2, rate_hz=100.0)
    np.testing.assert_array_equal(
        np.concatenate([other.read(769) for _ in range(78)], axis=1), once[:, : 769 * 78]
    )


def test_seed_decides():
    first, same, other = (Simulator("stable", seed=seed).read(1000) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_samples_are_float32_millivolts_with_electrode_offsets():
    samples = Simulator("stable", seed=1).read(5000)
    assert samples.shape == (12, 5000)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 10.0 < np.abs(samples.mean(axis=1)).max() < 400.0


def test_time_and_reading_nothing():
    simulator = Simulator("stable", seed=1, rate_hz=250.0)
    assert simulator.t_s == 0.0
    simulator.read(375)
    assert simulator.read(0).shape == (12, 0)
    assert simulator.t_s == 1.5


def test_einthoven_and_goldberger_are_exact():
    samples = Simulator("noisy", seed=4).read(6000)
    np.testing.assert_array_equal(samples[ROW["III"]], samples[ROW["II"]] - samples[ROW["I"]])
    derived = derivation_matrix(("I", "II")) @ samples[:2]
    np.testing.assert_allclose(samples[:6], derived[:6], atol=5e-5)


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 257.5, 360.0, 1000.0])
def test_other_rates_show_the_same_patient(rate_hz):
    simulator = Simulator("stable", seed=1, rate_hz=rate_hz)
    samples = simulator.read(round(30 * rate_hz))
    reference = Simulator("stable", seed=1).read(15_000)
    assert beats(samples, rate_hz).size == beats(reference, 500.0).size
    assert simulator.t_s == pytest.approx(30.0, abs=0.01)


def beats(samples, rate_hz):
    band = sosfiltfilt(butter(2, (5.0, 30.0), "band", fs=rate_hz, output="sos"), samples[1] - samples[1, 0])
    return find_peaks(np.abs(band), height=0.5 * np.abs(band).max(), distance=int(0.4 * rate_hz))[0]


def test_amplitudes_are_physiological(filtered):
    centre = filtered[:, 1000:-1000]
    spans = np.ptp(centre, axis=1)
    assert 0.3 < spans[ROW["II"]] < 3.5
    assert np.all(spans[6:] < 6.0)
    assert spans[6:].max() > 0.5
    # R in V5 is upright, V1 is mostly negative, aVR is negative.
    assert centre[ROW["V5"]].max() > -centre[ROW["V5"]].min()
    assert centre[ROW["V1"]].max() < -centre[ROW["V1"]].min()
    assert centre[ROW["aVR"]].max() < -centre[ROW["aVR"]].min()


def test_amplitudes_over_patients():
    spans = []
    for seed in range(40):
        raw = Simulator("stable", seed=seed, rate_hz=250.0).read(2500)
        clean = sosfiltfilt(butter(2, (0.5, 40.0), "band", fs=250.0, output="sos"), raw - raw[:, :1], axis=1)
        spans.append(np.ptp(clean[:, 250:-250], axis=1))
    middle = np.median(spans, axis=0)
    assert 0.7 < middle[ROW["II"]] < 2.0
    assert 0.8 < middle[ROW["V1"]] < 2.5
    assert 1.0 < middle[ROW["V4"]] < 3.5


def test_heart_rate_is_the_correlate():
    for seed in (1, 2, 5):
        simulator = Simulator("stable", seed=seed)
        found = beats(simulator.read(60_000), 500.0)
        rate_bpm = 60.0 / (np.median(np.diff(found)) / 500.0)
        assert rate_bpm == pytest.approx(simulator.correlates(60.0).heart_rate_bpm, rel=0.05)


def test_energy_of_the_heart_lies_below_40_hz(filtered):
    raw = Simulator("stable", seed=1).read(30_000)
    f, p = welch(raw - raw.mean(axis=1, keepdims=True), 500.0, nperseg=4096)
    heart = p[:, (f > 1.0) & (f < 40.0)].sum(axis=1)
    assert np.all(heart > 3.0 * p[:, f > 70.0].sum(axis=1))
    assert filtered.std() > 0.03


def test_pressure_reaches_the_ecg():
    calm, late = (Simulator("decompensating", seed=1).correlates(t_s) for t_s in (0.0, 9000.0))
    assert late.ptf_v1_uv_ms < calm.ptf_v1_uv_ms - 2000.0
    assert late.p_duration_ms > calm.p_duration_ms + 5.0
    assert Simulator("decompensating", seed=1).mpcwp_mmhg(9000.0) == pytest.approx(28.0, abs=1.0)


def test_patients_of_scenarios_are_in_sinus_rhythm():
    assert all(Simulator("stable", seed=seed).traits.rhythm == "sinus" for seed in range(60))


def off_leads(samples, rate_hz, t_s):
    return {
        lead
        for lead, gap in zip(STANDARD_LEADS, np.isnan(samples[:, int(t_s * rate_hz)]), strict=True)
        if gap
    }


def test_lead_off_follows_its_programme():
    rate_hz = 100.0
    samples = Simulator("lead-off", seed=1, rate_hz=rate_hz).read(67_000)
    expected = {
        30.0: set(),
        90.0: {"V3"},
        130.0: set(),
        200.0: {"V1", "V2", "V3", "V4", "V5", "V6"},
        340.0: set(STANDARD_LEADS) - {"I"},
        430.0: set(STANDARD_LEADS),
        515.0: set(STANDARD_LEADS),
        550.0: set(),
        659.0: set(),
        665.0: {"V3"},
    }
    assert {t_s: off_leads(samples, rate_hz, t_s) for t_s in expected} == expected


@pytest.mark.parametrize("name", ["stable", "decompensating", "noisy"])
def test_no_gaps_without_lead_off(whole, name):
    assert np.isfinite(whole[name]).all()


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="known scenarios"):
        Simulator("nothing", seed=1)
    with pytest.raises(UsageError, match="negative"):
        Simulator("stable", seed=-1)
    with pytest.raises(RecordError, match="sampling rate"):
        Simulator("stable", seed=1, rate_hz=-5.0)


def test_an_hour_takes_seconds_at_most():
    simulator = Simulator("stable", seed=1)
    start = time.process_time()
    for _ in range(360):
        simulator.read(5000)
    # 24 h must take well under a minute; measured at 7 to 12 s, the limit leaves room for a slow machine.
    assert 24.0 * (time.process_time() - start) < 120.0


@pytest.mark.parametrize("kernels", ["Haswell", "Sandybridge"])
def test_the_same_bits_whatever_kernels_multiply_matrices(kernels):
    """A product of matrices is summed in another order on another processor; a simulated patient is not."""
    program = (
        "import hashlib; from ecgedge.sim import Simulator; "
        "print(hashlib.sha256(Simulator('decompensating', seed=1, rate_hz=500.0).read(5000).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENBLAS_CORETYPE": kernels},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = Simulator("decompensating", seed=1, rate_hz=500.0).read(5000)
    assert done.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()
