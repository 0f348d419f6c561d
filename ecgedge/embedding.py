"""How far a window's embedding lies from those of the training data: one number, and a bound for it.

Training embeddings x of size s are described by their mean, by the k directions V in which they vary most with their
variances, and by one variance v for the rest (probabilistic principal components, Tipping and Bishop 1999):

    distance = sqrt((sum over k of (V (x - mean))_k^2 / variance_k + |rest|^2 / v) / s),

which is about 1 for a training embedding. The bound is a high quantile over patients that the network has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

DIRECTIONS = 8
"""Of 128: two to eight hold what varies among people; the rest is where strange inputs show (docs/quality.md)."""

QUANTILE = 0.999
_DIGITS = 7


@dataclass(frozen=True)
class EmbeddingEnvelope:
    """Where a variant's embeddings lay in training.

    Attributes
    ----------
    mean
        (size,).
    directions
        k unit vectors of (size,), the one that varies most first.
    variances
        (k,) along them.
    rest_variance
        Mean variance along all others.
    bound
        A distance beyond it is outside.
    windows
        Of the training split, that this was taken from.
    """

    mean: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    rest_variance: float
    bound: float
    windows: int


def fit_envelope(training: NDArray[np.float32], unseen: NDArray[np.float32]) -> EmbeddingEnvelope:
    """Describe training embeddings, (n, size), and bound the distance by those of unseen patients, (m, size).

    Raises
    ------
    ValueError
        If there are not twice as many training embeddings as they have numbers, none of unseen patients, or the
        embeddings vary in too few directions.
    """
    n, size = training.shape
    k = min(DIRECTIONS, size - 1)
    if n < 2 * size or k < 1 or len(unseen) == 0:
        raise ValueError(
            f"{n} training and {len(unseen)} unseen embeddings of size {size} are too few; give {2 * size} or more, "
            "and some of unseen patients"
        )
    exact = training.astype(np.float64)
    mean = exact.mean(axis=0)
    _, singular, axes = np.linalg.svd(exact - mean, full_matrices=False)
    variances = singular**2 / (n - 1)
    rest = float(variances[k:].sum() / (size - k))
    if rest <= 0.0 or variances[k - 1] <= 0.0:
        raise ValueError(
            f"the training embeddings vary in {k} directions or fewer; nothing bounds the others"
        )
    shape = EmbeddingEnvelope(
        _rounded(mean), tuple(map(_rounded, axes[:k])), _rounded(variances[:k]), rest, np.inf, n
    )
    bound = float(np.quantile(embedding_distance(shape, unseen), QUANTILE))
    return EmbeddingEnvelope(shape.mean, shape.directions, shape.variances, rest, bound, n)


def embedding_distance(envelope: EmbeddingEnvelope, embeddings: NDArray[np.float32]) -> F64:
    """Return (n,) distances of (n, size) embeddings; each row's follows from it alone, to the bit."""
    away = embeddings.astype(np.float64) - np.array(envelope.mean)
    # einsum adds in a fixed order whatever the number of rows; a matrix product need not.
    along = np.einsum("ns,ks->nk", away, np.array(envelope.directions))
    squares = np.square(along)
    rest = np.maximum(np.einsum("ns,ns->n", away, away) - squares.sum(axis=1), 0.0)
    total = (squares / np.array(envelope.variances)).sum(axis=1) + rest / envelope.rest_variance
    distance: F64 = np.sqrt(total / away.shape[1])
    return distance


def _rounded(values: F64) -> tuple[float, ...]:
    """Keep what float32 embeddings carry: a manifest is read by people, too."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
