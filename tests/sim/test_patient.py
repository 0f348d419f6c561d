"""The population: pressures as published, correlates that follow the pressure in the cited direction."""

import numpy as np
import pytest

from ecgedge.sim.patient import (
    CORRELATE_MODELS,
    CORRELATE_NAMES,
    ZERO_CORRELATES,
    correlates_at,
    draw_mpcwp_mmhg,
    draw_traits,
    draw_within,
    rng_for,
)


@pytest.fixture(scope="module")
def pressures() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([draw_mpcwp_mmhg(rng) for _ in range(20_000)])


@pytest.fixture(scope="module")
def population():
    return [draw_traits(seed) for seed in range(3000)]


def test_pressure_has_the_published_moments(pressures):
    # Jeong, Stultz & Ghassemi, MLHC 2023: mean 15.7, SD 8.1 mmHg.
    assert pressures.mean() == pytest.approx(15.7, abs=0.2)
    assert pressures.std() == pytest.approx(8.1, abs=0.2)


def test_pressure_stays_in_range_and_is_skewed_to_the_right(pressures):
    assert pressures.min() >= 3.0
    assert pressures.max() <= 45.0
    assert np.mean(((pressures - pressures.mean()) / pressures.std()) ** 3) > 0.5


def test_traits_follow_from_the_seed():
    assert draw_traits(7) == draw_traits(7)
    assert draw_traits(7) != draw_traits(8)
    assert draw_traits(7).patient_id == "sim-7"


def test_traits_have_the_stated_shares(population):
    share = {
        kind: np.mean([t.conduction == kind for t in population])
        for kind in ("normal", "lbbb", "rbbb", "av1")
    }
    assert share["normal"] == pytest.approx(0.76, abs=0.03)
    assert all(share[kind] == pytest.approx(0.08, abs=0.02) for kind in ("lbbb", "rbbb", "av1"))
    assert np.mean([t.rhythm == "af" for t in population]) == pytest.approx(0.08, abs=0.02)
    assert np.mean([t.pvc_rate > 0 for t in population]) == pytest.approx(0.12, abs=0.02)
    assert np.mean([t.sex == "male" for t in population]) == pytest.approx(0.6, abs=0.03)


def test_first_degree_block_is_a_pr_beyond_200_ms(population):
    for traits in population:
        assert (traits.pr_ms >= 200.0) == (traits.conduction == "av1") or traits.conduction == "av1"
    slow = [t.pr_ms for t in population if t.conduction == "av1"]
    assert np.mean(np.array(slow) > 200.0) > 0.97


def test_offsets_spread_as_the_models_say(population):
    for name in CORRELATE_NAMES:
        offsets = [getattr(t.offsets, name) for t in population]
        assert np.std(offsets) == pytest.approx(CORRELATE_MODELS[name].between_sd, rel=0.06)
        assert abs(np.mean(offsets)) < 0.08 * CORRELATE_MODELS[name].between_sd


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("p_duration_ms", 1),  # Magnani 2009
        ("ptf_v1_uv_ms", -1),  # Morris 1964, Heikkila & Luomanmaki 1970
        ("heart_rate_bpm", 1),
        ("log_voltage", -1),  # Madias 2001
    ],
)
def test_correlates_move_as_cited(name, sign):
    patient = draw_traits(3)
    low, high = correlates_at(patient, 10.0), correlates_at(patient, 28.0)
    change = getattr(high, name) - getattr(low, name)
    assert np.sign(change) == sign
    assert change == pytest.approx(18.0 * CORRELATE_MODELS[name].per_mmhg, rel=1e-9)


def test_correlates_stay_physiological_at_any_pressure(population):
    for traits in population[:300]:
        for mmhg in (3.0, 45.0):
            correlates = correlates_at(traits, mmhg)
            assert 50.0 <= correlates.heart_rate_bpm <= 110.0
            assert 70.0 <= correlates.p_duration_ms <= 200.0


def test_drift_within_a_patient_is_small():
    draws = [draw_within(rng_for(seed, 99)).p_duration_ms for seed in range(1000)]
    assert np.std(draws) == pytest.approx(0.15 * CORRELATE_MODELS["p_duration_ms"].between_sd, rel=0.1)
    assert ZERO_CORRELATES.p_duration_ms == 0.0


def test_generators_of_different_purposes_are_independent():
    assert rng_for(1, 2).random() == rng_for(1, 2).random()
    assert rng_for(1, 2).random() != rng_for(1, 3).random()
