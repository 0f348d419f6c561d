"""What a run is to be scored on: the label that its recipe names, where a dataset has it."""

from __future__ import annotations

import numpy as np

from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate.pressure import LABEL
from ecgedge_train.recipe import ClassesObjective, MetricObjective, Recipe, head_label, parts_of


def main_label(recipe: Recipe, data: EcgDataset) -> str | None:
    """Return the label that the run's own head says, where the dataset has such numbers."""
    label = head_label(recipe.objective)
    return label if label is not None and data.info.labels.get(label) == "float" else None


def mined_label(recipe: Recipe, data: EcgDataset) -> str | None:
    """Return the number by whose value an encoder was mined, where the dataset has it.

    None beside a head of classes, for mPCWP, whose cuts at 15 and 18 mmHg a probe of classes reads, and for a label
    that has two values only.
    """
    parts = parts_of(recipe.objective)
    label = next((part.label for part in parts if isinstance(part, MetricObjective)), None)
    if any(isinstance(part, ClassesObjective) for part in parts):
        return None
    if (
        label is None
        or label == LABEL
        or label in data.info.classes
        or data.info.labels.get(label) != "float"
    ):
        return None
    values = data.labels((label,), data.select())[:, 0]
    return label if len(np.unique(values[~np.isnan(values)])) > 2 else None
