"""The model: an encoder and its heads. `build_model(recipe)` is the only way to make one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecgedge_train.encoders import EdgeNet, ResNet18
from ecgedge_train.recipe import (
    ClassesObjective,
    EncoderRecipe,
    HemodynamicsObjective,
    ObjectiveRecipe,
    PclrObjective,
    Recipe,
    ResNet18Recipe,
)


class Features(NamedTuple):
    """What the model says of a batch.

    `outputs` holds raw values by name, as far as the heads give them: logit_gt_15, logit_gt_18, mpcwp_mmhg each
    (B,); class_logits (B, n_classes); projection (B, P).
    """

    embedding: Tensor
    outputs: dict[str, Tensor]


class HemodynamicsHead(nn.Module):
    """Embedding (B, E) to two logits and the pressure in mmHg; the scale is part of the saved weights."""

    mean_mmhg: Tensor
    sd_mmhg: Tensor

    def __init__(self, embedding_size: int, *, mean_mmhg: float, sd_mmhg: float) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.fc = nn.Linear(embedding_size, 3)
        self.register_buffer("mean_mmhg", torch.tensor(mean_mmhg))
        self.register_buffer("sd_mmhg", torch.tensor(sd_mmhg))

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return logit_gt_15, logit_gt_18, mpcwp_mmhg, each (B,)."""
        y = self.fc(self.relu(embedding))
        return {
            "logit_gt_15": y[:, 0],
            "logit_gt_18": y[:, 1],
            "mpcwp_mmhg": y[:, 2] * self.sd_mmhg + self.mean_mmhg,
        }


class ClassesHead(nn.Module):
    """Embedding (B, E) to one logit a class."""

    def __init__(self, embedding_size: int, *, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels
        self.relu = nn.ReLU()
        self.fc = nn.Linear(embedding_size, len(labels))

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return class_logits, (B, n_classes)."""
        return {"class_logits": self.fc(self.relu(embedding))}


class ProjectionHead(nn.Module):
    """Two linear layers behind the embedding for NT-Xent; used in training only."""

    def __init__(self, embedding_size: int, *, projection_size: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(embedding_size, embedding_size)
        self.fc2 = nn.Linear(embedding_size, projection_size)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return projection, (B, projection_size)."""
        return {"projection": self.fc2(self.relu(self.fc1(embedding)))}


class EcgModel(nn.Module):
    """Encoder plus heads.

    Parameters
    ----------
    encoder
        (ecg_mv (B,12,T), presence (B,12)) -> (B,E), with attributes `stem`, `presence`, `embedding_size`.
    heads
        By name ("hemodynamics", "classes", "projection"); each maps (B,E) to a dict of outputs.
    """

    def __init__(self, encoder: EdgeNet | ResNet18, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, ecg_mv: Tensor, presence: Tensor) -> Features:
        """(B, 12, T) millivolts, absent leads zero, and (B, 12) presence to `Features`."""
        embedding = self.encoder(ecg_mv, presence)
        outputs: dict[str, Tensor] = {}
        for head in self.heads.values():
            outputs.update(head(embedding))
        return Features(embedding, outputs)


def build_model(recipe: Recipe) -> EcgModel:
    """Build the model of a recipe with weights drawn from `recipe.seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = _build_encoder(recipe.encoder)
        return EcgModel(encoder, _build_heads(recipe.objective, encoder.embedding_size))


def _build_encoder(recipe: EncoderRecipe) -> EdgeNet | ResNet18:
    if isinstance(recipe, ResNet18Recipe):
        return ResNet18(recipe.embedding_size, dropout=recipe.dropout, init=recipe.init)
    return EdgeNet(recipe.embedding_size, dropout=recipe.dropout)


def _build_heads(objective: ObjectiveRecipe, embedding_size: int) -> dict[str, nn.Module]:
    if isinstance(objective, PclrObjective):
        return {"projection": ProjectionHead(embedding_size, projection_size=objective.projection_size)}
    if isinstance(objective, HemodynamicsObjective):
        head = HemodynamicsHead(embedding_size, mean_mmhg=objective.mean_mmhg, sd_mmhg=objective.sd_mmhg)
        return {"hemodynamics": head}
    if isinstance(objective, ClassesObjective):
        return {"classes": ClassesHead(embedding_size, labels=objective.labels)}
    raise TypeError(f"no heads for {objective!r}")
