"""ArcFace: the published values on both sides of pi - m, and another library's."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss
from torch.nn import functional

from ecgedge_train.losses.arcface import arcface_logits, arcface_loss


@pytest.mark.parametrize(("scale", "margin", "expected"), [(32.0, 0.5, 54.072468), (192.0, 1.0, 439.985901)])
def test_published_values(oracles, scale, margin, expected):
    known = json.loads((oracles / "fairseq_signals.json").read_text())
    cosine, targets = torch.tensor(known["arcface_cosines"]), torch.tensor(known["arcface_targets"])
    logits = arcface_logits(cosine, targets, scale=scale, margin=margin)
    total = float(functional.cross_entropy(logits, targets, reduction="sum"))
    assert total == pytest.approx(expected, abs=1e-4)
    assert total == pytest.approx(known[f"arcface_scale{scale:.0f}_margin{margin}_sum"], abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.sampled_from([(64.0, 0.5), (192.0, 1.0), (10.0, 0.0), (8.0, 2.5)]))
def test_logits_equal_the_formula_in_loops(seed, scale_margin):
    scale, margin = scale_margin
    g = torch.Generator().manual_seed(seed)
    cosine = 2 * torch.rand(6, 4, generator=g, dtype=torch.float64) - 1
    targets = torch.randint(4, (6,), generator=g)
    logits = arcface_logits(cosine, targets, scale=scale, margin=margin)
    for i in range(6):
        for j in range(4):
            theta = math.acos(float(cosine[i, j]))
            if j != targets[i]:
                expected = math.cos(theta)
            elif theta < math.pi - margin:
                expected = math.cos(theta + margin)
            else:
                expected = math.cos(theta) - margin * math.sin(margin)
            assert float(logits[i, j]) == pytest.approx(scale * expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("margin_deg", [28.6, 70.0])
def test_loss_equals_another_library(margin_deg):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(9, 5, generator=g, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(4, (9,), generator=g)
    theirs = ArcFaceLoss(num_classes=4, embedding_size=5, margin=margin_deg, scale=30)
    theirs.W.data = theirs.W.data.double()
    expected = theirs(x, targets)
    (their_slope,) = torch.autograd.grad(expected, x)
    mine = arcface_loss(x, theirs.W.T, targets, scale=30, margin=math.radians(margin_deg))
    (my_slope,) = torch.autograd.grad(mine, x)
    assert mine.item() == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(my_slope, their_slope)


def test_the_margin_asks_for_more_the_worse_the_angle():
    angles = torch.linspace(0, math.pi, 400, dtype=torch.float64)
    own = arcface_logits(angles.cos()[:, None], torch.zeros(400, dtype=torch.int64), scale=1.0, margin=1.0)[
        :, 0
    ]
    assert bool((own.diff() < 0).all())
    assert bool((own <= angles.cos()).all())


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0000001])
def test_gradient_is_finite_at_the_poles(cosine):
    # acos has an infinite slope there, and rounding takes a cosine past 1.
    c = torch.tensor([[cosine, 0.2]], requires_grad=True)
    functional.cross_entropy(arcface_logits(c, torch.tensor([0])), torch.tensor([0])).backward()
    assert torch.isfinite(c.grad).all()


def test_centres_learn():
    g = torch.Generator().manual_seed(1)
    centres = torch.randn(3, 4, generator=g, requires_grad=True)
    x, targets = torch.randn(6, 4, generator=g), torch.arange(6) % 3
    before = arcface_loss(x, centres, targets)
    before.backward()
    assert arcface_loss(x, centres.detach() - 0.01 * centres.grad, targets) < before


@pytest.mark.parametrize("margin", [-0.1, 3.2])
def test_refuses_a_margin_that_is_no_angle(margin):
    with pytest.raises(ValueError, match="radians"):
        arcface_logits(torch.zeros(1, 2), torch.tensor([0]), margin=margin)
