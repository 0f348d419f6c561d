"""The recipe: everything that decides a training run, as frozen dataclasses read from TOML.

Unknown keys are refused with the nearest known name. `--set optimizer.lr=3e-4` overrides one key; the run directory
keeps the resolved recipe (`to_toml`), which reads back to the same dataclass.
"""

from ecgedge_train.recipe.distill import DistillObjective
from ecgedge_train.recipe.encoders import (
    EdgeNetRecipe,
    EncoderRecipe,
    PclrResNetRecipe,
    ResNet18Recipe,
    RhcNetRecipe,
    W2vRecipe,
)
from ecgedge_train.recipe.files import (
    PretrainRecipe,
    Recipe,
    load_recipe,
    override_key,
    recipe_from_plain,
    shipped_recipes,
    to_toml,
)
from ecgedge_train.recipe.objectives import (
    ClassesObjective,
    CmscObjective,
    CombinedObjective,
    DistanceObjective,
    ExtraTarget,
    HemodynamicsObjective,
    IdentityObjective,
    ImportedObjective,
    MetricObjective,
    ObjectiveRecipe,
    PartRecipe,
    PclrObjective,
    RhcNetObjective,
    SimClrObjective,
    TfcObjective,
    W2vObjective,
)
from ecgedge_train.recipe.sections import (
    DataRecipe,
    DevicesRecipe,
    EvaluateRecipe,
    InputRecipe,
    MaskingRecipe,
    OptimizerRecipe,
    ScheduleRecipe,
)

__all__ = [
    "ClassesObjective",
    "CmscObjective",
    "CombinedObjective",
    "DataRecipe",
    "DevicesRecipe",
    "DistanceObjective",
    "DistillObjective",
    "EdgeNetRecipe",
    "EncoderRecipe",
    "EvaluateRecipe",
    "ExtraTarget",
    "HemodynamicsObjective",
    "IdentityObjective",
    "ImportedObjective",
    "InputRecipe",
    "MaskingRecipe",
    "MetricObjective",
    "ObjectiveRecipe",
    "OptimizerRecipe",
    "PartRecipe",
    "PclrObjective",
    "PclrResNetRecipe",
    "PretrainRecipe",
    "Recipe",
    "ResNet18Recipe",
    "RhcNetObjective",
    "RhcNetRecipe",
    "ScheduleRecipe",
    "SimClrObjective",
    "TfcObjective",
    "W2vObjective",
    "W2vRecipe",
    "load_recipe",
    "override_key",
    "recipe_from_plain",
    "shipped_recipes",
    "to_toml",
]
