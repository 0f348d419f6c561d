"""Metric learning: triplets mined by the distance between signals, or by labels; triplet, margin or angular loss.

Jeong et al., MLHC 2023. A miner picks triplets, a loss values them; see miners/ and losses/.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.distributed import current_world, gather_rows
from ecgedge_train.losses import angular_npair_loss, margin_loss, triplet_loss
from ecgedge_train.miners import (
    classes_from_cuts,
    distance_triplets,
    embedding_distances,
    label_distance_triplets,
    npair_triplets,
    semihard_triplets,
    softhard_triplets,
)
from ecgedge_train.objectives.base import Outputs, Plain, Targets
from ecgedge_train.recipe import DistanceObjective, MetricObjective


class DistanceMining(Plain):
    """Self-supervised: the nearest signal of the batch is the positive, one of the farthest the negative.

    Among several processes each mines within its own rows, whose distances it has.
    """

    def __init__(self, recipe: DistanceObjective) -> None:
        self.recipe = recipe
        self.distance = recipe.distance

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Loss of the triplets among the first views."""
        r = self.recipe
        if targets.distance is None:
            raise ValueError("the batch came without distances between its signals")
        n = len(targets.distance)
        triplets = distance_triplets(
            targets.distance,
            generator=generator,
            n_farthest=r.n_farthest,
            random_negative=r.random_negative,
            same_patient=targets.patients[:n],
        )
        return _value(outputs, outputs["embedding"][:n], triplets, r)


class MetricTask(Plain):
    """Supervised: mined by how far labels are apart, or by classes. Anchors are a process's own rows, among all."""

    def __init__(self, recipe: MetricObjective) -> None:
        self.recipe = recipe
        self.label_names = (recipe.label,)

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Loss of the mined triplets."""
        own = outputs["embedding"]
        embeddings, labels = gather_rows(own), gather_rows(targets.labels[:, 0])
        anchors = torch.arange(len(own), device=own.device) + current_world().rank * len(own)
        return _value(outputs, embeddings, self._mine(embeddings, labels, anchors, generator), self.recipe)

    def _mine(
        self, embeddings: Tensor, labels: Tensor, anchors: Tensor, generator: torch.Generator
    ) -> Tensor:
        r = self.recipe
        if r.miner == "label_distance":
            return label_distance_triplets(labels, anchors=anchors)
        classes = classes_from_cuts(labels, (r.cut,))
        if r.miner == "npair":
            return npair_triplets(classes, generator=generator, anchors=anchors)
        z = functional.normalize(embeddings, dim=1) if r.unit_norm else embeddings
        distances = embedding_distances(z, anchors=anchors)
        if r.miner == "semihard":
            return semihard_triplets(
                distances, classes, generator=generator, margin=r.margin, anchors=anchors
            )
        return softhard_triplets(distances, classes, generator=generator, anchors=anchors)


def _value(
    outputs: Outputs, embeddings: Tensor, triplets: Tensor, recipe: DistanceObjective | MetricObjective
) -> Tensor:
    """Return the loss of triplets; zero, with a gradient, where none could be mined."""
    if len(triplets) == 0:
        # The parameters stay in the graph: processes that average gradients must all have the same ones.
        return 0.0 * (embeddings.sum() + outputs.get("margin_beta", embeddings.new_zeros(())))
    z = functional.normalize(embeddings, dim=1) if recipe.unit_norm else embeddings
    if recipe.loss == "margin":
        return margin_loss(z, triplets, outputs["margin_beta"], margin=recipe.margin)
    if recipe.loss == "angular":
        return angular_npair_loss(z, triplets)
    return triplet_loss(z, triplets, margin=recipe.margin)
