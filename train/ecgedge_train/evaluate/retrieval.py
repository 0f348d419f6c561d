"""What an embedding holds without any head: neighbours, clusters, a picture. Distances are cosine.

Neighbours for recall@k are of other patients only: two recordings of one patient are alike anyway, and would answer
for each other.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from sklearn.cluster import KMeans

from ecgedge.errors import EcgedgeError
from ecgedge_train.evaluate.metrics import Floats

RECALL_KS: Final = (1, 5, 10)
_BLOCK: Final = 1024


def class_recall(
    embeddings: NDArray[Any],
    categories: NDArray[Any],
    patients: NDArray[Any],
    ks: tuple[int, ...] = RECALL_KS,
) -> Floats:
    """Return (n, K), 1 where one of the k nearest records of other patients is of the same category, else 0.

    Parameters
    ----------
    embeddings, categories, patients
        (n, E); (n,) codes; (n,) whose record.
    ks
        Numbers of neighbours. A record with fewer than k records of other patients is NaN.
    """
    unit, who = _unit(embeddings), np.unique(patients, return_inverse=True)[1]
    category = np.unique(categories, return_inverse=True)[1]
    hits = np.full((len(unit), len(ks)), np.nan)
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        near = unit[rows] @ unit.T
        near[who[rows][:, None] == who] = -np.inf
        order = _nearest(near, max(ks))
        same = category[order] == category[rows][:, None]
        others = np.isfinite(near).sum(axis=1)
        for j, k in enumerate(ks):
            hits[rows, j] = np.where(others >= k, same[:, :k].any(axis=1), np.nan)
    return hits


def class_recall_chance(categories: NDArray[Any], patients: NDArray[Any], k: int) -> float:
    """Return the mean of `class_recall` if the k neighbours were drawn at random (hypergeometric)."""
    category = np.unique(categories, return_inverse=True)[1]
    who = np.unique(patients, return_inverse=True)[1]
    table = np.zeros((who.max() + 1, category.max() + 1))
    np.add.at(table, (who, category), 1)
    pool = len(who) - table.sum(axis=1)[who]
    same = table.sum(axis=0)[category] - table[who, category]
    usable = pool >= k
    if not usable.any():
        return float("nan")
    pool, different = pool[usable], (pool - same)[usable]
    # C(different, k) / C(pool, k) is the chance that all k miss.
    log_miss = _log_choose(different, k) - _log_choose(pool, k)
    return float(np.mean(1 - np.where(different >= k, np.exp(log_miss), 0.0)))


def same_patient_top1(embeddings: NDArray[Any], patients: NDArray[Any]) -> tuple[Floats, float]:
    """Tell where the nearest other record is the same patient's.

    Returns
    -------
    (n,) array
        0/1, NaN for patients with one record.
    float
        The mean at random.
    """
    unit, who = _unit(embeddings), np.unique(patients, return_inverse=True)[1]
    counts = np.bincount(who)[who]
    hits = np.full(len(unit), np.nan)
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        near = unit[rows] @ unit.T
        near[np.arange(len(rows)), rows] = -np.inf
        hits[rows] = who[near.argmax(axis=1)] == who[rows]
    several = counts >= 2
    hits[~several] = np.nan
    chance = float(np.mean((counts[several] - 1) / max(len(unit) - 1, 1))) if several.any() else float("nan")
    return hits, chance


def identification_top1(embeddings: NDArray[Any], patients: NDArray[Any]) -> tuple[Floats, float]:
    """Name the patient of a probe: the gallery holds every patient's first record, the probes are all later ones.

    Returns
    -------
    (n,) array
        0/1 for probes, NaN for the gallery.
    float
        One over the size of the gallery.
    """
    unit = _unit(embeddings)
    _, first, who = np.unique(patients, return_index=True, return_inverse=True)
    probe = np.ones(len(unit), bool)
    probe[first] = False
    hits = np.full(len(unit), np.nan)
    if probe.any():
        hits[probe] = (unit[probe] @ unit[first].T).argmax(axis=1) == who[probe]
    return hits, 1.0 / len(first)


def kmeans_clusters(embeddings: NDArray[Any], clusters: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return (n,) cluster numbers of k-means on unit-length embeddings."""
    return np.asarray(KMeans(clusters, n_init=10, random_state=seed).fit_predict(_unit(embeddings)), np.int64)


def nmi(truth: NDArray[Any], clusters: NDArray[Any], weights: Floats) -> Floats:
    """Return the normalised mutual information (arithmetic mean) of two codings, a metric for `patient_bootstrap`."""
    a, b = (np.unique(codes, return_inverse=True)[1] for codes in (truth, clusters))
    width = int(b.max()) + 1
    member = np.eye((int(a.max()) + 1) * width)[a * width + b]
    joint = (weights @ member).reshape(len(weights), -1, width)
    joint = joint / joint.sum(axis=(1, 2), keepdims=True)
    of_truth, of_clusters = _entropy(joint.sum(axis=2)), _entropy(joint.sum(axis=1))
    mutual = of_truth + of_clusters - _entropy(joint.reshape(len(weights), -1))
    mean = (of_truth + of_clusters) / 2
    return np.divide(np.maximum(mutual, 0.0), mean, out=np.full_like(mean, np.nan), where=mean > 1e-12)


def project_2d(embeddings: NDArray[Any], method: Literal["pca", "umap"] = "pca") -> NDArray[np.float64]:
    """Return (n, 2) coordinates for a picture.

    Raises
    ------
    EcgedgeError
        If UMAP is asked for and not installed.
    """
    x = np.asarray(embeddings, np.float64)
    if method == "pca":
        centred = x - x.mean(axis=0)
        u, s, vt = np.linalg.svd(centred, full_matrices=False)
        # The sign of a component is free; the largest loading is made positive so that the picture is repeatable.
        sign = np.sign(vt[:2, :][np.arange(len(vt[:2])), np.abs(vt[:2]).argmax(axis=1)])
        found = np.zeros((len(x), 2))
        found[:, : len(sign)] = u[:, : len(sign)] * s[: len(sign)] * sign
        return found
    try:
        from umap import UMAP  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise EcgedgeError("UMAP is not installed: pip install umap-learn, or keep the map by PCA") from error
    return np.asarray(UMAP(random_state=0, metric="cosine").fit_transform(x), np.float64)


def _unit(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    x = np.asarray(embeddings, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return np.asarray(unit, np.float32)


def _nearest(near: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return (rows, min(k, n)) columns of the largest values, largest first."""
    k = min(k, near.shape[1])
    best = np.argpartition(-near, k - 1, axis=1)[:, :k]
    inside = np.argsort(-np.take_along_axis(near, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, inside, axis=1)


def _entropy(shares: Floats) -> Floats:
    terms = shares * np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(-terms.sum(axis=1), np.float64)


def _log_choose(n: Floats, k: int) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1), np.float64)
