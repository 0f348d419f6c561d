"""The weighted sum of objectives on the same views: PCLR + distance mining, metric learning + its task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge_train.objectives.base import Objective, OutputArrays, Outputs, Targets
from ecgedge_train.recipe.objectives import ViewKind


class Combined:
    """Sum of `weight * loss` over parts; each part reads its own label columns.

    Parameters
    ----------
    parts
        Name, weight and objective of each. Those content with one view get whatever the others ask for.

    Raises
    ------
    ValueError
        If two parts want different distances.
    """

    def __init__(self, parts: Sequence[tuple[str, float, Objective]]) -> None:
        self.parts = tuple(parts)
        objectives = [objective for _, _, objective in parts]
        self.views: ViewKind = next((o.views for o in objectives if o.views != "one"), "one")
        self.label_names = tuple(name for o in objectives for name in o.label_names)
        # A record without labels still teaches the parts that want none.
        self.needs_labels = all(o.needs_labels for o in objectives)
        self.scored = any(o.scored for o in objectives)
        distances = {o.distance for o in objectives} - {None}
        if len(distances) > 1:
            raise ValueError(f"one batch has one distance, the parts want {sorted(map(str, distances))}")
        self.distance = next(iter(distances), None)
        widths = [len(o.label_names) for o in objectives]
        starts = np.cumsum([0, *widths])
        self._columns = [slice(int(s), int(s) + w) for s, w in zip(starts, widths, strict=False)]

    def token_mask(self, views: int, n_tokens: int, generator: torch.Generator) -> Tensor | None:
        """Return the mask of the first part that has one."""
        masks = (o.token_mask(views, n_tokens, generator) for _, _, o in self.parts)
        return next((mask for mask in masks if mask is not None), None)

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the weighted sum."""
        total = torch.zeros((), device=targets.labels.device)
        for (_, weight, objective), columns in zip(self.parts, self._columns, strict=True):
            total = total + weight * objective.loss(outputs, targets.columns(columns), generator)
        return total

    def tune_loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the weighted sum on the tune split."""
        total = torch.zeros((), device=targets.labels.device)
        for (_, weight, objective), columns in zip(self.parts, self._columns, strict=True):
            total = total + weight * objective.tune_loss(outputs, targets.columns(columns), generator)
        return total

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return every part's figures."""
        found: dict[str, float] = {}
        for (_, _, objective), columns in zip(self.parts, self._columns, strict=True):
            found.update(objective.batch_scores(outputs, targets.columns(columns)))
        return found

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """Return every part's figures."""
        found: dict[str, float] = {}
        for (_, _, objective), columns in zip(self.parts, self._columns, strict=True):
            if objective.scored:
                found.update(objective.scores(outputs, labels[:, columns]))
        return found
