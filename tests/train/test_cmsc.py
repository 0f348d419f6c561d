"""CMSC against the published code's values and against loops over the formula."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.losses.cmsc import Gathered, cmsc_loss


@pytest.fixture
def reference(oracles):
    return json.loads((oracles / "fairseq_signals.json").read_text())


@pytest.fixture
def pairs():
    i = torch.arange(48, dtype=torch.float64)
    rows = (torch.sin(0.7 * i) + 0.1 * torch.cos(1.3 * i)).reshape(8, 6).float()
    return rows[0::2], rows[1::2]


def loop_loss(first, second, patients, temperature):
    n, total = len(first), 0.0
    for a, b in ((first, second), (second, first)):
        s = [[float(torch.cosine_similarity(x, y, dim=0)) / temperature for y in b] for x in a]
        for i in range(n):
            mine = [j for j in range(n) if patients[j] == patients[i]]
            others = sum(math.exp(s[i][k]) for k in range(n) if k not in mine)
            terms = [-math.log(math.exp(s[i][j]) / (math.exp(s[i][j]) + others)) for j in mine]
            total += sum(terms) / len(terms) / n / 2
    return total


@pytest.mark.parametrize("positives", ["patient", "published"])
def test_published_value(reference, pairs, positives):
    loss = cmsc_loss(*pairs, torch.arange(4), positives=positives)
    assert float(loss) == pytest.approx(14.354532, abs=1e-4)
    assert float(loss) == pytest.approx(reference["cmsc_unique_patients"], abs=1e-4)


def test_published_value_of_two_pairs_of_one_patient(reference, pairs):
    loss = cmsc_loss(*pairs, torch.tensor([0, 0, 1, 2]), positives="published")
    assert float(loss) == pytest.approx(12.405810, abs=1e-4)
    assert float(loss) == pytest.approx(reference["cmsc_two_pairs_same_patient"], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("patients", [[0, 1, 2, 3], [7, 7, 1, 2], [5, 2, 2, 2]])
def test_equals_the_formula_in_loops(pairs, dtype, patients):
    a, b = (x.to(dtype) for x in pairs)
    found = cmsc_loss(a, b, torch.tensor(patients), temperature=0.4)
    assert float(found) == pytest.approx(loop_loss(a, b, patients, 0.4), rel=1e-5)


def test_two_records_of_a_patient_are_no_negatives():
    twins = torch.eye(3)[[0, 0, 1, 2]]
    as_one = cmsc_loss(twins, twins, torch.tensor([0, 0, 1, 2]))
    as_two = cmsc_loss(twins, twins, torch.arange(4))
    published = cmsc_loss(twins, twins, torch.tensor([0, 0, 1, 2]), positives="published")
    assert as_one < 1e-3  # a perfect embedding
    assert as_two > 0.3  # record numbers as patients: the twin stands in the denominator
    assert published > 0.3  # patient numbers, but the patient's positives compete with each other


@pytest.mark.parametrize("positives", ["patient", "published"])
def test_gradient_is_that_of_the_cosine(pairs, positives):
    # A cosine does not know lengths, so its gradient stands upright on each vector; with the length held fixed, as
    # published, it does not.
    a, b = (x.double().requires_grad_() for x in pairs)
    codes = torch.tensor([0, 0, 1, 2])
    cmsc_loss(a, b, codes, positives=positives).backward()
    for x in (a, b):
        assert x.grad.abs().max() > 0.1
        torch.testing.assert_close((x.grad * x).sum(dim=1), torch.zeros(4, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x, y: cmsc_loss(x, y, codes, positives=positives), (a, b))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["patient", "published"]),
    st.lists(st.integers(0, 5), min_size=8, max_size=8).filter(lambda p: len(set(p)) > 1),
)
def test_mean_over_ranks_is_the_whole(ranks, positives, patients):
    g = torch.Generator().manual_seed(3)
    first, second = (
        torch.randn(8, 5, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    codes = torch.tensor(patients)
    whole = cmsc_loss(first, second, codes, positives=positives)
    everyone = Gathered(first, second, codes)
    shares = [
        cmsc_loss(a, b, p, positives=positives, gathered=everyone)
        for a, b, p in zip(first.chunk(ranks), second.chunk(ranks), codes.chunk(ranks), strict=True)
    ]
    # What a gather that sums gradients on its way back, and DDP's mean over ranks, make of it.
    mean = torch.stack(shares).mean()
    torch.testing.assert_close(mean, whole)
    for x, y in zip(
        torch.autograd.grad(mean, [first, second]), torch.autograd.grad(whole, [first, second]), strict=True
    ):
        torch.testing.assert_close(x, y)


def test_lengths_do_not_matter(pairs):
    a, b = pairs
    codes = torch.arange(4)
    assert float(cmsc_loss(3 * a, 0.2 * b, codes)) == pytest.approx(float(cmsc_loss(a, b, codes)), rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "patients", "message"),
    [
        ((3, 4), (4, 4), [0, 1, 2], "expected"),
        ((3, 4), (3, 4), [0, 1], "expected"),
        ((3,), (3,), [0, 1, 2], "expected"),
        ((3, 4), (3, 4), [5, 5, 5], "at least 2 patients"),
        ((1, 4), (1, 4), [0], "at least 2 patients"),
    ],
)
def test_refuses_what_cannot_be_contrasted(a, b, patients, message):
    with pytest.raises(ValueError, match=message):
        cmsc_loss(torch.ones(a), torch.ones(b), torch.tensor(patients))
