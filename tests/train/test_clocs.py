"""Contrastive baselines: CLOCS-style values, their relation to NT-Xent, views on the same millivolts."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss

from ecgedge_train.losses.clocs import clocs_loss
from ecgedge_train.losses.cmsc import cmsc_loss
from ecgedge_train.losses.ntxent import nt_xent


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def known(oracles):
    return json.loads((oracles / "ssldml_losses_miners.json").read_text())


@pytest.fixture(scope="module")
def views(known):
    x = torch.tensor(known["embeddings"])
    return x[:4], x[4:]


def loop_clocs(first, second, patients, temperature):
    u, v = (x / x.norm(dim=1, keepdim=True) for x in (first, second))
    e = [[math.exp(float(a @ b) / temperature) for b in v] for a in u]
    n = len(u)
    groups = {"r=": [], "c=": [], "r<": [], "c>": []}
    for i in range(n):
        for j in range(n):
            if patients[i] != patients[j]:
                continue
            row = -math.log(e[i][j] / sum(e[i]))
            column = -math.log(e[i][j] / sum(e[k][j] for k in range(n)))
            if i == j:
                groups["r="].append(row)
                groups["c="].append(column)
            elif i < j:
                groups["r<"].append(row)
            else:
                groups["c>"].append(column)
    means = [sum(g) / len(g) for g in groups.values() if g]
    return sum(means) / len(means)


def test_published_simclr_is_textbook_nt_xent(known, views):
    loss = float(nt_xent(*views, temperature=0.1))
    assert loss == pytest.approx(6.970854, abs=1e-5)
    assert loss == pytest.approx(known["contrastive_simclr_T0.1_uniquepids"], abs=1e-5)


def test_nt_xent_equals_another_library(views):
    codes = torch.arange(4).repeat(2)
    expected = NTXentLoss(temperature=0.1)(torch.cat(views), codes)
    assert float(nt_xent(*views, temperature=0.1)) == pytest.approx(float(expected), rel=1e-5)


def test_published_cmsc(known, views):
    everyone = torch.arange(4)
    published = known["contrastive_cmsc_T0.1_uniquepids"]
    for loss in (clocs_loss, cmsc_loss):  # one ECG a patient: code and paper agree
        assert float(loss(*views, everyone, temperature=0.1)) == pytest.approx(5.324977, abs=1e-5)
        assert float(loss(*views, everyone, temperature=0.1)) == pytest.approx(published, abs=1e-5)


def test_published_cmsc_with_two_rows_of_one_patient(known, views):
    loss = float(clocs_loss(*views, torch.tensor([10, 10, 12, 13])))
    assert loss == pytest.approx(6.902449, abs=1e-5)
    assert loss == pytest.approx(known["contrastive_cmsc_T0.1_pids_10_10_12_13"], abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.lists(st.integers(0, 3), min_size=2, max_size=6), st.sampled_from([0.1, 0.5]))
def test_clocs_equals_the_formula_in_loops(seed, patients, temperature):
    g = seeded(seed)
    first, second = (torch.randn(len(patients), 5, generator=g, dtype=torch.float64) for _ in range(2))
    expected = loop_clocs(first, second, patients, temperature)
    mine = clocs_loss(first, second, torch.tensor(patients), temperature=temperature)
    assert mine.item() == pytest.approx(expected, rel=1e-9)


def test_clocs_gradient_is_the_slope():
    first, second = (torch.randn(4, 3, generator=seeded(s), dtype=torch.float64) for s in (1, 2))
    patients = torch.tensor([0, 0, 1, 2])
    assert torch.autograd.gradcheck(
        lambda x: clocs_loss(x, second, patients, temperature=1.0), first.requires_grad_()
    )


def test_clocs_refuses_what_cannot_be_contrasted():
    for a, b, n in [((3, 4), (4, 4), 3), ((3, 4), (3, 4), 4), ((1, 4), (1, 4), 1), ((4,), (4,), 4)]:
        with pytest.raises(ValueError, match=r"expected \(N, D\)|at least 2"):
            clocs_loss(torch.ones(a), torch.ones(b), torch.zeros(n))
