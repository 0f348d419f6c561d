"""The distance of an embedding from those of the training data, against the covariance that it stands for."""

import numpy as np
import pytest

from ecgedge.bundle import VariantSpec
from ecgedge.embedding import DIRECTIONS, embedding_distance, fit_envelope
from ecgedge.schema import from_plain, to_plain

SIZE = 24


def embeddings(n, *, seed=0, scale=None):
    """Two strong directions, six middling ones, the rest alike; turned anyhow, so that no axis is special."""
    scales = np.r_[8.0, 4.0, np.full(6, 2.0), np.full(SIZE - 8, 0.5)] if scale is None else scale
    turn, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(SIZE, SIZE)))
    rows = np.random.default_rng(seed).normal(size=(n, SIZE)) * scales
    return (rows @ turn + 3.0).astype(np.float32)


def test_it_is_mahalanobis_where_the_rest_is_alike():
    """Against the inverse of the true covariance."""
    envelope = fit_envelope(embeddings(50_000), embeddings(2_000, seed=1))
    x = embeddings(300, seed=2)
    covariance = np.cov(embeddings(200_000, seed=3).T)
    away = x - 3.0
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away) / SIZE)
    np.testing.assert_allclose(embedding_distance(envelope, x), expected, rtol=0.03)


def test_the_bound_is_a_high_quantile_of_unseen_patients():
    unseen = embeddings(5_000, seed=1)
    envelope = fit_envelope(embeddings(5_000), unseen)
    beyond = embedding_distance(envelope, unseen) > envelope.bound
    assert beyond.sum() == 5
    assert envelope.windows == 5_000
    assert len(envelope.directions) == DIRECTIONS


def test_a_strange_direction_is_far_where_a_strong_one_is_not():
    envelope = fit_envelope(embeddings(5_000), embeddings(1_000, seed=1))
    mean, strong = np.array(envelope.mean), np.array(envelope.directions[0])
    rest = np.linalg.svd(np.array(envelope.directions))[2][-1]  # at right angles to all of them
    near, far = embedding_distance(
        envelope, np.stack([mean + 12.0 * strong, mean + 12.0 * rest]).astype(np.float32)
    )
    assert near < envelope.bound < far


@pytest.mark.parametrize("n_rows", [1, 2, 16, 300])
def test_a_row_says_what_it_says_alone(n_rows):
    envelope = fit_envelope(embeddings(100), embeddings(10, seed=1))
    rows = embeddings(n_rows, seed=4)
    together = embedding_distance(envelope, rows)
    assert [embedding_distance(envelope, row[None])[0] for row in rows] == together.tolist()


@pytest.mark.parametrize(
    ("training", "unseen", "message"),
    [
        (embeddings(2 * SIZE - 1), embeddings(5), "47 training and 5 unseen"),
        (embeddings(100), embeddings(0), "100 training and 0 unseen"),
        (np.ones((100, SIZE), np.float32), embeddings(5), "8 directions or fewer"),
    ],
)
def test_too_little_is_refused(training, unseen, message):
    with pytest.raises(ValueError, match=message):
        fit_envelope(training, unseen)


def test_a_manifest_holds_it_exactly_and_need_not_have_it():
    envelope = fit_envelope(embeddings(100), embeddings(10, seed=1))
    spec = VariantSpec(("I", "II"), "fp32", "model.onnx", 1, 1, 1e-5, embedding=envelope)
    assert from_plain(VariantSpec, to_plain(spec)) == spec
    plain = to_plain(spec)
    del plain["embedding"]
    assert from_plain(VariantSpec, plain).embedding is None
