"""The resampler against scipy's upfirdn and firwin, and against what it promises."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import firwin, resample_poly, upfirdn

from ecgedge.signal.resample import Resampler, polyphase_taps, rate_ratio

RATES = (90.0, 100.0, 128.0, 249.0, 257.0, 360.0, 400.0, 500.0, 1000.0, 8000.0)


def make(rate_hz, n_leads=1):
    return Resampler(n_leads=n_leads, rate_in_hz=rate_hz, rate_out_hz=250.0, pass_hz=40.0)


def prototype(rate_hz):
    """Put the branches back into one FIR."""
    ratio = rate_ratio(rate_hz, 250.0)
    stop_hz = min(rate_hz, 250.0) - 40.0
    return ratio, polyphase_taps(ratio, rate_in_hz=rate_hz, pass_hz=40.0, stop_hz=stop_hz).T.ravel(), stop_hz


@pytest.mark.parametrize("rate_hz", RATES)
def test_equals_upfirdn(rate_hz):
    ratio, taps, _ = prototype(rate_hz)
    x = np.random.default_rng(1).normal(0.0, 1.0, (2, 1111))
    expected = upfirdn(taps, x, up=ratio.numerator, down=ratio.denominator, axis=-1)
    outputs, _ = make(rate_hz, n_leads=2).push(x)
    np.testing.assert_allclose(outputs, expected[:, : outputs.shape[1]], atol=1e-13)


@pytest.mark.parametrize("rate_hz", [100.0, 360.0, 500.0])
def test_is_scipys_resample_poly_delayed(rate_hz):
    """Scipy's resampler with its own filter, on a signal inside the pass band: only the delay differs."""
    t = np.arange(int(20 * rate_hz)) / rate_hz
    x = np.sin(2 * np.pi * 7.0 * t) + 0.5 * np.cos(2 * np.pi * 23.0 * t)
    ratio = rate_ratio(rate_hz, 250.0)
    resampler = make(rate_hz)
    outputs, _ = resampler.push(x[None])
    t_out = np.arange(outputs.shape[1]) / 250.0 - resampler.delay_s
    expected = np.sin(2 * np.pi * 7.0 * t_out) + 0.5 * np.cos(2 * np.pi * 23.0 * t_out)
    np.testing.assert_allclose(outputs[0, 250:], expected[250:], atol=3e-3)
    # The delay is no whole number of samples, so scipy's output is compared through its own distance to theory.
    scipys = resample_poly(x, ratio.numerator, ratio.denominator, window=("kaiser", 5.0))
    t_out = np.arange(len(scipys)) / 250.0
    theory = np.sin(2 * np.pi * 7.0 * t_out) + 0.5 * np.cos(2 * np.pi * 23.0 * t_out)
    error = np.abs(outputs[0, 250:-250] - expected[250:-250]).max()
    assert error <= np.abs(scipys[250:-250] - theory[250:-250]).max() + 1e-3


@pytest.mark.parametrize("rate_hz", RATES)
def test_prototype_is_firwins_and_stops_by_60_db(rate_hz):
    ratio, taps, stop_hz = prototype(rate_hz)
    up = ratio.numerator
    reference = up * firwin(
        len(taps), (40.0 + stop_hz) / 2.0, window=("kaiser", 0.1102 * (65.0 - 8.7)), fs=up * rate_hz
    )
    # firwin is normalised as a whole, ours per branch: equal to within the images that this takes away.
    np.testing.assert_allclose(taps, reference, atol=2e-3 * reference.max())
    frequencies = np.concatenate([np.linspace(0, 40, 81), np.linspace(stop_hz, up * rate_hz / 2, 2000)])
    t = np.arange(len(taps)) / (up * rate_hz)
    gain = np.array([abs(np.exp(-2j * np.pi * f * t) @ taps) for f in frequencies]) / up
    assert np.abs(20 * np.log10(gain[:81])).max() < 0.02
    assert 20 * np.log10(gain[81:].max()) < -60.0


@pytest.mark.parametrize("rate_hz", RATES)
def test_branches_sum_to_one(rate_hz):
    _, taps, _ = prototype(rate_hz)
    up = rate_ratio(rate_hz, 250.0).numerator
    np.testing.assert_allclose(taps.reshape(-1, up).sum(axis=0), 1.0, atol=1e-15)


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_constant_stays_constant(rate_hz):
    resampler = make(rate_hz, n_leads=2)
    resampler.restart(np.array([True, True]), np.array([300.0, -7.0]))
    outputs, _ = resampler.push(np.array([[300.0], [-7.0]]) * np.ones((1, 500)))
    np.testing.assert_allclose(outputs, np.array([[300.0], [-7.0]]) * np.ones_like(outputs), rtol=1e-14)


@pytest.mark.parametrize("rate_hz", RATES)
def test_delay_is_where_an_impulse_is_centred(rate_hz):
    """Sum of t y(t) over sum of y(t) is the delay at 0 Hz; taken over many impulse times to see all phases."""
    n, centres = int(2 * rate_hz), []
    for at in range(50):
        resampler = make(rate_hz)
        x = np.zeros((1, n))
        x[0, at] = 1.0
        outputs, _ = resampler.push(x)
        t = np.arange(outputs.shape[1]) / 250.0
        centres.append((t * outputs[0]).sum() / outputs[0].sum() - at / rate_hz)
    assert np.mean(centres) == pytest.approx(resampler.delay_s, abs=2e-4)


@pytest.mark.parametrize(
    ("rate_hz", "n_in", "n_out"), [(100.0, 1000, 2500), (500.0, 5000, 2500), (250.0, 7, 7)]
)
def test_ten_seconds_give_a_window(rate_hz, n_in, n_out):
    assert make(rate_hz).n_outputs(n_in) == n_out
    outputs, newest = make(rate_hz).push(np.zeros((1, n_in)))
    assert outputs.shape == (1, n_out)
    assert newest[0] == 0


@pytest.mark.parametrize("rate_hz", RATES)
def test_output_k_is_ready_with_input_floor_k_m_over_l(rate_hz):
    ratio = rate_ratio(rate_hz, 250.0)
    resampler, ready = make(rate_hz), []
    for i in range(300):
        announced = resampler.n_outputs(1)
        outputs, newest = resampler.push(np.ones((1, 1)))
        assert outputs.shape[1] == announced
        assert (newest == 0).all()
        ready += [i] * outputs.shape[1]
    assert ready == [k * ratio.denominator // ratio.numerator for k in range(len(ready))]


@pytest.mark.parametrize(
    ("rate_hz", "ratio"),
    [
        (100.0, Fraction(5, 2)),
        (128.0, Fraction(125, 64)),
        (250.0, Fraction(1)),
        (257.0, Fraction(250, 257)),
        (360.0, Fraction(25, 36)),
        (1000.0, Fraction(1, 4)),
        (19_999.0, Fraction(250, 19_999)),
        (250.1, Fraction(2500, 2501)),
    ],
)
def test_ratios_are_exact(rate_hz, ratio):
    assert rate_ratio(rate_hz, 250.0) == ratio


@pytest.mark.parametrize("rate_hz", [90.0123, 128.3333, 249.97, 250.02, 333.3333, 499.987, 977.5171])
def test_odd_rates_are_met_within_two_in_ten_thousand(rate_hz):
    assert 250.0 / float(rate_ratio(rate_hz, 250.0)) == pytest.approx(rate_hz, rel=2e-4)
