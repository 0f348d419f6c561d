"""Token masks: the published draws number for number, and ours with one count whatever the batch."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.token_masking import (
    count_masked,
    draw_token_mask,
    expected_mask_fraction,
    published_token_mask,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def reference(oracles):
    return json.loads((oracles / "fairseq_signals.json").read_text())


class TestPublished:
    @pytest.mark.parametrize(
        ("batch", "n_tokens", "seed"), [(2, 156, 0), (2, 156, 1), (4, 156, 7), (2, 312, 0)]
    )
    def test_draws_the_published_index_sets(self, reference, batch, n_tokens, seed):
        known = reference["mask_cases_np_random_seed"][f"B{batch}_T{n_tokens}_p0.65_len10_seed{seed}"]
        mask = published_token_mask(batch, n_tokens, random=np.random.RandomState(seed))
        assert [np.flatnonzero(row).tolist() for row in mask] == known["idx"]

    @pytest.mark.parametrize(
        ("batch", "name"),
        [(1, "mask_fraction_T156_single_row"), (4, "mask_fraction_T156_p0.65_l10_B4_2000draws")],
    )
    def test_its_share_falls_with_the_batch(self, reference, batch, name):
        random = np.random.RandomState(3)
        share = np.mean([published_token_mask(batch, 156, random=random).mean() for _ in range(1000)])
        # Five standard errors of 1,000 draws.
        assert share == pytest.approx(reference[name]["mean"], abs=5 * reference[name]["std"] / 1000**0.5)

    @pytest.mark.parametrize("n_tokens", [40, 78, 156])
    def test_expected_share_is_its_mean_for_one_crop(self, n_tokens):
        random = np.random.RandomState(n_tokens)
        shares = [published_token_mask(1, n_tokens, random=random).mean() for _ in range(3000)]
        error = np.std(shares) / 3000**0.5
        assert expected_mask_fraction(n_tokens) == pytest.approx(np.mean(shares), abs=4 * error)

    def test_expected_share_agrees_with_the_reference_run(self, reference):
        known = reference["mask_fraction_T156_single_row"]
        assert expected_mask_fraction(156) == pytest.approx(known["mean"], abs=3 * known["std"] / 2000**0.5)
        assert count_masked(156) / 156 == pytest.approx(0.494, abs=0.5 / 156)

    @pytest.mark.parametrize("n_tokens", [11, 12, 13])
    def test_short_crops(self, n_tokens):
        # Fewer places than spans: the published code widens the choice.
        mask = published_token_mask(3, n_tokens, random=np.random.RandomState(0))
        assert mask.any(axis=1).all()
        assert 0 < expected_mask_fraction(n_tokens) < 1


class TestOurs:
    @pytest.mark.parametrize("batch", [1, 4, 16, 128])
    def test_share_does_not_depend_on_the_batch_size(self, reference, batch):
        mask = draw_token_mask(batch, 156, generator=rng(batch))
        assert mask.shape == (batch, 156)
        # Half a token of rounding, and three standard errors of the reference's 2,000 draws.
        known = reference["mask_fraction_T156_single_row"]
        slack = 0.5 / 156 + 3 * known["std"] / 2000**0.5
        np.testing.assert_allclose(mask.double().mean(dim=1), known["mean"], atol=slack)
        assert len(set(mask.sum(dim=1).tolist())) == 1

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 6), st.integers(11, 320), st.floats(0.1, 0.9), st.integers(0, 999))
    def test_every_row_has_the_count_in_whole_spans(self, batch, n_tokens, probability, seed):
        mask = draw_token_mask(batch, n_tokens, generator=rng(seed), probability=probability)
        assert (mask.sum(dim=1) == count_masked(n_tokens, probability=probability)).all()
        assert not mask.all(dim=1).any()
        for row in mask.tolist():
            runs = [len(run) for run in "".join("#" if m else "." for m in row).replace(".", " ").split()]
            assert sum(n < 10 for n in runs) <= 1  # the last span is cut short

    def test_every_token_has_its_turn(self):
        shares = draw_token_mask(4000, 156, generator=rng(1)).float().mean(dim=0)
        assert shares.min() > 0.05  # the outermost tokens lie under one span of ten only
        assert shares[10:-10].max() < 0.60
        assert shares[10:-10].min() > 0.45
        # The published draw never hides the last one.
        random = np.random.RandomState(0)
        assert not any(published_token_mask(1, 156, random=random)[0, -1] for _ in range(300))

    def test_rows_differ_and_follow_from_the_generator(self):
        a, b, c = (draw_token_mask(8, 156, generator=rng(s)) for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert len({tuple(row) for row in a.tolist()}) == 8

    def test_refuses_a_crop_of_one_span(self):
        with pytest.raises(ValueError, match="10 tokens"):
            draw_token_mask(2, 10, generator=rng())
