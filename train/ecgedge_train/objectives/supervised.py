"""Objectives with labels that a head predicts: catheter values, classes, who it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ecgedge_train.distributed import mean_over_world
from ecgedge_train.losses import Hemodynamics, hemodynamics_loss, multilabel_bce
from ecgedge_train.losses.hemodynamics import THRESHOLDS_MMHG, logit_name
from ecgedge_train.objectives.base import OutputArrays, Outputs, Plain, Targets, auroc
from ecgedge_train.recipe import ClassesObjective, ExtraTarget, HemodynamicsObjective


class HemodynamicsTask(Plain):
    """mPCWP above 15 and 18 mmHg, and the pressure; further catheter values beside it where they are known."""

    scored = True

    def __init__(self, recipe: HemodynamicsObjective) -> None:
        self.recipe = recipe
        self.label_names = (recipe.label, *(extra.label for extra in recipe.extras))

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Sum of BCE and regression over all values."""
        loss = self._pressure_loss(outputs, targets.labels[:, 0])
        for column, extra in enumerate(self.recipe.extras, start=1):
            loss = loss + extra.weight * _extra_loss(outputs, extra, targets.labels[:, column])
        return loss

    def _pressure_loss(self, outputs: Outputs, y: Tensor) -> Tensor:
        """Loss of the rows that have a pressure; zero, with a gradient, if none has."""
        r, known = self.recipe, int((~torch.isnan(y)).sum())
        if known == 0:
            return mean_over_world(0.0 * outputs["mpcwp_mmhg"].sum(), 0)
        loss = hemodynamics_loss(
            Hemodynamics(outputs["logit_gt_15"], outputs["logit_gt_18"], outputs["mpcwp_mmhg"]),
            y,
            sd_mmhg=r.sd_mmhg,
            regression=r.regression,
            huber_delta=r.huber_delta,
            bce_weight=r.bce_weight,
            regression_weight=r.regression_weight,
        )
        return mean_over_world(loss, known)

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """AUROC at both cut-offs and RMSE, with the RMSE of always saying the mean beside it."""
        known = ~np.isnan(labels[:, 0])
        y = labels[known, 0]
        label = self.recipe.label
        # Another label than the pressure is called by its name, as evaluation calls it.
        of, ending = ("", "mmhg") if label == "mpcwp_mmhg" else (f"{label}_", label)
        scores = {
            f"auroc_{of}gt_{cut:.0f}": auroc(outputs[f"logit_gt_{cut:.0f}"][known], y > cut)
            for cut in THRESHOLDS_MMHG
        }
        scores[f"rmse_{ending}"] = _rmse(outputs["mpcwp_mmhg"][known], y)
        scores[f"rmse_of_mean_{ending}"] = float(np.std(y))
        for column, extra in enumerate(self.recipe.extras, start=1):
            scores.update(_extra_scores(outputs, extra, labels[:, column]))
        return scores


def _extra_loss(outputs: Outputs, extra: ExtraTarget, y: Tensor) -> Tensor:
    """Huber on the scaled value plus the mean BCE of its cuts, over the rows that have it; zero if none has."""
    known = ~torch.isnan(y)
    value = outputs[extra.label]
    count = int(known.sum())
    if count == 0:
        return mean_over_world(0.0 * value.sum(), 0)
    error = (value[known] - y[known]) / extra.sd
    loss = functional.huber_loss(error, torch.zeros_like(error))
    for cut in extra.cuts:
        logit = outputs[logit_name(extra.label, cut)][known]
        bce = functional.binary_cross_entropy_with_logits(logit, (y[known] > cut).to(logit.dtype))
        loss = loss + bce / len(extra.cuts)
    return mean_over_world(loss, count)


def _extra_scores(
    outputs: OutputArrays, extra: ExtraTarget, labels: NDArray[np.float32]
) -> Iterator[tuple[str, float]]:
    known = ~np.isnan(labels)
    if not known.any():
        return
    y = labels[known]
    yield f"rmse_{extra.label}", _rmse(outputs[extra.label][known], y)
    yield f"rmse_of_mean_{extra.label}", float(np.std(y))
    for cut in extra.cuts:
        name = logit_name(extra.label, cut)
        yield name.replace("logit", "auroc", 1), auroc(outputs[name][known], y > cut)


def _rmse(predicted: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((predicted - y) ** 2)))


class ClassesTask(Plain):
    """Multi-label classes."""

    scored = True

    def __init__(self, recipe: ClassesObjective) -> None:
        self.label_names = recipe.labels

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Mean BCE over the labels that are known; zero, with a gradient, where none is."""
        logits, known = outputs["class_logits"], int((~torch.isnan(targets.labels)).sum())
        loss = multilabel_bce(logits, targets.labels) if known else 0.0 * logits.sum()
        return mean_over_world(loss, known)

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """AUROC of each class, and their mean over the classes that have both outcomes."""
        scores: dict[str, float] = {}
        for i, name in enumerate(self.label_names):
            known = ~np.isnan(labels[:, i])
            scores[f"auroc_{name}"] = auroc(outputs["class_logits"][known, i], labels[known, i] > 0.5)
        values = [v for v in scores.values() if not np.isnan(v)]
        scores["macro_auroc"] = float(np.mean(values)) if values else float("nan")
        return scores
