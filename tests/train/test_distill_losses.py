"""Losses of distillation against loops over the papers' formulas, and in the limits where their value is known."""

import math

import pytest
import torch

from ecgedge_train.losses import hint_loss, similarity_loss, soft_target_loss


def draws(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestHint:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_loop(self, dtype):
        s, t = draws(5, 3, dtype=dtype), draws(5, 3, seed=1, dtype=dtype)
        expected = sum((float(s[i, j]) - float(t[i, j])) ** 2 for i in range(5) for j in range(3)) / 15
        assert float(hint_loss(s, t)) == pytest.approx(expected, rel=1e-6)

    def test_who_says_the_mean_of_a_standardised_teacher_has_1(self):
        t = draws(4000, 6)
        t = (t - t.mean(0)) / t.std(0, unbiased=False)
        assert float(hint_loss(torch.zeros_like(t), t)) == pytest.approx(1.0)
        assert float(hint_loss(t, t)) == 0.0

    def test_widths_must_agree(self):
        with pytest.raises(ValueError, match=r"student says \(2, 3\), the teacher \(2, 4\)"):
            hint_loss(draws(2, 3), draws(2, 4))


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


class TestSimilarity:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_loop_over_pairs_of_other_widths(self, dtype):
        s, t = draws(6, 3, dtype=dtype), draws(6, 5, seed=1, dtype=dtype)
        terms = [(cosine(s[i], s[j]) - cosine(t[i], t[j])) ** 2 for i in range(6) for j in range(6) if i != j]
        assert float(similarity_loss(s, t)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)

    def test_turned_and_stretched_embeddings_are_the_same_relation(self):
        t = draws(6, 4)
        turn, _ = torch.linalg.qr(draws(4, 4, seed=2))
        assert float(similarity_loss(3.0 * t @ turn, t)) == pytest.approx(0.0, abs=1e-14)

    def test_opposite_relations(self):
        # All alike to one, two pairs of opposites to the other: cosines 1 against -1 in the pairs (0, 1) and (1, 0).
        s, t = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
        assert float(similarity_loss(s, t)) == pytest.approx(4.0)

    def test_gradient(self):
        s = draws(4, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: similarity_loss(x, draws(4, 5, seed=1)), (s,))

    def test_one_record_has_no_pair(self):
        with pytest.raises(ValueError, match="pairs among 1 records"):
            similarity_loss(draws(1, 3), draws(1, 3))


def kl(q, p):
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


class TestSoftTargets:
    @pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_loop(self, temperature, dtype):
        s, t = 2 * draws(4, 3, dtype=dtype), 2 * draws(4, 3, seed=1, dtype=dtype)
        terms = [
            temperature**2 * kl(sigmoid(t[i, j] / temperature), sigmoid(s[i, j] / temperature))
            for i in range(4)
            for j in range(3)
        ]
        value = soft_target_loss(s, t, temperature=temperature)
        assert float(value) == pytest.approx(sum(terms) / 12, rel=1e-4)

    def test_nothing_is_left_where_the_student_is_the_teacher(self):
        t = 5 * draws(7, 2)
        assert float(soft_target_loss(t, t, temperature=2.0)) == pytest.approx(0.0, abs=1e-12)

    def test_a_high_temperature_matches_logits(self):
        # Hinton et al., section 2.1: in the limit the square of the logits' difference, here with sigma'(0)/2 = 1/8.
        s, t = draws(6, 3), draws(6, 3, seed=1)
        expected = float((s - t).square().mean()) / 8
        assert float(soft_target_loss(s, t, temperature=1000.0)) == pytest.approx(expected, rel=1e-4)

    def test_certain_teachers_are_labels(self):
        s, labels = draws(6, 3), (draws(6, 3, seed=1) > 0).double()
        t = 200.0 * (2 * labels - 1)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(s, labels)
        assert float(soft_target_loss(s, t, temperature=1.0)) == pytest.approx(float(bce), rel=1e-9)

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="logits are"):
            soft_target_loss(draws(2, 3), draws(2, 4), temperature=1.0)
