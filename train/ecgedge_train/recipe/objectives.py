"""Objective sections of the recipe; `name` decides which. `weight` counts in a combination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ecgedge_train.recipe.distill import DistillObjective
from ecgedge_train.recipe.sections import require

MetricLoss: TypeAlias = Literal["triplet", "margin", "angular"]


@dataclass(frozen=True)
class PclrObjective:
    """Patient contrastive learning, see losses/ntxent.py; the projection head is not deployed."""

    name: Literal["pclr"]
    temperature: float = 0.1
    projection_size: int = 128
    reduction: Literal["mean", "sum_of_means"] = "mean"
    weight: float = 1.0


@dataclass(frozen=True)
class SimClrObjective:
    """Two augmented views of one ECG against all other ECGs; the noise of [input] makes the views."""

    name: Literal["simclr"]
    temperature: float = 0.1
    projection_size: int = 128
    weight: float = 1.0


@dataclass(frozen=True)
class CmscObjective:
    """The two halves of an ECG as a pair; all halves of one patient are positives, see losses/cmsc.py.

    `form` "clocs" is the published loss, see losses/clocs.py; among several processes it sees its own rows only.
    """

    name: Literal["cmsc"]
    form: Literal["patient", "clocs"] = "patient"
    temperature: float = 0.1
    projection_size: int = 128
    weight: float = 1.0


@dataclass(frozen=True)
class TfcObjective:
    """Time-frequency consistency, see losses/tfc.py; a second encoder of the same kind reads the spectrum."""

    name: Literal["tfc"]
    temperature: float = 0.2
    projection_size: int = 128
    contrast_weight: float = 0.2
    weight: float = 1.0


@dataclass(frozen=True)
class W2vObjective:
    """Masked prediction of quantized features, with CMSC over the two halves of an ECG; see losses/w2v.py."""

    name: Literal["w2v"]
    mask_probability: float = 0.65
    mask_span: int = 10
    negatives: int = 100
    groups: int = 2
    codes: int = 320
    temperature: float = 0.1
    diversity_weight: float = 0.1
    penalty_weight: float = 10.0
    cmsc_weight: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class DistanceObjective:
    """Self-supervised metric learning: near and far are mined by a distance between the signals.

    `distance` is one of distances.DISTANCES. `unit_norm` False is the published form.
    """

    name: Literal["distance"]
    distance: Literal["dtw", "dtw_exact", "l2", "median_beat"] = "dtw"
    loss: MetricLoss = "triplet"
    margin: float = 0.2
    n_farthest: int = 2
    random_negative: bool = False
    unit_norm: bool = True
    weight: float = 1.0


@dataclass(frozen=True)
class MetricObjective:
    """Supervised metric learning. `label_distance` mines by the label's value; the other miners need classes.

    Classes come from a 0/1 label, or from a continuous one by `cut`: above or not.
    """

    name: Literal["metric"]
    label: str = "mpcwp_mmhg"
    miner: Literal["label_distance", "npair", "semihard", "softhard"] = "label_distance"
    loss: MetricLoss = "triplet"
    cut: float = 18.0
    margin: float = 0.2
    unit_norm: bool = True
    weight: float = 1.0


@dataclass(frozen=True)
class ExtraTarget:
    """A further catheter value of the hemodynamic head: the value itself, and whether it is above each cut."""

    label: str
    mean: float
    sd: float
    cuts: tuple[float, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a scale that cannot be divided by."""
        require(self.sd > 0, f"sd {self.sd:g} of {self.label} must be above 0")


@dataclass(frozen=True)
class HemodynamicsObjective:
    """Supervised mPCWP, see losses/hemodynamics.py. `mean_mmhg` and `sd_mmhg` scale the regression.

    `extras` are further targets such as mpap_mmhg above 20, pvr_wu above 3, co_l_min above 4 (RHCnet).
    """

    name: Literal["hemodynamics"]
    label: str = "mpcwp_mmhg"
    mean_mmhg: float = 15.678
    sd_mmhg: float = 8.145
    regression: Literal["huber", "gaussian"] = "huber"
    huber_delta: float = 1.0
    bce_weight: float = 1.0
    regression_weight: float = 1.0
    extras: tuple[ExtraTarget, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class RhcNetObjective:
    """The four yes-or-no targets of RHCnet, see objectives/rhcnet.py; `dropout` is that of their head's hidden layers.

    It says no pressure in mmHg: beside "hemodynamics" in a combination, a run has both.
    """

    name: Literal["rhcnet"]
    dropout: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a dropout that leaves nothing."""
        require(0 <= self.dropout < 1, f"dropout {self.dropout:g} is not from 0 up to 1")


@dataclass(frozen=True)
class ClassesObjective:
    """Supervised multi-label classes, see losses/classes.py; outputs are called p_<label>."""

    name: Literal["classes"]
    labels: tuple[str, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty or doubled label list."""
        require(
            len(set(self.labels)) == len(self.labels) > 0, "labels must be a non-empty list without doubles"
        )


@dataclass(frozen=True)
class IdentityObjective:
    """Who is it: ArcFace over the patients of the training split, see losses/arcface.py."""

    name: Literal["identity"]
    scale: float = 192.0
    margin: float = 1.0
    weight: float = 1.0


PartRecipe: TypeAlias = (
    PclrObjective
    | SimClrObjective
    | CmscObjective
    | TfcObjective
    | W2vObjective
    | DistanceObjective
    | MetricObjective
    | HemodynamicsObjective
    | RhcNetObjective
    | ClassesObjective
    | IdentityObjective
    | DistillObjective
)


@dataclass(frozen=True)
class CombinedObjective:
    """The weighted sum of several objectives on the same views, such as pclr + distance."""

    name: Literal["combined"]
    parts: tuple[PartRecipe, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be summed."""
        names = [part.name for part in self.parts]
        require(
            len(set(names)) == len(names) >= 2, "parts must be at least two objectives of different names"
        )
        # A head that is taught by distillation alone has the weight 0: it is there, and its labels teach nothing.
        weights = [part.weight for part in self.parts]
        require(min(weights) >= 0 < max(weights), "no part may have a weight below 0, nor all parts 0")
        views = {VIEWS[name] for name in names} - {"one"}
        require(
            len(views) <= 1,
            f"{' and '.join(names)} need different views of a batch ({', '.join(sorted(views))})",
        )


@dataclass(frozen=True)
class ImportedObjective:
    """None at all: the encoder came from published weights, see importers/run.py. Nothing can be trained with it."""

    name: Literal["imported"]


ObjectiveRecipe: TypeAlias = PartRecipe | CombinedObjective | ImportedObjective


ViewKind: TypeAlias = Literal["one", "pairs", "twice", "halves"]
"""A batch as windows: one each; two ECGs of each patient; each ECG twice; the two halves of each ECG."""

VIEWS: Mapping[str, ViewKind] = {
    "pclr": "pairs",
    "simclr": "twice",
    "tfc": "twice",
    "cmsc": "halves",
    "w2v": "halves",
    "distance": "one",
    "metric": "one",
    "hemodynamics": "one",
    "rhcnet": "one",
    "classes": "one",
    "identity": "pairs",
    "distill": "one",
}
"""What an objective wants to see; "one" is content with any."""

OBJECTIVES: Mapping[str, type[Any]] = {
    "pclr": PclrObjective,
    "simclr": SimClrObjective,
    "cmsc": CmscObjective,
    "tfc": TfcObjective,
    "w2v": W2vObjective,
    "distance": DistanceObjective,
    "metric": MetricObjective,
    "hemodynamics": HemodynamicsObjective,
    "rhcnet": RhcNetObjective,
    "classes": ClassesObjective,
    "identity": IdentityObjective,
    "distill": DistillObjective,
    "combined": CombinedObjective,
    "imported": ImportedObjective,
}
"""The class of an objective section by its `name`."""


def parts_of(objective: ObjectiveRecipe) -> tuple[ObjectiveRecipe, ...]:
    """Return what an objective is the sum of: the parts of a combined one, else itself."""
    return objective.parts if isinstance(objective, CombinedObjective) else (objective,)


def distillation_of(objective: ObjectiveRecipe) -> DistillObjective | None:
    """Return the part that a teacher teaches; None if there is none."""
    return next((part for part in parts_of(objective) if isinstance(part, DistillObjective)), None)


def head_label(objective: ObjectiveRecipe) -> str | None:
    """Return the label that the hemodynamic head of an objective says, "mpcwp_mmhg" by default; None if it has none."""
    parts = (part for part in parts_of(objective) if isinstance(part, HemodynamicsObjective))
    return next((part.label for part in parts), None)
