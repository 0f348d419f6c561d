"""The figures of one set of embeddings, each with its interval over patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.retrieval import (
    RECALL_KS,
    class_recall,
    class_recall_chance,
    identification_top1,
    kmeans_clusters,
    nmi,
    same_patient_top1,
)


@dataclass(frozen=True)
class EmbeddingFigures:
    """Estimates by name, and what chance alone reaches."""

    estimates: Mapping[str, Estimate]
    chance: Mapping[str, float]


def embedding_figures(
    embeddings: NDArray[Any], categories: NDArray[Any], patients: NDArray[Any], *, resamples: int = 1000
) -> EmbeddingFigures:
    """Score neighbours, patient identification and clusters of (n, E) embeddings against (n,) categories."""
    estimates: dict[str, Estimate] = {}
    chance: dict[str, float] = {}

    def mean(name: str, hits: NDArray[np.float64], by_chance: float) -> None:
        known = ~np.isnan(hits)
        if known.any():
            zero = np.zeros(int(known.sum()))
            estimates[name] = patient_bootstrap(
                metrics.bias, zero, hits[known], patients[known], resamples=resamples
            )
            chance[name] = by_chance

    recall = class_recall(embeddings, categories, patients)
    for j, k in enumerate(RECALL_KS):
        mean(f"recall@{k}", recall[:, j], class_recall_chance(categories, patients, k))
    mean("same patient, top 1", *same_patient_top1(embeddings, patients))
    mean("identification, top 1", *identification_top1(embeddings, patients))
    kinds = len(np.unique(categories))
    if 1 < kinds < len(categories):
        clusters = kmeans_clusters(embeddings, kinds)
        found = patient_bootstrap(nmi, categories, clusters, patients, resamples=resamples)
        estimates["NMI of k-means"] = _reflected(found)
    return EmbeddingFigures(estimates, chance)


def _reflected(estimate: Estimate) -> Estimate:
    """Return the basic bootstrap interval, 2 v - high to 2 v - low.

    Mutual information is too high in small samples and higher still in resamples, which hold fewer distinct records:
    percentiles would lie on the wrong side of the value.
    """
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = (2 * estimate.value - end for end in (estimate.high, estimate.low))
    return Estimate(estimate.value, max(low, 0.0), min(high, 1.0), estimate.patients)
