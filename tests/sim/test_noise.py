"""Noise: spectrum, sizes, joints of blocks, and the electrodes that leads are made of."""

import numpy as np
import pytest
from scipy.signal import welch

from ecgedge.leads import STANDARD_LEADS, derivation_matrix
from ecgedge.sim.noise import ElectrodeNoise, NoiseLevels, leads_from_electrodes
from ecgedge.sim.simulator import twelve_leads

QUIET = NoiseLevels(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def run(levels, *, blocks=12, rate_hz=500.0, mains_hz=50.0, seed=0):
    source = ElectrodeNoise(
        levels,
        mains_hz=mains_hz,
        respiration_hz=0.25,
        rate_hz=rate_hz,
        block_samples=round(10 * rate_hz),
        rng=np.random.default_rng(seed),
    )
    rng = np.random.default_rng(seed + 1)
    return np.concatenate([source.block(start_s=10.0 * k, rng=rng) for k in range(blocks)], axis=1)


def density(noise, rate_hz=500.0):
    return welch(noise, rate_hz, nperseg=int(8 * rate_hz))


def test_silence_is_silent():
    assert not run(QUIET, blocks=2).any()


def test_muscle_noise_has_its_size_and_is_white():
    noise = run(NoiseLevels(20.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    # The envelope exp(0.4 g) of a smoothed g has a mean square a little above one.
    assert noise.std() * 1e3 == pytest.approx(20.0, rel=0.15)
    f, p = density(noise)
    low, high = p[:, (f > 5) & (f < 40)].mean(), p[:, (f > 100) & (f < 200)].mean()
    assert low == pytest.approx(high, rel=0.1)


def test_muscle_noise_keeps_its_density_at_another_rate():
    levels = NoiseLevels(20.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    f1, p1 = density(run(levels))
    f2, p2 = density(run(levels, rate_hz=1000.0), 1000.0)
    assert p1[:, (f1 > 5) & (f1 < 40)].mean() == pytest.approx(p2[:, (f2 > 5) & (f2 < 40)].mean(), rel=0.2)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_stands_at_its_frequency(mains_hz):
    f, p = density(run(NoiseLevels(1.0, 0.0, 0.0, 30.0, 0.0, 0.0), mains_hz=mains_hz))
    assert f[np.argmax(p[0])] == pytest.approx(mains_hz, abs=0.2)
    assert p[0].max() > 100 * np.median(p[0])


def test_mains_harmonic_is_left_out_where_it_would_alias():
    f, p = density(run(NoiseLevels(0.0, 0.0, 0.0, 30.0, 0.0, 0.0), rate_hz=250.0), 250.0)
    away = np.abs(f - 50.0) > 5.0
    assert p[0][away].max() < 1e-4 * p[0].max()


def test_wander_is_slow():
    f, p = density(run(NoiseLevels(0.0, 100.0, 0.0, 0.0, 0.0, 0.0), blocks=40))
    assert p[:, f < 1.0].sum() > 0.98 * p.sum()
    assert 0.03 < run(NoiseLevels(0.0, 100.0, 0.0, 0.0, 0.0, 0.0)).std() < 0.12


def test_blocks_join_without_a_step():
    smooth = run(NoiseLevels(0.0, 100.0, 60.0, 20.0, 0.0, 0.0))
    steps = np.abs(np.diff(smooth, axis=1))
    joints = steps[:, 4999::5000]
    assert joints.max() <= steps.max() * 1.0001
    assert joints.mean() < 2.0 * steps.mean()


def test_motion_comes_as_often_and_as_large_as_told():
    noise = run(NoiseLevels(0.0, 0.0, 0.0, 0.0, 12.0, 3.0), blocks=30)
    assert 0.5 < np.abs(noise).max() <= 3.0
    assert 0.005 < np.mean(noise != 0.0) < 0.2


def test_scaling_scales_sizes_not_the_rate_of_motion():
    levels = NoiseLevels().scaled(2.0)
    assert levels.muscle_uv == 2.0 * NoiseLevels().muscle_uv
    assert levels.motion_mv == 2.0 * NoiseLevels().motion_mv
    assert levels.motion_per_min == NoiseLevels().motion_per_min


def test_leads_are_the_textbook_differences():
    ra, la, ll, *v = np.random.default_rng(0).normal(size=9)
    leads = leads_from_electrodes(np.array([[ra], [la], [ll], *([x] for x in v)], np.float32))[:, 0]
    np.testing.assert_allclose(leads[:2], [la - ra, ll - ra], atol=1e-6)
    np.testing.assert_allclose(leads[2:], np.array(v) - (ra + la + ll) / 3.0, atol=1e-6)


def test_common_mode_vanishes():
    np.testing.assert_allclose(leads_from_electrodes(np.full((9, 4), 150.0, np.float32)), 0.0, atol=5e-5)


def test_derived_limb_leads_follow_from_potentials():
    ra, la, ll = 0.3, -1.2, 0.7
    eight = np.zeros((8, 1), np.float32)
    eight[:2, 0] = la - ra, ll - ra
    limbs = twelve_leads(eight)[:6, 0]
    goldberger = [ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    np.testing.assert_allclose(limbs[2:], [ll - la, *goldberger], atol=1e-6)
    np.testing.assert_allclose(limbs, (derivation_matrix(("I", "II")) @ eight[:2])[:6, 0], atol=1e-6)
    assert STANDARD_LEADS[:6] == ("I", "II", "III", "aVR", "aVL", "aVF")
