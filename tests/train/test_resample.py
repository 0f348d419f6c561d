"""Linear resampling against numpy.interp and the published preprocessing."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecgedge_train.encoders.resample import LinearResample


def interp(x, n):
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(x)), x)


@given(n_in=st.integers(2, 400), n_out=st.integers(2, 400), seed=st.integers(0, 99))
def test_equals_numpy_and_keeps_both_ends(n_in, n_out, seed):
    x = np.random.default_rng(seed).normal(size=(2, n_in))
    y = LinearResample(n_out)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, [interp(row, n_out) for row in x], rtol=0, atol=3e-6)  # weights are float32
    np.testing.assert_array_equal(y[:, [0, -1]], x[:, [0, -1]])


@pytest.mark.parametrize(
    ("n_in", "key"), [(5000, "process_ecg_5000_to_4096_lead"), (2500, "process_ecg_2500_to_4096_lead")]
)
def test_equals_the_published_preprocessing(n_in, key, oracles):
    known = json.loads((oracles / "pclr.json").read_text())[key]
    y = LinearResample(4096)(torch.sin(0.05 * torch.arange(n_in, dtype=torch.float64)).float())
    np.testing.assert_allclose(y[:5], known["first5"], atol=1e-6)
    assert y.double().sum().item() == pytest.approx(known["sum"], abs=1e-3)
    if "last3" in known:
        np.testing.assert_allclose(y[-3:], known["last3"], atol=1e-6)


def test_no_drift_at_the_end_of_a_long_record():
    # A ramp shows the position itself: float32 positions would be wrong by 1e-3 samples here.
    ramp = torch.arange(100_000, dtype=torch.float64)
    y = LinearResample(77_777)(ramp).numpy()
    np.testing.assert_allclose(y, interp(ramp.numpy(), 77_777), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [0, 250])
def test_nothing_to_do_returns_the_input_itself(n):
    x = torch.randn(2, 12, 1, 250)
    assert LinearResample(n)(x) is x


def test_gradient_is_that_of_a_linear_map():
    resample = LinearResample(37).double()
    x = torch.randn(2, 23, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resample, (x,))


def test_it_commutes_with_mixing_leads():
    x, mix = torch.randn(3, 2, 250), torch.randn(5, 2)
    resample = LinearResample(409)
    torch.testing.assert_close(mix @ resample(x), resample(mix @ x), rtol=0, atol=1e-5)


def test_half_precision_stays():
    assert LinearResample(9)(torch.randn(5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("n", [1, -4])
def test_lengths_that_cannot_keep_both_ends(n):
    with pytest.raises(ValueError, match=f"cannot resample to {n} samples"):
        LinearResample(n)
