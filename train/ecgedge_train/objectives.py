"""Objectives: what a training step minimises and what the tune split is judged by.

Pairs (PCLR): the two ECGs of a patient, each shifted, noised and lead-masked on its own; a patient with one ECG gives
two views of it. Supervised: one view, its leads drawn per record, so that one network serves every lead set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from ecgedge_train.losses import Hemodynamics, hemodynamics_loss, multilabel_bce, nt_xent, nt_xent_accuracy
from ecgedge_train.losses.hemodynamics import THRESHOLDS_MMHG
from ecgedge_train.recipe import ClassesObjective, HemodynamicsObjective, ObjectiveRecipe, PclrObjective

Outputs: TypeAlias = Mapping[str, Tensor]
OutputArrays: TypeAlias = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Targets:
    """What a batch is compared with: labels (B, n_labels), NaN where unknown, and patient codes (B,)."""

    labels: Tensor
    patients: Tensor


class Objective(Protocol):
    """A way to train; `paired` ones get 2B views, first ECGs before second ones."""

    @property
    def paired(self) -> bool:
        """Whether a batch is pairs of ECGs of one patient."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Columns of `Targets.labels`."""
        ...

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the scalar to minimise."""
        ...

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return figures of one batch, to be averaged over the tune batches."""
        ...

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """Return figures over the whole tune split with all leads."""
        ...


class Pclr:
    """NT-Xent over the two ECGs of each patient."""

    paired = True
    label_names: tuple[str, ...] = ()

    def __init__(self, recipe: PclrObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Contrastive loss of outputs["projection"], (2B, P)."""
        first, second = outputs["projection"].chunk(2)
        return nt_xent(
            first,
            second,
            temperature=self.recipe.temperature,
            patients=targets.patients,
            reduction=self.recipe.reduction,
        )

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the share of ECGs that find their patient's other ECG in the batch."""
        first, second = outputs["projection"].chunk(2)
        return {"pair_accuracy": float(nt_xent_accuracy(first, second, patients=targets.patients))}

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:  # noqa: ARG002
        """Return nothing: there are no labels."""
        return {}


class HemodynamicsTask:
    """mPCWP above 15 and 18 mmHg, and the pressure."""

    paired = False

    def __init__(self, recipe: HemodynamicsObjective) -> None:
        self.recipe = recipe
        self.label_names = (recipe.label,)

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Sum of BCE and regression."""
        r = self.recipe
        predicted = Hemodynamics(outputs["logit_gt_15"], outputs["logit_gt_18"], outputs["mpcwp_mmhg"])
        return hemodynamics_loss(
            predicted,
            targets.labels[:, 0],
            sd_mmhg=r.sd_mmhg,
            regression=r.regression,
            huber_delta=r.huber_delta,
            bce_weight=r.bce_weight,
            regression_weight=r.regression_weight,
        )

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:  # noqa: ARG002
        """Return nothing: the figures need the whole split."""
        return {}

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """AUROC at both cut-offs and RMSE, with the RMSE of always saying the mean beside it."""
        known = ~np.isnan(labels[:, 0])
        y = labels[known, 0]
        scores = {
            f"auroc_gt_{cut:.0f}": auroc(outputs[f"logit_gt_{cut:.0f}"][known], y > cut)
            for cut in THRESHOLDS_MMHG
        }
        scores["rmse_mmhg"] = float(np.sqrt(np.mean((outputs["mpcwp_mmhg"][known] - y) ** 2)))
        scores["rmse_of_mean_mmhg"] = float(np.std(y))
        return scores


class ClassesTask:
    """Multi-label classes."""

    paired = False

    def __init__(self, recipe: ClassesObjective) -> None:
        self.label_names = recipe.labels

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Mean BCE."""
        return multilabel_bce(outputs["class_logits"], targets.labels)

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:  # noqa: ARG002
        """Return nothing: the figures need the whole split."""
        return {}

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """AUROC of each class, and their mean over the classes that have both outcomes."""
        scores: dict[str, float] = {}
        for i, name in enumerate(self.label_names):
            known = ~np.isnan(labels[:, i])
            scores[f"auroc_{name}"] = auroc(outputs["class_logits"][known, i], labels[known, i] > 0.5)
        values = [v for v in scores.values() if not np.isnan(v)]
        scores["macro_auroc"] = float(np.mean(values)) if values else float("nan")
        return scores


def build_objective(recipe: ObjectiveRecipe) -> Pclr | HemodynamicsTask | ClassesTask:
    """Return the objective of a recipe."""
    if isinstance(recipe, PclrObjective):
        return Pclr(recipe)
    if isinstance(recipe, HemodynamicsObjective):
        return HemodynamicsTask(recipe)
    return ClassesTask(recipe)


def auroc(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); NaN with one outcome only."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = float(rankdata(scores)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
