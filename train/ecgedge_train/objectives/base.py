"""What every objective has: the views it wants, the labels it reads, a loss, and scores on the tune split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from ecgedge_train.recipe.objectives import ViewKind

Outputs: TypeAlias = Mapping[str, Tensor]
OutputArrays: TypeAlias = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Targets:
    """What the V views of a batch are compared with.

    Attributes
    ----------
    labels
        (V, n_labels), NaN where unknown.
    patients
        (V,) patient codes.
    distance
        (B, B) distances between the signals of the first B views, or None if the objective asks for none.
    """

    labels: Tensor
    patients: Tensor
    distance: Tensor | None = None

    def columns(self, chosen: slice) -> Targets:
        """Return the targets with some label columns only."""
        return Targets(self.labels[:, chosen], self.patients, self.distance)


class Objective(Protocol):
    """A way to train.

    Views that come two to an item (`pairs`, `twice`, `halves`) are ordered: all first ones, then all second ones.
    """

    @property
    def views(self) -> ViewKind:
        """How items become windows."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Columns of `Targets.labels`."""
        ...

    @property
    def needs_labels(self) -> bool:
        """Whether a record without any of the labels teaches nothing."""
        ...

    @property
    def distance(self) -> str | None:
        """Which distance between signals the loader computes, if any."""
        ...

    def token_mask(self, views: int, n_tokens: int, generator: torch.Generator) -> Tensor | None:
        """Return (V, n_tokens) bool, True where the encoder's tokens are hidden; None for no masking."""
        ...

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the scalar to minimise; `generator` decides every draw, such as a miner's."""
        ...

    def tune_loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return what chooses the best step, over the patients of the tune split."""
        ...

    @property
    def scored(self) -> bool:
        """Whether `scores` says anything, so that the tune split is worth running for it."""
        ...

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return figures of one batch, to be averaged over the tune batches."""
        ...

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """Return figures over the whole tune split, with all leads or the first lead set that is evaluated."""
        ...


class Plain(ABC):
    """What most objectives have in common: no masked tokens, no distance, no scores, one loss for both splits."""

    views: ViewKind = "one"
    label_names: tuple[str, ...] = ()
    distance: str | None = None
    scored: bool = False

    @property
    def needs_labels(self) -> bool:
        """Return whether there are labels to learn."""
        return bool(self.label_names)

    def token_mask(self, views: int, n_tokens: int, generator: torch.Generator) -> Tensor | None:
        """Return None: nothing is masked."""
        return None

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the scalar to minimise."""

    def tune_loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the same on the tune split."""
        return self.loss(outputs, targets, generator)

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return nothing."""
        return {}

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """Return nothing."""
        return {}


def auroc(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); NaN with one outcome only."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = float(rankdata(scores)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
