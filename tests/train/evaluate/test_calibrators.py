from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.calibrators import calibrated, calibration_scores, fit_isotonic, fit_temperature


class LogitsAsTheyAre(ClassifierMixin, BaseEstimator):
    """A fitted "classifier" whose decision function is its input."""

    def fit(self, _x, _y):
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return (x[:, 0] > 0).astype(int)


def logits(n: int, seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 2.0, n)
    return logit * temperature, rng.random(n) < expit(logit)


@pytest.mark.parametrize("seed", range(4))
def test_temperature_is_that_of_sklearn(seed):
    logit, above = logits(300, seed, temperature=1.0 + seed)
    model = CalibratedClassifierCV(FrozenEstimator(LogitsAsTheyAre().fit(None, None)), method="temperature")
    model.fit(logit[:, None], above.astype(int))
    theirs = model.predict_proba(logit[:, None])[:, 1]
    np.testing.assert_allclose(expit(logit / fit_temperature(logit, above)), theirs, atol=2e-4)


def test_temperature_finds_the_scale_that_was_put_in():
    assert fit_temperature(*logits(40_000, 0, temperature=3.0)) == pytest.approx(3.0, rel=0.05)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(2, 25))
def test_isotonic_is_the_greatest_of_the_least_means(seed, n):
    """The min-max formula (Barlow et al. 1972): max over starts of min over ends of the mean in between."""
    rng = np.random.default_rng(seed)
    score, above = rng.permutation(n).astype(float), rng.random(n) < 0.5
    above[:2] = (True, False)
    found = fit_isotonic(score, above)(np.arange(n))
    y = above[np.argsort(score)].astype(float)
    for i in range(n):
        means = [min(y[a : b + 1].mean() for b in range(i, n)) for a in range(i + 1)]
        assert found[i] == pytest.approx(max(means))


def test_isotonic_never_falls_and_is_flat_outside():
    logit, above = logits(200, 1)
    fitted = fit_isotonic(logit, above)
    grid = fitted(np.linspace(-50, 50, 999))
    assert (np.diff(grid) >= 0).all()
    assert 0 <= grid.min() <= grid.max() <= 1
    assert grid[0] == fitted.probability[0]


def test_one_outcome_cannot_be_calibrated():
    ones = np.ones(5, bool)
    assert fit_temperature(np.arange(5.0), ones) is None
    assert fit_isotonic(np.arange(5.0), ones) is None


def scores() -> BinaryScores:
    sides = []
    for n, seed in ((400, 5), (500, 6)):
        logit, above = logits(n, seed, temperature=4.0)
        sides.append(BinarySplit(above, logit, expit(logit), np.arange(n) // 4))
    return BinaryScores("12", "gt_18", *sides)


def test_calibrators_repair_overconfidence_and_never_see_test_labels():
    plain = scores()
    found = {c.calibrator: c.brier.value for c in calibration_scores(plain, resamples=10)}
    assert list(found) == ["as served", "none", "temperature", "Platt", "isotonic"]
    assert all(found[name] < found["none"] - 0.01 for name in ("temperature", "Platt", "isotonic"))
    shuffled = replace(
        plain, test=replace(plain.test, truth=np.random.default_rng(0).permutation(plain.test.truth))
    )
    for name, p in calibrated(plain).items():
        np.testing.assert_array_equal(p, calibrated(shuffled)[name])


def test_the_errors_are_those_of_the_metrics():
    plain = scores()
    row = calibration_scores(plain, resamples=10)[0]
    truth = plain.test.truth.astype(float)
    assert row.brier.value == metrics.point(metrics.brier, truth, plain.test.p)
    assert row.ece.value == metrics.point(metrics.ece, truth, plain.test.p)
    assert row.gap.value == pytest.approx(plain.test.p.mean() - truth.mean())
