"""Margin loss: the published value, loops over the formula, another library, and a beta that is learned."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import MarginLoss

from ecgedge_train.losses.margin import margin_loss
from ecgedge_train.miners import label_distance_triplets, npair_triplets

PRESSURES = torch.tensor([8.0, 12.0, 21.0, 25.0, 15.0, 30.0, 10.0, 19.0])


@pytest.fixture(scope="module")
def known(oracles):
    return json.loads((oracles / "ssldml_losses_miners.json").read_text())


def random_batch(seed, rows=12, n_classes=3):
    g = torch.Generator().manual_seed(seed)
    x = 0.6 * torch.randn(rows, 4, generator=g, dtype=torch.float64)
    classes = torch.arange(rows) % n_classes
    beta = 1 + 0.4 * torch.randn(n_classes, generator=g, dtype=torch.float64)
    return x, npair_triplets(classes, generator=g), beta, classes


def loop(x, triplets, beta, classes, margin, nu, reduction="triplets"):
    total, price = 0.0, 0.0
    count = {"terms": 0, "triplets": 0}
    for a, p, n in triplets.tolist():
        b = float(beta[classes[a]])
        price += nu * b
        terms = [
            math.sqrt(float(((x[a] - x[p]) ** 2).sum()) + 1e-8) - b + margin,
            b - math.sqrt(float(((x[a] - x[n]) ** 2).sum()) + 1e-8) + margin,
        ]
        total += sum(max(0.0, term) for term in terms)
        count["terms"] += sum(term > 0 for term in terms)
        count["triplets"] += any(term > 0 for term in terms)
    return (total + price) / count[reduction] if count[reduction] else 0.0


def test_published_value(known):
    x, triplets = torch.tensor(known["embeddings"]), torch.tensor(known["fixed_triplets_a_p_n"])
    classes = torch.tensor(known["class_labels"])
    beta = torch.full((known["margin_beta_numel"],), 1.2)
    assert float(margin_loss(x, triplets, beta, classes)) == pytest.approx(1.411996, abs=1e-6)
    assert float(margin_loss(x, triplets, beta, classes)) == pytest.approx(
        known["margin_loss_beta1.2_m0.2"], abs=1e-6
    )
    assert float(margin_loss(x, triplets, torch.tensor(1.2))) == pytest.approx(1.411996, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 9999),
    st.sampled_from([0.0, 0.2, 0.7]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["triplets", "terms"]),
)
def test_equals_the_formula_in_loops(seed, margin, nu, reduction):
    x, triplets, beta, classes = random_batch(seed)
    expected = loop(x, triplets, beta, classes, margin, nu, reduction)
    loss = margin_loss(x, triplets, beta, classes, margin=margin, nu=nu, reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nu", [0.0, 0.05])
def test_equals_another_library(nu):
    x, triplets, beta, classes = random_batch(7)
    theirs = MarginLoss(
        margin=0.2,
        nu=nu,
        learn_beta=True,
        num_classes=3,
        distance=LpDistance(normalize_embeddings=False, p=2, power=1),
    )
    theirs.beta.data = beta.clone()
    expected = theirs(x, classes, indices_tuple=tuple(triplets.T))
    expected.backward()
    mine = beta.clone().requires_grad_()
    loss = margin_loss(x, triplets, mine, classes, nu=nu, reduction="terms")
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)  # they have no 1e-8 under the root
    torch.testing.assert_close(mine.grad, theirs.beta.grad)


@pytest.mark.parametrize("per_class", [True, False])
def test_beta_has_a_gradient_and_an_optimiser_moves_it(known, per_class):
    # In the published code beta is never given to the optimiser, and stays at 1.2.
    x = torch.tensor(known["embeddings"], requires_grad=True)
    triplets = torch.tensor([[0, 1, 3], [2, 3, 1]])  # the positives are too far: beta must grow
    classes = torch.tensor(known["class_labels"])
    beta = torch.nn.Parameter(torch.full((2,) if per_class else (), 1.2))
    optimizer = torch.optim.Adam([{"params": [x]}, {"params": [beta], "lr": 5e-4}], lr=1e-4)
    before = margin_loss(x, triplets, beta, classes)
    before.backward()
    assert torch.isfinite(x.grad).all()
    assert bool((beta.grad < 0).all())
    optimizer.step()
    assert bool((beta > 1.2004).all())
    assert margin_loss(x, triplets, beta, classes) < before


def test_pressure_labels_use_one_beta(known):
    # With pressures for classes the published loss raises IndexError.
    x = torch.tensor(known["embeddings"])
    triplets = label_distance_triplets(PRESSURES)
    beta = torch.tensor([1.2], requires_grad=True)
    loss = margin_loss(x, triplets, beta, PRESSURES)
    loss.backward()
    expected = loop(x, triplets, torch.tensor([1.2]), torch.zeros(8, dtype=torch.int64), 0.2, 0.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert float(beta.grad) != 0
    with pytest.raises(ValueError, match="classes_from_cuts"):
        margin_loss(x, triplets, torch.ones(2), PRESSURES)


@pytest.mark.parametrize("triplets", [torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 2]])])
def test_nothing_violated_is_zero_with_a_gradient(triplets):
    x = torch.tensor([[0.0], [0.1], [9.0]], requires_grad=True)
    beta = torch.tensor(1.2, requires_grad=True)
    loss = margin_loss(x, triplets, beta, nu=0.5)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(x.grad, torch.zeros(3, 1))
    assert float(beta.grad) == 0.0


def test_gradient_is_finite_for_equal_embeddings():
    x = torch.zeros(3, 2, requires_grad=True)
    margin_loss(x, torch.tensor([[0, 1, 2]]), torch.tensor(0.1)).backward()
    assert torch.isfinite(x.grad).all()


def test_refuses_classes_that_beta_has_not():
    x, triplets = torch.randn(4, 2), torch.tensor([[0, 1, 2]])
    for classes in (torch.tensor([3, 0, 0, 0]), torch.tensor([-1, 0, 0, 0])):
        with pytest.raises(ValueError, match="there are 2 betas"):
            margin_loss(x, triplets, torch.ones(2), classes)
    with pytest.raises(ValueError, match="2 betas need"):
        margin_loss(x, triplets, torch.ones(2))
