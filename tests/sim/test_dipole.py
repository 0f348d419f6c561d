"""The dipole: published matrices, waves against a plain sum, and the P wave that the pressure shapes."""

from dataclasses import replace

import numpy as np
import pytest

from ecgedge.sim.dipole import (
    DOWER,
    INDEPENDENT_LEADS,
    Beats,
    Waves,
    heart_waves,
    left_atrium_sigma_ms,
    project,
    render,
)
from ecgedge.sim.patient import Correlates, correlates_at, draw_traits

# Edenbrandt & Pahlm, J Electrocardiol 1988;21:361: X, Y, Z from V1..V6, I, II.
INVERSE_DOWER = np.array(
    [
        [-0.172, -0.074, 0.122, 0.231, 0.239, 0.194, 0.156, -0.010],
        [0.057, -0.019, -0.106, -0.022, 0.041, 0.048, -0.227, 0.887],
        [-0.229, -0.310, -0.246, -0.063, 0.055, 0.108, 0.022, 0.102],
    ]
)
RATE_HZ = 1000.0
R_S = 0.5


def one_beat(traits, correlates, *, pvc=False, n=1200):
    """Return the (8, n) leads of a single beat with R at 0.5 s."""
    beat = Beats(np.array([R_S]), np.array([0.85]), np.array([1.0]), np.array([pvc]))
    waves = heart_waves(beat, traits, correlates)
    return DOWER @ render(waves, start_s=0.0, rate_hz=RATE_HZ, n=n)


def lead(leads, name):
    return leads[INDEPENDENT_LEADS.index(name)]


def p_wave(leads, name, traits, correlates):
    """Return the stretch from before P to the QRS onset."""
    onset_ms = 500.0 - 44.0 - max(traits.pr_ms, correlates.p_duration_ms + 15.0)
    return lead(leads, name)[int(onset_ms) - 15 : int(onset_ms + correlates.p_duration_ms) + 15]


@pytest.fixture
def patient():
    return replace(
        draw_traits(2), rhythm="sinus", conduction="normal", axis_deg=0.0, horizontal_deg=0.0, p_gain=1.0
    )


def test_dower_inverts_the_published_inverse():
    order = [INDEPENDENT_LEADS.index(name) for name in ("V1", "V2", "V3", "V4", "V5", "V6", "I", "II")]
    np.testing.assert_allclose(INVERSE_DOWER @ DOWER[order], np.eye(3), atol=0.01)


def test_render_is_the_sum_of_gaussians():
    rng = np.random.default_rng(0)
    waves = Waves(rng.uniform(9.5, 11.5, 40), rng.uniform(0.008, 0.06, 40), rng.normal(0.0, 1.0, (40, 3)))
    t = 10.0 + np.arange(700) / 500.0
    height = np.exp(-0.5 * ((t - waves.centre_s[:, None]) / waves.sigma_s[:, None]) ** 2)
    expected = waves.vector_mv.T @ height
    # Cut at four sigma: 0.034 % of the height of each wave.
    np.testing.assert_allclose(render(waves, start_s=10.0, rate_hz=500.0, n=700), expected, atol=2e-3)


def test_projection_is_the_matrix_product():
    vector = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    np.testing.assert_allclose(project(vector), DOWER @ vector, atol=1e-5)


def test_render_of_nothing_is_zero():
    nothing = Waves(np.zeros(0), np.zeros(0), np.zeros((0, 3)))
    assert not render(nothing, start_s=0.0, rate_hz=500.0, n=10).any()
    outside = Waves(np.array([-5.0, 80.0]), np.array([0.02, 0.02]), np.ones((2, 3)))
    assert not render(outside, start_s=0.0, rate_hz=500.0, n=10).any()


def terminal_force_uv_ms(v1_mv):
    """Morris' index as one measures it: the area of V1 after the last crossing to negative, in P."""
    return float(1e3 * np.minimum(v1_mv[np.argmax(v1_mv) :], 0.0).sum() * 1e3 / RATE_HZ)


def test_terminal_force_in_v1_deepens_with_pressure(patient):
    measured, latent = [], []
    for mmhg in np.arange(12.0, 40.0, 4.0):
        correlates = correlates_at(replace(patient, offsets=Correlates(0, 0, 0, 0)), mmhg)
        leads = one_beat(patient, correlates)
        measured.append(terminal_force_uv_ms(p_wave(leads, "V1", patient, correlates)))
        latent.append(correlates.ptf_v1_uv_ms)
    assert np.all(np.diff(measured) < 0.0)
    # 12 mmHg: about normal; 36 mmHg: beyond Morris' limit of -0.04 mm s = -4000 uV ms.
    assert measured[0] > -4000.0
    assert measured[-1] < -4000.0
    slope = np.polyfit(latent, measured, 1)[0]
    assert 0.7 < slope < 1.2


def test_left_atrial_area_is_the_latent_one(patient):
    bare = replace(patient, right_atrium_sigma_ms=15.0)
    early = Correlates(180.0, -9000.0, 70.0, 0.0)
    leads = one_beat(bare, early)
    p = p_wave(leads, "V1", bare, early)
    late = p[p.size // 2 :]
    assert 1e3 * late.sum() == pytest.approx(-9000.0, rel=0.04)


def test_p_duration_in_lead_ii_grows_with_the_latent_duration(patient):
    widths = []
    for duration_ms in (90.0, 120.0, 150.0, 180.0):
        leads = one_beat(patient, Correlates(duration_ms, -4500.0, 70.0, 0.0))
        ii = np.abs(lead(leads, "II")[: int(1e3 * R_S) - 55])
        above = np.flatnonzero(ii > 0.01)  # a tenth of a millimetre of paper
        widths.append(above[-1] - above[0])
    np.testing.assert_allclose(np.diff(widths), 30.0, atol=6.0)
    assert widths[1] == pytest.approx(120.0, abs=15.0)


def test_p_never_runs_into_the_qrs(patient):
    correlates = Correlates(190.0, -4500.0, 70.0, 0.0)
    short_pr = replace(patient, pr_ms=130.0)
    onset = 500.0 - 44.0 - 205.0
    leads = one_beat(short_pr, correlates)
    assert np.abs(lead(leads, "II")[: int(onset) - 25]).max() < 0.005
    assert left_atrium_sigma_ms(190.0) > left_atrium_sigma_ms(90.0)


def test_fibrillation_has_no_p(patient):
    correlates = Correlates(120.0, -4500.0, 70.0, 0.0)
    before = slice(0, int(1e3 * R_S) - 90)
    assert np.abs(one_beat(patient, correlates)[:, before]).max() > 0.05
    assert np.abs(one_beat(replace(patient, rhythm="af"), correlates)[:, before]).max() < 1e-3


def test_premature_beat_is_wide_and_has_no_p(patient):
    correlates = Correlates(120.0, -4500.0, 70.0, 0.0)
    usual, premature = one_beat(patient, correlates), one_beat(patient, correlates, pvc=True)

    def width_ms(leads):
        strength = np.linalg.norm(leads[:, 400:640], axis=0)
        return np.ptp(np.flatnonzero(strength > 0.15 * strength.max()))

    assert width_ms(usual) < 110
    assert width_ms(premature) > 120
    assert np.abs(premature[:, :300]).max() < 1e-3


@pytest.mark.parametrize(
    ("conduction", "low_ms", "high_ms"), [("normal", 70, 110), ("lbbb", 120, 185), ("rbbb", 110, 170)]
)
def test_qrs_duration_of_each_conduction(patient, conduction, low_ms, high_ms):
    leads = one_beat(
        replace(patient, conduction=conduction, qrs_width=1.0), Correlates(110.0, -4500.0, 70.0, 0.0)
    )
    strength = np.linalg.norm(leads[:, 400:650], axis=0)
    width_ms = np.ptp(np.flatnonzero(strength > 0.12 * strength.max()))
    assert low_ms <= width_ms <= high_ms


def test_bundle_branch_blocks_have_their_shapes(patient):
    correlates = Correlates(110.0, -4500.0, 70.0, 0.0)
    left = one_beat(replace(patient, conduction="lbbb"), correlates)
    right = one_beat(replace(patient, conduction="rbbb"), correlates)
    qrs, late = slice(440, 620), slice(540, 600)
    # LBBB: no R in V1, no q in I and V6, T against QRS. RBBB: late R' in V1, late S in I and V6.
    assert lead(left, "V1")[qrs].max() < 0.05
    assert lead(left, "V6")[qrs].min() > -0.1
    assert lead(left, "V6")[700:900].min() < -0.1
    assert lead(right, "V1")[late].max() > 0.3
    assert lead(right, "I")[late].min() < -0.1


def test_normal_precordial_progression(patient):
    leads = one_beat(patient, Correlates(110.0, -3000.0, 70.0, 0.0))
    r = [lead(leads, f"V{i}")[440:560].max() for i in range(1, 6)]
    s = [lead(leads, f"V{i}")[440:560].min() for i in range(1, 7)]
    assert np.all(np.diff(r[:4]) > 0.0)
    assert s[1] < s[4]
    assert r[0] < -s[0]
    assert r[4] > -s[4]
    assert lead(leads, "V5")[650:900].max() > 0.15


def test_voltage_scales_qrs_and_not_p(patient):
    full = one_beat(patient, Correlates(110.0, -4500.0, 70.0, 0.0))
    weak = one_beat(patient, Correlates(110.0, -4500.0, 70.0, np.log(0.8)))
    assert np.ptp(lead(weak, "II")[440:560]) == pytest.approx(
        0.8 * np.ptp(lead(full, "II")[440:560]), rel=0.02
    )
    assert lead(weak, "II")[250:420].max() == pytest.approx(lead(full, "II")[250:420].max(), rel=0.02)
