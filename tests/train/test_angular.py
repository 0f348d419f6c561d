"""Angular and N-pair losses: the published sum, loops over the formulas, another library's values."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import AngularLoss, NPairsLoss
from pytorch_metric_learning.reducers import MeanReducer

from ecgedge_train.losses.angular import angular_loss, angular_npair_loss, angular_terms
from ecgedge_train.losses.npair import npair_loss, npair_terms
from ecgedge_train.miners import npair_triplets


@pytest.fixture(scope="module")
def known(oracles):
    return json.loads((oracles / "ssldml_losses_miners.json").read_text())


def random_batch(seed, rows=12, width=4):
    g = torch.Generator().manual_seed(seed)
    classes = torch.arange(rows) % 3
    x = torch.randn(rows, width, generator=g, dtype=torch.float64)
    return x, classes, npair_triplets(classes, generator=g)


def unit(v):
    return [c / math.sqrt(sum(x * x for x in v)) for c in v]


def dot(v, w):
    return sum(x * y for x, y in zip(v, w, strict=True))


def loop_angular(x, triplets, alpha_deg):
    t2 = math.tan(math.radians(alpha_deg)) ** 2
    terms = []
    for row in triplets.tolist():
        a, p, n = (unit(x[i].tolist()) for i in row)
        outer = dot([i + j for i, j in zip(a, p, strict=True)], n)
        terms.append(math.log(1 + math.exp(4 * t2 * outer - 2 * (1 + t2) * dot(a, p))))
    return sum(terms) / len(terms)


def loop_npair(x, triplets, negatives_of):
    terms = []
    for k, (a, p, _) in enumerate(triplets.tolist()):
        inner = [math.exp(float(x[a] @ x[n] - x[a] @ x[p])) for n in negatives_of(k)]
        terms.append(math.log(1 + sum(inner)))
    return sum(terms) / len(terms)


def test_published_sum(known):
    x, triplets = torch.tensor(known["embeddings"]), torch.tensor(known["fixed_triplets_a_p_n"])
    loss = angular_npair_loss(x, triplets, shared_negatives=True)
    assert loss.item() == pytest.approx(6.984905, abs=2e-6)
    assert loss.item() == pytest.approx(known["angular_loss_alpha45_lam2_l2_0.005"], abs=2e-6)


def test_the_sum_is_of_its_parts(known):
    x, triplets = torch.tensor(known["embeddings"]), torch.tensor(known["fixed_triplets_a_p_n"])
    lengths = sum(math.sqrt(dot(row, row)) for row in known["embeddings"]) / 8
    expected = (
        float(npair_loss(x, triplets)) + 3 * float(angular_loss(x, triplets, alpha_deg=30)) + 0.1 * lengths
    )
    loss = angular_npair_loss(x, triplets, alpha_deg=30, angular_weight=3, length_weight=0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.sampled_from([30.0, 45.0, 52.0]))
def test_angular_equals_the_formula_in_loops(seed, alpha_deg):
    x, _, triplets = random_batch(seed)
    expected = loop_angular(x, triplets, alpha_deg)
    assert float(angular_loss(x, triplets, alpha_deg=alpha_deg)) == pytest.approx(expected, rel=1e-10)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999))
def test_npair_equals_the_formula_in_loops(seed):
    x, classes, triplets = random_batch(seed)
    negatives = triplets[:, 2].tolist()
    own = loop_npair(x, triplets, lambda k: [negatives[k]])
    assert float(npair_loss(x, triplets)) == pytest.approx(own, rel=1e-10)
    shared = loop_npair(x, triplets, lambda _: negatives)
    assert float(npair_loss(x, triplets, shared_negatives=True)) == pytest.approx(shared, rel=1e-10)
    anchor_class = [int(classes[a]) for a in triplets[:, 0]]
    apart = loop_npair(x, triplets, lambda k: [n for n in negatives if int(classes[n]) != anchor_class[k]])
    mine = npair_loss(x, triplets, shared_negatives=True, classes=classes)
    assert mine.item() == pytest.approx(apart, rel=1e-10)


def test_angular_equals_another_library():
    x, classes, _ = random_batch(5)
    x = torch.nn.functional.normalize(x, dim=1)  # they leave the negatives at their length, against the paper
    theirs = AngularLoss(alpha=40, reducer=MeanReducer())(x, classes)
    pairs = [(a, p) for a in range(12) for p in range(12) if a != p and classes[a] == classes[p]]
    a, p = torch.tensor(pairs).T
    others = torch.stack([torch.nonzero(classes != classes[i])[:, 0] for i in a])
    terms = angular_terms(x[a], x[p], x[others], alpha_deg=40)
    assert float(terms.mean()) == pytest.approx(theirs.item(), rel=1e-6)  # their alpha is a float32


def test_npair_equals_another_library():
    # One pair a class: the negatives of an anchor are the positives of the other classes.
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    classes = torch.arange(10) % 5
    # Dot products of raw vectors, as in the paper; their default scales to unit length.
    loss = NPairsLoss(reducer=MeanReducer(), distance=DotProductSimilarity(normalize_embeddings=False))
    a = torch.arange(5)
    no_pair = torch.zeros(0, dtype=torch.int64)
    theirs = loss(x, classes, indices_tuple=(a, a + 5, no_pair, no_pair))
    terms = npair_terms(x[:5], x[5:], x[5:], keep=~torch.eye(5, dtype=torch.bool))
    assert float(terms.mean()) == pytest.approx(theirs.item(), rel=1e-7)


def test_lengths_do_not_matter_to_the_angle():
    x, _, triplets = random_batch(2)
    scaled = x * torch.linspace(0.1, 30, 12)[:, None]
    assert float(angular_loss(scaled, triplets)) == pytest.approx(float(angular_loss(x, triplets)), rel=1e-10)


def test_huge_embeddings_keep_a_finite_gradient():
    # The published clamp at 50 would give no gradient here, an unguarded exponential infinity.
    x = torch.tensor([[30.0, 0.0], [0.0, 30.0], [30.0, 1.0]], requires_grad=True)
    loss = npair_loss(x, torch.tensor([[0, 1, 2]]))
    loss.backward()
    assert loss.item() == pytest.approx(900.0, rel=1e-6)
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().max()) > 1


def test_gradients_are_the_slopes():
    x, classes, triplets = random_batch(4, rows=6, width=3)

    def loss(z):
        return angular_npair_loss(z, triplets, shared_negatives=True, classes=classes)

    assert torch.autograd.gradcheck(loss, x.requires_grad_())


@pytest.mark.parametrize("shared", [True, False])
def test_no_triplet_is_the_price_of_the_lengths_alone(shared):
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]], requires_grad=True)
    loss = angular_npair_loss(x, torch.zeros(0, 3, dtype=torch.int64), shared_negatives=shared)
    loss.backward()
    assert loss.item() == pytest.approx(0.005 * 3)
    assert torch.isfinite(x.grad).all()
