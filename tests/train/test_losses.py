"""Losses against the published code's values and against loops over the formula."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from ecgedge_train.losses import (
    Hemodynamics,
    hemodynamics_loss,
    multilabel_bce,
    nt_xent,
    nt_xent_accuracy,
    triplet_loss,
    triplet_terms,
)


def waves(rows, columns):
    """The embedding that the reference numbers were made with."""
    i = torch.arange(rows * columns, dtype=torch.float64)
    return (torch.sin(0.7 * i) + 0.1 * torch.cos(1.3 * i)).reshape(rows, columns).float()


def loop_nt_xent(first, second, temperature, patients):
    z = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    codes = list(patients) * 2
    n, terms = len(first), []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [j for j in range(2 * n) if j != i and (j == partner or codes[j] != codes[i])]
        total = sum(math.exp(float(z[i] @ z[j]) / temperature) for j in others)
        terms.append(-math.log(math.exp(float(z[i] @ z[partner]) / temperature) / total))
    return terms


class TestNtXent:
    def test_published_value(self, oracles):
        known = json.loads((oracles / "pclr.json").read_text())
        h = waves(8, 6)
        np.testing.assert_allclose(h, known["hidden_2N_by_D"], atol=1e-6)
        loss = nt_xent(h[:4], h[4:], temperature=0.1, reduction="sum_of_means")
        assert float(loss) == pytest.approx(29.984165, abs=1e-4)
        assert float(loss) == pytest.approx(known["simclr_loss_T0.1"], abs=1e-4)
        assert float(nt_xent(h[:4], h[4:], temperature=0.1)) == pytest.approx(29.984165 / 2, abs=1e-4)
        assert float(nt_xent_accuracy(h[:4], h[4:])) == 0.0

    def test_published_value_for_near_identical_views(self, oracles):
        known = json.loads((oracles / "pclr.json").read_text())
        h = waves(8, 6)
        near = h[:4] + 0.01 * h[4:]
        loss = nt_xent(h[:4], near, temperature=0.1, reduction="sum_of_means")
        assert float(loss) == pytest.approx(known["simclr_loss_near_identical_views"], abs=1e-4)
        assert float(nt_xent_accuracy(h[:4], near)) == 1.0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("patients", [[0, 1, 2, 3, 4], [7, 3, 7, 3, 1], [2, 2, 2, 2, 5]])
    def test_equals_the_formula_in_loops(self, dtype, patients):
        h = waves(10, 7).to(dtype)
        expected = loop_nt_xent(h[:5], h[5:], 0.3, patients)
        codes = torch.tensor(patients)
        terms = nt_xent(h[:5], h[5:], temperature=0.3, patients=codes, reduction="none")
        np.testing.assert_allclose(terms.double(), expected, rtol=1e-4)
        mean = nt_xent(h[:5], h[5:], temperature=0.3, patients=codes)
        assert float(mean) == pytest.approx(float(np.mean(expected)), rel=1e-4)

    def test_a_second_pair_of_the_same_patient_is_no_negative(self):
        h = torch.eye(4)
        twice_one = torch.cat([h[:1], h[:1], h[1:3]])
        plain = nt_xent(twice_one, twice_one, reduction="none")
        masked = nt_xent(twice_one, twice_one, patients=torch.tensor([0, 0, 1, 2]), reduction="none")
        assert plain[0] > math.log(2.9)  # its own twin stands in the denominator twice over
        assert masked[0] < 0.01

    def test_scale_of_the_projections_does_not_matter(self):
        h = waves(8, 6)
        assert float(nt_xent(h[:4], h[4:])) == pytest.approx(float(nt_xent(3 * h[:4], 0.2 * h[4:])), rel=1e-5)

    def test_gradient_is_finite_and_pulls_pairs_together(self):
        h = waves(8, 6).requires_grad_()
        before = nt_xent(h[:4], h[4:])
        before.backward()
        assert torch.isfinite(h.grad).all()
        assert nt_xent(*(h - 0.01 * h.grad).detach().chunk(2)) < before.detach()

    @pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 4)), ((1, 4), (1, 4)), ((4,), (4,))])
    def test_refuses_what_cannot_be_contrasted(self, a, b):
        with pytest.raises(ValueError, match=r"expected two|at least 2"):
            nt_xent(torch.ones(a), torch.ones(b))


class TestTriplet:
    def test_published_values(self, oracles):
        known = json.loads((oracles / "ssldml_losses_miners.json").read_text())
        x = waves(8, 4)
        np.testing.assert_allclose(x, known["embeddings"], atol=1e-6)
        rows = torch.tensor(known["fixed_triplets_a_p_n"])
        a, p, n = (x[rows[:, k]] for k in range(3))
        np.testing.assert_allclose(triplet_terms(a, p, n), known["triplet_terms_margin0.2"], atol=1e-4)
        assert float(triplet_loss(x, rows)) == pytest.approx(3.102720, abs=1e-4)
        assert float(triplet_loss(x, rows, unit_norm=True)) == pytest.approx(1.747934, abs=1e-4)

    @pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
    def test_equals_the_formula_in_loops(self, margin):
        x = waves(5, 3).double()
        rows = torch.tensor(list(itertools.permutations(range(5), 3)))
        expected = [
            max(0.0, float(((x[a] - x[p]) ** 2).sum() - ((x[a] - x[n]) ** 2).sum()) + margin)
            for a, p, n in rows.tolist()
        ]
        assert float(triplet_loss(x, rows, margin=margin)) == pytest.approx(float(np.mean(expected)))

    @pytest.mark.parametrize("rows", [[[0, 0, 1]], [[2, 1, 2]]])
    def test_anchor_is_never_its_own_positive_or_negative(self, rows):
        with pytest.raises(ValueError, match="own positive or negative"):
            triplet_loss(waves(4, 3), torch.tensor(rows))

    def test_refuses_what_is_no_triplet(self):
        with pytest.raises(ValueError, match=r"\(K, 3\)"):
            triplet_loss(waves(4, 3), torch.zeros(3, 2, dtype=torch.long))


class TestHemodynamics:
    Y = torch.tensor([8.0, 15.0, 15.1, 18.0, 18.5, 30.0])

    def predicted(self):
        z = torch.tensor([-2.0, -0.5, 0.3, 0.1, 1.0, 3.0])
        return Hemodynamics(z, z - 0.7, torch.tensor([10.0, 12.0, 16.0, 20.0, 19.0, 22.0]))

    def expected_bce(self):
        p = self.predicted()
        parts = [(p.logit_gt_15, self.Y > 15), (p.logit_gt_18, self.Y > 18)]
        return np.mean([log_loss(y.numpy(), 1 / (1 + np.exp(-z.double().numpy()))) for z, y in parts])

    def test_bce_is_at_15_and_at_18_and_both_strictly_above(self):
        loss = hemodynamics_loss(self.predicted(), self.Y, regression_weight=0.0)
        assert float(loss) == pytest.approx(self.expected_bce(), rel=1e-5)

    @pytest.mark.parametrize(("kind", "delta"), [("huber", 0.5), ("huber", 1.0), ("gaussian", 1.0)])
    def test_regression_in_units_of_the_sd(self, kind, delta):
        errors = [(a - b) / 8.145 for a, b in zip([10, 12, 16, 20, 19, 22], self.Y.tolist(), strict=True)]
        if kind == "huber":
            terms = [0.5 * e * e if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in errors]
        else:
            terms = [0.5 * e * e for e in errors]
        loss = hemodynamics_loss(
            self.predicted(),
            self.Y,
            regression=kind,
            huber_delta=delta,
            bce_weight=0.0,
            regression_weight=2.0,
        )
        assert float(loss) == pytest.approx(2 * np.mean(terms), rel=1e-5)

    def test_records_without_label_are_left_out(self):
        p = self.predicted()
        y = self.Y.clone()
        y[[1, 4]] = torch.nan
        known = [0, 2, 3, 5]
        part = Hemodynamics(p.logit_gt_15[known], p.logit_gt_18[known], p.mpcwp_mmhg[known])
        assert torch.equal(hemodynamics_loss(p, y), hemodynamics_loss(part, y[known]))

    def test_refuses_a_batch_without_labels_and_other_shapes(self):
        with pytest.raises(ValueError, match="no record"):
            hemodynamics_loss(self.predicted(), torch.full((6,), torch.nan))
        # Broadcasting (B,) against (B, 1) is how the published regression trained on nonsense without a word.
        with pytest.raises(ValueError, match="labels"):
            hemodynamics_loss(self.predicted(), self.Y[:, None])


class TestClasses:
    def test_equals_sklearn_and_ignores_unknown(self):
        z = waves(6, 3)
        y = (waves(3, 6).reshape(6, 3) > 0).float()
        y[0, 1] = y[4, 2] = torch.nan
        known = ~torch.isnan(y)
        p = 1 / (1 + np.exp(-z[known].double().numpy()))
        assert float(multilabel_bce(z, y)) == pytest.approx(log_loss(y[known].numpy(), p), rel=1e-5)

    def test_refuses_other_shapes_and_no_labels(self):
        with pytest.raises(ValueError, match="logits are"):
            multilabel_bce(torch.zeros(3, 2), torch.zeros(3))
        with pytest.raises(ValueError, match="no record"):
            multilabel_bce(torch.zeros(3, 2), torch.full((3, 2), torch.nan))
