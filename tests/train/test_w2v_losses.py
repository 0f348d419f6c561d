"""InfoNCE, diversity and the whole W2V+CMSC loss against numbers of the published code and loops over the formula."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.losses.cmsc import cmsc_loss
from ecgedge_train.losses.w2v import diversity_loss, info_nce, info_nce_logits, sample_negatives, w2v_loss

spec = importlib.util.spec_from_file_location("w2v_reference", Path(__file__).parent / "w2v_reference.py")
w2v_reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(w2v_reference)


@pytest.fixture
def reference(oracles):
    return w2v_reference.read_reference(oracles)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def published_case(det):
    """The reference's two crops of three tokens with four foreign negatives each, as six crops of 1 + 4 targets."""
    x = torch.from_numpy(det(48, 1).reshape(6, 8)).float()
    y = torch.from_numpy(det(48, 2).reshape(6, 8)).float()
    foreign = torch.from_numpy(det(192, 3).reshape(4, 6, 8)).float()
    foreign[1, 0] = y[0]
    targets = torch.cat([y[:, None], foreign.transpose(0, 1)], dim=1)
    codes = torch.arange(5).repeat(6, 1)[..., None]
    codes[0, 2] = codes[0, 0]
    predicted = x[:, None].expand(6, 5, 8)
    negatives = torch.arange(1, 5).expand(6, 5, 4)
    return {"predicted": predicted, "targets": targets, "negatives": negatives, "codes": codes}


class TestInfoNce:
    def test_reference_value(self, reference, published_case):
        known = reference["infonce"]
        logits = info_nce_logits(**published_case)[:, 0]
        np.testing.assert_allclose(logits[0], known["logits_b0_t0"], atol=1e-4)
        np.testing.assert_allclose(logits[5], known["logits_b1_t2"], atol=1e-4)
        total = info_nce(**published_case)[:, 0].sum()
        assert float(total) == pytest.approx(17.577669, abs=1e-4)
        assert float(total) == pytest.approx(known["ce_sum_over_masked"], abs=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_equals_the_formula_in_loops(self, dtype):
        g = rng(1)
        c, q = (torch.randn(2, 5, 4, generator=g).to(dtype) for _ in range(2))
        codes = torch.randint(3, (2, 5, 2), generator=g)
        negatives = sample_negatives(2, 5, generator=g, count=7)
        found = info_nce(c, q, negatives, codes=codes, temperature=0.3)
        for b in range(2):
            for i in range(5):
                drawn = [int(j) for j in negatives[b, i] if not torch.equal(codes[b, j], codes[b, i])]
                s = [float(torch.cosine_similarity(c[b, i], q[b, j], dim=0)) / 0.3 for j in [i, *drawn]]
                expected = -math.log(math.exp(s[0]) / sum(map(math.exp, s)))
                assert float(found[b, i]) == pytest.approx(expected, rel=1e-4, abs=1e-5)

    def test_only_equal_negatives_cost_nothing_and_give_no_nan(self):
        c = torch.randn(1, 3, 4, generator=rng()).requires_grad_()
        codes = torch.zeros(1, 3, 1, dtype=torch.long)
        terms = info_nce(c, torch.ones(1, 3, 4), sample_negatives(1, 3, generator=rng()), codes=codes)
        assert torch.equal(terms, torch.zeros(1, 3))
        terms.sum().backward()
        assert torch.equal(c.grad, torch.zeros_like(c))

    def test_refuses_other_shapes(self):
        c = torch.ones(2, 3, 4)
        with pytest.raises(ValueError, match="expected"):
            info_nce(c, c[:, :2], torch.zeros(2, 3, 5, dtype=torch.long), codes=torch.zeros(2, 3, 1))
        with pytest.raises(ValueError, match="expected"):
            info_nce(c, c, torch.zeros(2, 2, 5, dtype=torch.long), codes=torch.zeros(2, 3, 1))


class TestNegatives:
    def test_draws_the_published_ones(self, reference):
        known = torch.tensor(reference["sample_negatives_seed0_B2_T6_n3"]["idx"]).reshape(2, 6, 3)
        found = sample_negatives(2, 6, generator=rng(0), count=3)
        # The reference numbers the tokens of all crops through.
        assert torch.equal(found + 6 * torch.arange(2)[:, None, None], known)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 4), st.integers(2, 20), st.integers(1, 30), st.integers(0, 99))
    def test_never_its_own_and_never_another_crops(self, batch, n_masked, count, seed):
        found = sample_negatives(batch, n_masked, generator=rng(seed), count=count)
        assert found.shape == (batch, n_masked, count)
        assert found.min() >= 0
        assert found.max() < n_masked
        assert not (found == torch.arange(n_masked)[:, None]).any()

    def test_every_other_token_is_equally_likely(self):
        drawn = sample_negatives(1, 5, generator=rng(2), count=20_000)[0, 2]
        np.testing.assert_allclose(
            drawn.bincount(minlength=5) / 20_000, [0.25, 0.25, 0, 0.25, 0.25], atol=0.016
        )

    def test_refuses_a_single_token(self):
        with pytest.raises(ValueError, match="1 masked"):
            sample_negatives(2, 1, generator=rng())


class TestWholeLoss:
    def run(self, reference, oracles, det):
        known = reference["criterion_tiny"]
        encoder = w2v_reference.tiny_encoder(oracles, det)
        mask = torch.zeros(4, 20, dtype=torch.bool)
        for row, hidden in zip(mask, known["mask_idx"], strict=True):
            row[hidden] = True
        x = torch.from_numpy(np.load(oracles / "w2v_tiny_forward.npz")["x"])
        tokens = encoder.tokens(x, torch.ones(4, 12), mask)
        predictions = w2v_reference.tiny_head(oracles, det)(tokens, mask)
        negatives = sample_negatives(4, 9, generator=rng(5), count=3)
        means = tokens.context.mean(dim=1)
        cmsc = cmsc_loss(means[0::2], means[1::2], torch.tensor([0, 1]))
        return w2v_loss(predictions, negatives, penalty=tokens.penalty, cmsc=cmsc), encoder

    def test_reference_values(self, reference, oracles, det):
        known = reference["criterion_tiny"]
        loss, _ = self.run(reference, oracles, det)
        tokens = known["sample_size"]
        assert tokens == 36
        parts = [tokens * float(part.detach()) for part in loss[1:]]
        np.testing.assert_allclose(parts, [65.7870, 0.7758, 119.2531, 23.4886], atol=1e-4)
        np.testing.assert_allclose(
            parts, known["parts_[infonce_sum,0.1*diversity*ss,10*features_pen*ss,cmsc*ss]"], atol=1e-4
        )
        assert tokens * float(loss.total.detach()) == pytest.approx(known["total_loss"], abs=2e-4)

    def test_every_part_has_a_gradient(self, reference, oracles, det):
        for name in ("info_nce", "penalty", "cmsc"):
            loss, encoder = self.run(reference, oracles, det)
            getattr(loss, name).backward()
            assert encoder.stem.weight.grad.abs().sum() > 0
            assert torch.isfinite(encoder.stem.weight.grad).all()
        assert encoder.mask_embedding.grad.abs().sum() > 0

    def test_weights(self, oracles, det):
        encoder = w2v_reference.tiny_encoder(oracles, det)
        mask = torch.zeros(2, 20, dtype=torch.bool)
        mask[:, 3:9] = True
        tokens = encoder.tokens(torch.randn(2, 12, 320, generator=rng(8)), torch.ones(2, 12), mask)
        predictions = w2v_reference.tiny_head(oracles, det)(tokens, mask)
        negatives = sample_negatives(2, 6, generator=rng())
        given = {"penalty": torch.tensor(2.0), "cmsc": torch.tensor(3.0)}
        loss = w2v_loss(
            predictions, negatives, **given, diversity_weight=0.0, penalty_weight=0.5, cmsc_weight=2.0
        )
        assert [float(part.detach()) for part in loss[2:]] == [0.0, 1.0, 6.0]
        torch.testing.assert_close(loss.total, loss.info_nce + 7.0)


def test_diversity_of_the_published_case(reference):
    known = reference["quantizer"]
    found = diversity_loss(torch.tensor(known["prob_perplexity"]), known["num_vars"])
    assert float(found) == pytest.approx((10 - 9.642736434936523) / 10, abs=1e-6)
