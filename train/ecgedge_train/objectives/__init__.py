"""Objectives: what a training step minimises and what the tune split is judged by.

A batch holds B items. An objective sees each as one window, or as two: two ECGs of a patient, one ECG twice, the two
halves of one ECG; every window is shifted, noised and lead-masked on its own, so one network serves every lead set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ecgedge.errors import RecipeError
from ecgedge_train.objectives.base import Objective, Targets, auroc
from ecgedge_train.objectives.combined import Combined
from ecgedge_train.objectives.contrast import Cmsc, Identity, Pclr, SimClr, Tfc
from ecgedge_train.objectives.distill import Distill
from ecgedge_train.objectives.metric import DistanceMining, MetricTask
from ecgedge_train.objectives.rhcnet import RhcNetTask
from ecgedge_train.objectives.supervised import ClassesTask, HemodynamicsTask
from ecgedge_train.objectives.tokens import W2v
from ecgedge_train.recipe import CombinedObjective, ImportedObjective, ObjectiveRecipe

__all__ = [
    "ClassesTask",
    "Cmsc",
    "Combined",
    "DistanceMining",
    "Distill",
    "HemodynamicsTask",
    "Identity",
    "MetricTask",
    "Objective",
    "Pclr",
    "RhcNetTask",
    "SimClr",
    "Targets",
    "Tfc",
    "W2v",
    "auroc",
    "build_objective",
    "hemodynamics_of",
]

_BUILD: Mapping[str, Callable[[Any], Objective]] = {
    "pclr": Pclr,
    "simclr": SimClr,
    "cmsc": Cmsc,
    "tfc": Tfc,
    "w2v": W2v,
    "distance": DistanceMining,
    "metric": MetricTask,
    "hemodynamics": HemodynamicsTask,
    "rhcnet": RhcNetTask,
    "classes": ClassesTask,
    "identity": Identity,
    "distill": Distill,
}


def build_objective(recipe: ObjectiveRecipe) -> Objective:
    """Return the objective of a recipe.

    Raises
    ------
    RecipeError
        If the recipe is that of imported weights, which has none.
    """
    if isinstance(recipe, ImportedObjective):
        raise RecipeError(
            'a recipe with the objective "imported" only holds published weights; choose another objective and '
            "start from the imported run with --encoder-from RUN"
        )
    if isinstance(recipe, CombinedObjective):
        return Combined([(part.name, part.weight, _BUILD[part.name](part)) for part in recipe.parts])
    return _BUILD[recipe.name](recipe)


def hemodynamics_of(objective: Objective) -> HemodynamicsTask | None:
    """Return the hemodynamic task that an objective is or contains."""
    parts = [o for _, _, o in objective.parts] if isinstance(objective, Combined) else [objective]
    return next((o for o in parts if isinstance(o, HemodynamicsTask)), None)
