"""Triplet loss beyond the published values (those are in test_losses): gradients, empty batches, another library."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer

from ecgedge_train.losses.triplet import triplet_loss
from ecgedge_train.miners import label_distance_triplets


def random_batch(seed, rows=12, width=5):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=g, dtype=torch.float64)
    return x, label_distance_triplets(torch.rand(rows, generator=g))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.sampled_from([0.0, 0.2, 2.0]), st.booleans())
def test_equals_another_library(seed, margin, unit_norm):
    x, triplets = random_batch(seed)
    theirs = TripletMarginLoss(
        margin=margin,
        distance=LpDistance(normalize_embeddings=unit_norm, p=2, power=2),
        reducer=MeanReducer(),
    )
    expected = theirs(x, indices_tuple=tuple(triplets.T))
    assert triplet_loss(x, triplets, margin=margin, unit_norm=unit_norm).item() == pytest.approx(
        expected.item()
    )


def test_gradient_is_the_slope_of_the_loss():
    x, triplets = random_batch(1, rows=6, width=3)
    assert torch.autograd.gradcheck(lambda z: triplet_loss(z, triplets), x.requires_grad_())


def test_gradient_is_finite_for_equal_embeddings():
    x = torch.ones(5, 3, requires_grad=True)
    triplet_loss(x, torch.tensor([[0, 1, 2], [3, 4, 0]]), unit_norm=True).backward()
    assert torch.isfinite(x.grad).all()


def test_no_triplet_is_a_step_of_zeros():
    x = torch.randn(4, 3, requires_grad=True)
    loss = triplet_loss(x, torch.zeros(0, 3, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(x.grad, torch.zeros(4, 3))


def test_a_step_against_the_gradient_pulls_neighbours_together():
    x, triplets = random_batch(3)
    before = triplet_loss(x.requires_grad_(), triplets)
    before.backward()
    assert triplet_loss(x.detach() - 1e-3 * x.grad, triplets) < before


def test_embeddings_far_from_the_origin_keep_their_digits():
    x, triplets = random_batch(5)
    moved = (x.float() + 64).requires_grad_()
    exact = triplet_loss(moved.detach().double(), triplets)
    assert triplet_loss(moved, triplets).item() == pytest.approx(exact.item(), rel=1e-5)
