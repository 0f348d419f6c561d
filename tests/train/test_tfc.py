"""Time-frequency consistency: loops over the paper's formulas, spectra against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.losses.tfc import TimeFrequency, perturbed_spectrum, spectrum, tfc_loss


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_views(seed, n=4):
    g = seeded(seed)
    return [
        TimeFrequency(*(torch.randn(n, width, generator=g, dtype=torch.float64) for width in (5, 5, 3, 3)))
        for _ in range(2)
    ]


def loop_d(x, y, patients, temperature):
    """NT-Xent of each ECG, mean of both directions."""
    n = len(x)
    rows = [row / row.norm() for row in torch.cat([x, y])]

    def one(i):
        partner = (i + n) % (2 * n)
        allowed = [j for j in range(2 * n) if j == partner or patients[j % n] != patients[i % n]]
        total = sum(math.exp(float(rows[i] @ rows[j]) / temperature) for j in allowed)
        return -math.log(math.exp(float(rows[i] @ rows[partner]) / temperature) / total)

    return [(one(i) + one(i + n)) / 2 for i in range(n)]


def loop(clean, view, patients, temperature, weight, margin, hinge):
    def d(x, y):
        return loop_d(x, y, patients, temperature)

    l_t, l_f = np.mean(d(clean.h_time, view.h_time)), np.mean(d(clean.h_frequency, view.h_frequency))
    agree = d(clean.z_time, clean.z_frequency)
    pairs = [
        d(clean.z_time, view.z_frequency),
        d(view.z_time, clean.z_frequency),
        d(view.z_time, view.z_frequency),
    ]
    l_c = 0.0
    for i in range(len(agree)):
        for pair in pairs:
            gap = agree[i] - pair[i] + margin
            l_c += max(0.0, gap) if hinge else gap
    return weight * (l_t + l_f) + (1 - weight) * l_c / len(agree)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 9999),
    st.sampled_from([[0, 1, 2, 3], [0, 0, 1, 2]]),
    st.sampled_from([(0.2, 0.2, 1.0), (0.5, 0.5, 0.1)]),
    st.booleans(),
)
def test_equals_the_formula_in_loops(seed, patients, numbers, hinge):
    clean, view = random_views(seed)
    temperature, weight, margin = numbers
    mine = tfc_loss(
        clean,
        view,
        temperature=temperature,
        contrast_weight=weight,
        margin=margin,
        hinge=hinge,
        patients=torch.tensor(patients),
    )
    expected = loop(clean, view, patients, temperature, weight, margin, hinge)
    assert mine.item() == pytest.approx(expected, rel=1e-9)


def test_weight_one_is_the_contrast_alone_and_zero_the_consistency():
    clean, view = random_views(1)
    other = TimeFrequency(view.h_time, view.h_frequency, view.z_time + 1, view.z_frequency - 1)
    assert tfc_loss(clean, view, contrast_weight=1.0) == tfc_loss(clean, other, contrast_weight=1.0)
    other = TimeFrequency(view.h_time + 1, view.h_frequency - 1, view.z_time, view.z_frequency)
    assert tfc_loss(clean, view, contrast_weight=0.0) == tfc_loss(clean, other, contrast_weight=0.0)


def test_the_hinge_rests_once_the_perturbed_pairs_are_farther_by_the_margin():
    z = torch.eye(4, dtype=torch.float64)
    apart = -z  # the worst there is: opposite to its own ECG
    clean = TimeFrequency(z, z, z, z)
    view = TimeFrequency(z, z, z, apart)
    # z_time of the view still agrees, so one of three pairs breaks the margin, by exactly the margin.
    resting = tfc_loss(clean, view, contrast_weight=0.0, margin=0.3, hinge=True)
    assert float(resting) == pytest.approx(0.3)
    assert tfc_loss(clean, view, contrast_weight=0.0, margin=0.3) < 0


def test_gradients_reach_all_eight_tensors():
    clean, view = random_views(3)
    tensors = [t.requires_grad_() for v in (clean, view) for t in vars(v).values()]
    tfc_loss(clean, view).backward()
    assert len(tensors) == 8
    for t in tensors:
        assert torch.isfinite(t.grad).all()
        assert float(t.grad.abs().max()) > 0


@pytest.mark.parametrize("samples", [2500, 1249])
def test_spectrum_is_numpy_s_and_keeps_the_energy(samples):
    x = torch.randn(2, 12, samples, generator=seeded(0), dtype=torch.float64)
    magnitude = spectrum(x)
    assert magnitude.shape == (2, 12, samples // 2 + 1)
    np.testing.assert_allclose(magnitude, np.abs(np.fft.rfft(x.numpy())) / math.sqrt(samples), rtol=1e-9)
    both_sides = torch.full((samples // 2 + 1,), 2.0, dtype=torch.float64)
    both_sides[0] = 1
    if samples % 2 == 0:
        both_sides[-1] = 1
    torch.testing.assert_close((both_sides * magnitude**2).sum(-1), (x**2).sum(-1))


def test_a_millivolt_at_one_hertz_is_in_the_bin_of_one_hertz():
    t = torch.arange(2500) / 250
    magnitude = spectrum(torch.sin(2 * torch.pi * t)[None, None])[0, 0]
    assert int(magnitude.argmax()) == 10  # bins of 0.1 Hz in 10 s
    assert float(magnitude[10]) == pytest.approx(math.sqrt(2500) / 2, rel=1e-4)


def test_a_silent_lead_has_a_finite_gradient():
    x = torch.zeros(1, 2, 100, requires_grad=True)
    spectrum(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_perturbed_spectrum_removes_and_raises_the_share_asked_for():
    magnitude = 0.1 + torch.rand(4, 12, 1251, generator=seeded(0))
    view = perturbed_spectrum(magnitude, generator=seeded(1), share=0.1, amplitude=0.5)
    removed, changed = view == 0, view != magnitude
    assert float(removed.float().mean()) == pytest.approx(0.1, abs=0.005)
    raised = changed & ~removed
    level = 0.5 * magnitude.amax(dim=-1, keepdim=True).expand_as(magnitude)
    torch.testing.assert_close(view[raised], level[raised])
    below = magnitude < level
    assert float(raised[below].float().mean()) == pytest.approx(0.1, abs=0.01)
    assert not bool(raised[~below].any())
    assert torch.equal(perturbed_spectrum(magnitude, generator=seeded(1)), view)
    assert torch.equal(perturbed_spectrum(magnitude, generator=seeded(1), share=0.0), magnitude)
