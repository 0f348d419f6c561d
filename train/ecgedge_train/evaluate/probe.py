"""Linear probe: what a frozen embedding knows, as one logistic regression a class.

It is also how an unsupervised encoder becomes a product: the probe is linear, so an export folds it into the graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ecgedge.errors import RecordError
from ecgedge_train.evaluate.metrics import auroc, point

WEIGHTS_FILE: Final = "probe.safetensors"
LABELS_FILE: Final = "probe.json"
STRENGTHS: Final = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse regularisation strengths that are tried on the tune split."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LinearProbe:
    """p = sigmoid(weight @ ((embedding - mean) / scale) + bias).

    Attributes
    ----------
    labels
        C names.
    mean, scale
        (E,) float32.
    weight, bias
        (C, E) and (C,) float32.
    strength
        The inverse regularisation that the tune split chose.
    """

    labels: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float

    def predict(self, embeddings: Floats) -> NDArray[np.float64]:
        """Return (N, C) probabilities of (N, E) embeddings."""
        standard = (embeddings.astype(np.float64) - self.mean) / self.scale
        return np.asarray(expit(standard @ self.weight.T.astype(np.float64) + self.bias))

    def to_files(self, directory: Path) -> None:
        """Write probe.safetensors and probe.json."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {"mean": self.mean, "scale": self.scale, "weight": self.weight, "bias": self.bias}
        save_file(arrays, directory / WEIGHTS_FILE)
        plain = {"labels": list(self.labels), "strength": self.strength}
        (directory / LABELS_FILE).write_text(json.dumps(plain, indent=1) + "\n", "utf-8")

    @classmethod
    def from_files(cls, directory: Path) -> LinearProbe:
        """Read what `to_files` wrote.

        Raises
        ------
        RecordError
            If a file is missing or damaged, or the two do not fit together.
        """
        try:
            plain = json.loads((directory / LABELS_FILE).read_text("utf-8"))
            arrays = load_file(directory / WEIGHTS_FILE)
            probe = cls(tuple(plain["labels"]), strength=float(plain["strength"]), **arrays)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RecordError(
                f"{directory}: no linear probe can be read ({error}); make one with `ecgedge evaluate`"
            ) from error
        classes, size = len(probe.labels), len(probe.mean)
        if (
            probe.weight.shape != (classes, size)
            or probe.bias.shape != (classes,)
            or probe.scale.shape != (size,)
        ):
            raise RecordError(
                f"{directory}: {classes} labels do not fit weights of shape {probe.weight.shape}"
            )
        return probe


def fit_linear_probe(
    embeddings: Floats,
    truth: Floats,
    *,
    tune_embeddings: Floats,
    tune_truth: Floats,
    labels: tuple[str, ...],
    strengths: tuple[float, ...] = STRENGTHS,
) -> LinearProbe:
    """Choose the regularisation on the tune split, the same for all classes, then fit on both splits together.

    Parameters
    ----------
    embeddings, truth
        (N, E); (N, C) of 0/1, a row with NaN is unlabelled and left out.
    tune_embeddings, tune_truth
        The same of the tune split.
    labels
        C names.
    strengths
        Inverse regularisation strengths to try.

    Raises
    ------
    RecordError
        If no labelled rows are left in a split.
    """
    x, y = _labelled(embeddings, truth, "train")
    tune_x, tune_y = _labelled(tune_embeddings, tune_truth, "tune")
    if not strengths:
        raise ValueError("strengths is empty")
    scores = {c: _score(_fit(x, y, strength=c, labels=labels), tune_x, tune_y) for c in strengths}
    best = max(strengths, key=lambda c: scores[c])
    return _fit(np.concatenate([x, tune_x]), np.concatenate([y, tune_y]), strength=best, labels=labels)


def fit_without_tune(
    embeddings: Floats, truth: Floats, *, labels: tuple[str, ...], strength: float
) -> LinearProbe:
    """Fit a probe of known strength on one split, so that the tune split can still choose thresholds and calibrators.

    Raises
    ------
    RecordError
        If no row is labelled.
    """
    x, y = _labelled(embeddings, truth, "train")
    return _fit(x, y, strength=strength, labels=labels)


def _fit(
    x: NDArray[np.float64], y: NDArray[np.float64], *, strength: float, labels: tuple[str, ...]
) -> LinearProbe:
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = 1.0  # a dead unit stays zero instead of becoming noise
    fits = [_fit_class((x - mean) / scale, y[:, c], strength) for c in range(y.shape[1])]
    return LinearProbe(
        labels=labels,
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weight=np.stack([w for w, _ in fits]).astype(np.float32),
        bias=np.array([b for _, b in fits], np.float32),
        strength=strength,
    )


def _labelled(x: Floats, y: Floats, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(y).any(axis=1)
    if not known.any():
        raise RecordError(
            f"split {split!r} has no labelled record to fit or tune a probe on; use a larger dataset"
        )
    return x[known].astype(np.float64), y[known].astype(np.float64)


def _fit_class(
    x: NDArray[np.float64], y: NDArray[np.float64], strength: float
) -> tuple[NDArray[np.float64], float]:
    if y.min() == y.max():
        # One outcome only: nothing to separate, so the smoothed prevalence is all that can be said.
        return np.zeros(x.shape[1]), float(np.log((y.sum() + 1) / (len(y) - y.sum() + 1)))
    fit = LogisticRegression(C=strength, max_iter=5000).fit(x, y)
    return fit.coef_[0], float(fit.intercept_[0])


def _score(probe: LinearProbe, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    predicted = probe.predict(x)
    each = [point(auroc, y[:, c], predicted[:, c]) for c in range(y.shape[1])]
    defined = [value for value in each if not np.isnan(value)]
    return float(np.mean(defined)) if defined else 0.5
