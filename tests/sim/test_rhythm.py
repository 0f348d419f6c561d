"""Beat times: rate, variability, fibrillation, premature beats; and the same whatever is asked when."""

from dataclasses import replace

import numpy as np
import pytest

from ecgedge.sim.patient import Correlates, draw_traits
from ecgedge.sim.rhythm import BeatSource, FibrillationWaves

HEART = Correlates(110.0, -4500.0, 75.0, 0.0)


def source(*, seed=0, **changes):
    traits = replace(draw_traits(4), **{"rhythm": "sinus", "pvc_rate": 0.0, **changes})
    return BeatSource(traits, lambda _: HEART, rng=np.random.default_rng(seed), start_s=0.0)


def test_sinus_keeps_its_mean_rate():
    rr = np.diff(source().between(0.0, 600.0).r_s)
    assert 60.0 / rr.mean() == pytest.approx(75.0, rel=0.01)
    assert 0.005 < rr.std() / rr.mean() < 0.06


def test_sinus_breathes():
    beats = source(respiration_rr=0.05, rr_sd=0.006, respiration_hz=0.25).between(0.0, 600.0)
    grid = np.arange(0.0, 590.0, 0.5)
    tachogram = np.interp(grid, beats.r_s[1:], np.diff(beats.r_s))
    power = np.abs(np.fft.rfft((tachogram - tachogram.mean()) * np.hanning(grid.size))) ** 2
    assert np.fft.rfftfreq(grid.size, 0.5)[np.argmax(power)] == pytest.approx(0.25, abs=0.01)


def test_fibrillation_is_irregular_and_uncorrelated():
    rr = np.diff(source(rhythm="af").between(0.0, 1200.0).r_s)
    assert 60.0 / rr.mean() == pytest.approx(75.0, rel=0.03)
    assert 0.15 < rr.std() / rr.mean() < 0.3
    assert abs(np.corrcoef(rr[:-1], rr[1:])[0, 1]) < 0.1
    assert rr.min() >= 0.3


def test_premature_beats_come_early_and_are_followed_by_a_pause():
    beats = source(pvc_rate=0.1, rr_sd=0.006, respiration_rr=0.005).between(0.0, 1200.0)
    rr = np.diff(beats.r_s)
    early = np.flatnonzero(beats.pvc[1:-1]) + 1
    assert np.mean(beats.pvc) == pytest.approx(0.1, abs=0.03)
    np.testing.assert_allclose(rr[early - 1] + rr[early], 2 * 0.8, rtol=0.06)
    np.testing.assert_allclose(rr[early - 1], 0.62 * 0.8, rtol=0.06)
    assert not (beats.pvc[:-1] & beats.pvc[1:]).any()


def test_no_premature_beats_without_a_rate():
    assert not source().between(0.0, 300.0).pvc.any()


def test_rate_follows_the_correlate():
    traits = replace(draw_traits(4), rhythm="sinus", pvc_rate=0.0)
    rising = BeatSource(
        traits,
        lambda t_s: replace(HEART, heart_rate_bpm=60.0 if t_s < 300.0 else 90.0),
        rng=np.random.default_rng(1),
        start_s=0.0,
    )
    beats = rising.between(0.0, 600.0).r_s
    assert np.sum(beats < 300.0) == pytest.approx(300, rel=0.02)
    assert np.sum(beats >= 300.0) == pytest.approx(450, rel=0.02)


def test_windows_of_any_kind_show_the_same_beats():
    whole = source(seed=3, pvc_rate=0.08).between(0.0, 90.0)
    piecewise = source(seed=3, pvc_rate=0.08)
    parts = [piecewise.between(10.0 * k, 10.0 * (k + 1)) for k in range(9)]
    np.testing.assert_array_equal(np.concatenate([p.r_s for p in parts]), whole.r_s)
    np.testing.assert_array_equal(np.concatenate([p.pvc for p in parts]), whole.pvc)
    overlapping = source(seed=3, pvc_rate=0.08)
    overlapping.between(0.0, 12.0)
    again = overlapping.between(9.0, 20.0).r_s
    np.testing.assert_array_equal(again, whole.r_s[(whole.r_s >= 9.0) & (whole.r_s < 20.0)])


def test_no_beats_is_an_empty_table():
    empty = source().between(-5.0, -4.0)
    assert empty.r_s.shape == empty.rr_s.shape == empty.gain.shape == empty.pvc.shape == (0,)


def test_f_waves_have_their_frequency_and_join_over_blocks():
    traits = replace(draw_traits(4), rhythm="af", f_wave_hz=6.0, f_wave_mv=0.1)
    waves = FibrillationWaves(traits, rng=np.random.default_rng(0))
    whole = waves.render(start_s=3.0, rate_hz=250.0, n=5000)
    halves = [waves.render(start_s=3.0 + 10.0 * k, rate_hz=250.0, n=2500) for k in range(2)]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole, atol=1e-9)
    power = np.abs(np.fft.rfft(whole[2] * np.hanning(5000))) ** 2
    assert np.fft.rfftfreq(5000, 1 / 250.0)[np.argmax(power)] == pytest.approx(6.0, abs=0.6)
    assert 0.05 < np.abs(whole[2]).max() < 0.2
