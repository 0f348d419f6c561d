from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from ecgedge.errors import RecordError
from ecgedge_train.evaluate.metrics import auroc, point
from ecgedge_train.evaluate.probe import LinearProbe, fit_linear_probe


def made(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with very different scales per dimension, and two labels that are linear in them plus noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 8))
    y = np.stack([x[:, 0] - x[:, 1] + rng.normal(0, 0.7, n) > 0, x[:, 2] + rng.normal(0, 0.7, n) > 1], axis=1)
    return (x * np.logspace(-2, 2, 8) + 5).astype(np.float32), y.astype(np.float32)


def fit(seed: int = 0, **options) -> LinearProbe:
    x, y = made(800, seed)
    tune_x, tune_y = made(400, seed + 1)
    return fit_linear_probe(x, y, tune_embeddings=tune_x, tune_truth=tune_y, labels=("A", "B"), **options)


def test_separates_what_is_linear():
    x, y = made(2000, 9)
    p = fit().predict(x)
    assert point(auroc, y[:, 0], p[:, 0]) > 0.93
    assert point(auroc, y[:, 1], p[:, 1]) > 0.85


def test_solves_its_own_objective_as_scipy_does():
    probe = fit(strengths=(0.1,))
    # Once the strength is chosen, training and tune split are fitted together.
    x, y = (np.concatenate(both) for both in zip(made(800, 0), made(400, 1), strict=True))
    z = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64)
    for c in range(2):
        sign = 2 * y[:, c] - 1

        def loss(wb, sign=sign):
            return 0.5 * wb[:-1] @ wb[:-1] + 0.1 * np.logaddexp(0, -sign * (z @ wb[:-1] + wb[-1])).sum()

        best = minimize(loss, np.zeros(9), method="BFGS").x
        np.testing.assert_allclose(np.r_[probe.weight[c], probe.bias[c]], best, atol=2e-3)


@pytest.mark.parametrize(("decades", "noise", "better"), [(0.0, 6.0, 0.001), (1.5, 0.0, 1e4)])
def test_the_tune_split_chooses_the_strength(decades, noise, better):
    """Noisy labels call for strong regularisation; a sharp rule along directions of little variance for a weak one."""
    rng = np.random.default_rng(0)
    mix = np.linalg.qr(rng.normal(0, 1, (30, 30)))[0] * np.logspace(0, -decades, 30)[:, None]
    hidden, tune_hidden = rng.normal(0, 1, (60, 30)), rng.normal(0, 1, (2000, 30))
    y, tune_y = (
        (z.sum(axis=1) + noise * rng.normal(0, 1, len(z)) > 0)[:, None].astype(np.float32)
        for z in (hidden, tune_hidden)
    )
    x, tune_x = hidden @ mix, tune_hidden @ mix

    def fitted(*strengths: float) -> LinearProbe:
        return fit_linear_probe(
            x, y, tune_embeddings=tune_x, tune_truth=tune_y, labels=("A",), strengths=strengths
        )

    assert fitted(0.001, 1e4).strength == fitted(1e4, 0.001).strength == better


def test_unlabelled_rows_are_left_out():
    x, y = made(800, 0)
    tune_x, tune_y = made(400, 1)
    noise = np.full((50, 8), 1e6, np.float32)
    probe = fit_linear_probe(
        np.concatenate([x, noise]), np.concatenate([y, np.full((50, 2), np.nan, np.float32)]),
        tune_embeddings=tune_x, tune_truth=tune_y, labels=("A", "B"),
    )  # fmt: skip
    np.testing.assert_array_equal(probe.weight, fit().weight)
    with pytest.raises(RecordError, match="'tune' has no labelled record"):
        fit_linear_probe(x, y, tune_embeddings=tune_x, tune_truth=tune_y * np.nan, labels=("A", "B"))


def test_a_class_with_one_outcome_gets_its_prevalence_and_a_dead_unit_nothing():
    x, y = made(98, 0)
    y[:, 1] = 0
    x[:, 7] = 3.0
    probe = fit_linear_probe(x, y, tune_embeddings=x, tune_truth=y, labels=("A", "B"))
    np.testing.assert_allclose(probe.predict(x)[:, 1], 1 / 198, rtol=1e-5)
    assert np.isfinite(probe.predict(x)).all()
    assert probe.scale[7] == 1.0


def test_files_give_the_probe_back(tmp_path):
    probe = fit()
    probe.to_files(tmp_path / "12")
    back = LinearProbe.from_files(tmp_path / "12")
    x, _ = made(10, 3)
    assert (back.labels, back.strength) == (probe.labels, probe.strength)
    np.testing.assert_array_equal(back.predict(x), probe.predict(x))


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(RecordError, match="no linear probe can be read"):
        LinearProbe.from_files(tmp_path)
    fit().to_files(tmp_path)
    (tmp_path / "probe.json").write_text(json.dumps({"labels": ["A"], "strength": 1.0}))
    with pytest.raises(RecordError, match="1 labels do not fit"):
        LinearProbe.from_files(tmp_path)
    (tmp_path / "probe.safetensors").write_bytes(b"garbage!")
    with pytest.raises(RecordError, match="no linear probe can be read"):
        LinearProbe.from_files(tmp_path)
