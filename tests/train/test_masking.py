"""Lead masking: the published statistics, and equality with ecgedge.leads row by row."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.leads import STANDARD_LEADS, derivation_matrix, parse_lead_set, presence_vector
from ecgedge_train.masking import apply_lead_mask, bernoulli_lead_mask, draw_lead_sets, fixed_lead_set

SETS = ("limb", "I,II,V2", "I,II", "I")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_published_mask_keeps_half_of_the_leads(oracles):
    known = json.loads((oracles / "fairseq_signals.json").read_text())["rlm_stats_20000"]
    kept = bernoulli_lead_mask(20_000, generator=rng())
    # Standard error of the mean of 20,000 Binomial(12, 1/2): 0.0122; five of them.
    assert kept.sum(1).float().mean().item() == pytest.approx(known["mean_leads_kept"], abs=0.061)
    low, high = known["per_lead_keep_min_max"]
    share = kept.float().mean(0)
    assert share.min() > low - 0.015
    assert share.max() < high + 0.015
    empty = (~kept.any(1)).float().mean().item()
    assert empty == pytest.approx(2**-12, abs=5 * np.sqrt(2**-12 / 20_000))


def test_ours_never_masks_everything():
    kept = draw_lead_sets(
        50_000,
        generator=rng(1),
        lead_sets=(),
        full_probability=0.0,
        device_probability=0.0,
        keep_probability=0.1,
    )
    assert kept.any(1).all()
    assert (kept.sum(1) == 1).float().mean() > 0.6  # 0.377 of one lead by chance and 0.282 rescued


def test_shares_of_full_and_device_sets():
    kept = draw_lead_sets(
        20_000,
        generator=rng(2),
        lead_sets=SETS,
        full_probability=0.25,
        device_probability=0.6,
        keep_probability=0.5,
    )
    names = {tuple(lead in parse_lead_set(s) for lead in STANDARD_LEADS): s for s in (*SETS, "12")}
    found = [names.get(tuple(row)) for row in kept.tolist()]
    share = {s: found.count(s) / len(found) for s in (*SETS, "12", None)}
    assert share["12"] == pytest.approx(0.25, abs=0.02)
    for lead_set in SETS:
        assert share[lead_set] == pytest.approx(0.15, abs=0.02)
    assert share[None] == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("batch", [1, 128])
def test_share_of_kept_leads_does_not_depend_on_the_batch_size(batch):
    draws = 12_800 // batch
    g = rng(3)
    kept = torch.cat([bernoulli_lead_mask(batch, generator=g, keep_probability=0.3) for _ in range(draws)])
    assert kept.float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_same_generator_state_same_draw():
    a, b, c = (draw_lead_sets(64, generator=rng(s), lead_sets=SETS) for s in (4, 4, 5))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=6), st.integers(0, 99)
)
def test_equals_the_device_side_matrices(rows, seed):
    kept = torch.tensor(rows)
    x = torch.randn(len(rows), 12, 20, generator=rng(seed))
    masked, presence = apply_lead_mask(x, kept)
    for i, row in enumerate(rows):
        leads = tuple(lead for lead, k in zip(STANDARD_LEADS, row, strict=True) if k)
        expected = derivation_matrix(leads) @ x[i][kept[i]].numpy()
        np.testing.assert_allclose(masked[i], expected, atol=1e-6)
        assert presence[i].tolist() == presence_vector(leads).tolist()


def test_limb_leads_are_never_zero_while_derivable():
    x = torch.randn(3, 12, 50, generator=rng(6))
    masked, presence = fixed_lead_set(x, "I,II")
    assert presence[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(masked[:, 2], x[:, 1] - x[:, 0])
    assert (masked[:, 6:] == 0).all()
    _, alone = fixed_lead_set(x, "I")
    assert alone[0].sum() == 1


def test_input_is_left_as_it_was():
    x = torch.randn(2, 12, 30, generator=rng(7))
    before = x.clone()
    apply_lead_mask(x, torch.zeros(2, 12, dtype=torch.bool))
    fixed_lead_set(x, "I,II")
    assert torch.equal(x, before)
