"""RMSE in units of the label's spread."""

import json
import math

import pytest
import torch

from ecgedge_train.losses.rmse import rmse_loss

LABELS = torch.tensor([8.0, 12.0, 21.0])


def standardised(pressures):
    return (pressures - 15.678) / 8.145


def test_published_value(oracles):
    known = json.loads((oracles / "ssldml_losses_miners.json").read_text())
    loss = rmse_loss(standardised(LABELS + torch.tensor([1.0, -2.0, 3.0])), LABELS)  # a mean square of 14 / 3
    assert loss.item() == pytest.approx(2.160247, abs=1e-5)
    assert loss.item() == pytest.approx(known["rmse_eps1e-6"], abs=1e-5)


def test_always_saying_the_mean_costs_the_spread():
    y = torch.tensor([5.0, 25.0])
    assert float(rmse_loss(torch.zeros(2), y, mean=15.0, sd=4.0, epsilon=0)) == pytest.approx(10.0)


def test_unknown_labels_are_left_out():
    z = torch.tensor([0.3, -0.2, 1.0, 0.0], requires_grad=True)
    y = torch.tensor([8.0, torch.nan, 21.0, torch.nan])
    loss = rmse_loss(z, y)
    loss.backward()
    errors = [15.678 + 8.145 * 0.3 - 8, 15.678 + 8.145 - 21]
    assert loss.item() == pytest.approx(math.sqrt(sum(e * e for e in errors) / 2 + 1e-6), rel=1e-5)
    assert z.grad[[1, 3]].tolist() == [0.0, 0.0]
    assert torch.isfinite(z.grad).all()


def test_gradient_is_finite_at_a_perfect_fit():
    z = torch.zeros(2, requires_grad=True)
    rmse_loss(z, torch.zeros(2), mean=0.0, sd=1.0).backward()
    assert torch.isfinite(z.grad).all()


def test_refuses_broadcasting_and_no_labels():
    # (B, E) outputs against (B, 1, 1) labels trained without a word in the published code.
    with pytest.raises(ValueError, match="labels"):
        rmse_loss(torch.zeros(3, 128), LABELS[:, None])
    with pytest.raises(ValueError, match="no record"):
        rmse_loss(torch.zeros(2), torch.full((2,), torch.nan))
