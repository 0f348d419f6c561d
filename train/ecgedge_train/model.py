"""The model: an encoder and its heads. `build_model(recipe)` is the only way to make one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ecgedge.errors import RecipeError
from ecgedge_train.encoders import EdgeNet, PclrResNet, ResNet18, RhcNet, W2vEncoder
from ecgedge_train.heads import (
    ClassesHead,
    DistillHead,
    Encoded,
    FrequencyHead,
    HemodynamicsHead,
    IdentityHead,
    MarginHead,
    ProjectionHead,
    RhcNetHead,
    TokenHead,
    TrainingHead,
)
from ecgedge_train.recipe import (
    ClassesObjective,
    CmscObjective,
    DistanceObjective,
    DistillObjective,
    EncoderRecipe,
    HemodynamicsObjective,
    IdentityObjective,
    MetricObjective,
    ObjectiveRecipe,
    PclrObjective,
    PclrResNetRecipe,
    Recipe,
    ResNet18Recipe,
    RhcNetObjective,
    RhcNetRecipe,
    SimClrObjective,
    TfcObjective,
    W2vObjective,
    W2vRecipe,
    parts_of,
)

__all__ = [
    "ClassesHead",
    "EcgModel",
    "Encoder",
    "Features",
    "HemodynamicsHead",
    "ProjectionHead",
    "build_encoder",
    "build_model",
]

Encoder: TypeAlias = EdgeNet | ResNet18 | PclrResNet | RhcNet | W2vEncoder
"""(ecg_mv (B,12,T), presence (B,12)) -> (B,E), with attributes `stem`, `presence`, `embedding_size`."""


class Features(NamedTuple):
    """What the model says of a batch.

    `outputs` holds raw values by name, as far as the heads give them: logit_gt_15, logit_gt_18, mpcwp_mmhg each
    (B,); class_logits (B, n_classes); projection (B, P).
    """

    embedding: Tensor
    outputs: dict[str, Tensor]


class EcgModel(nn.Module):
    """Encoder plus heads.

    Parameters
    ----------
    encoder
        See `Encoder`.
    heads
        By name ("hemodynamics", "classes", "projection"); each maps (B,E), or `Encoded` for a TrainingHead, to a
        dict of outputs.
    """

    def __init__(self, encoder: Encoder, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(
        self,
        ecg_mv: Tensor,
        presence: Tensor,
        *,
        token_mask: Tensor | None = None,
        for_loss: bool = False,
    ) -> Features:
        """Run encoder and heads.

        Parameters
        ----------
        ecg_mv, presence
            (B, 12, T) millivolts, absent leads zero; (B, 12).
        token_mask
            (B, N) bool, True where an encoder of tokens hides one; other encoders take None.
        for_loss
            Run the training heads too.
        """
        tokens = None
        if for_loss and isinstance(self.encoder, W2vEncoder):
            tokens = self.encoder.tokens(ecg_mv, presence, token_mask)
            embedding = tokens.context.mean(dim=1)
        else:
            embedding = self.encoder(ecg_mv, presence)
        outputs: dict[str, Tensor] = {}
        encoded = Encoded(embedding, ecg_mv, presence, tokens, token_mask)
        for head in self.heads.values():
            if not isinstance(head, TrainingHead):
                outputs.update(head(embedding))
            elif for_loss:
                outputs.update(head(encoded))
        return Features(embedding, outputs)

    def begin_step(self, step: int) -> None:
        """Tell the training heads which optimiser step comes, for what is on a schedule."""
        for head in self.heads.values():
            if isinstance(head, TrainingHead):
                head.begin_step(step)

    def deployed_state(self) -> dict[str, Tensor]:
        """Return the weights that a finished run keeps: all but those of the training heads."""
        dropped = tuple(
            f"heads.{name}." for name, head in self.heads.items() if isinstance(head, TrainingHead)
        )
        return {name: t for name, t in self.state_dict().items() if not name.startswith(dropped)}


def build_model(recipe: Recipe, *, train_patients: int = 0) -> EcgModel:
    """Build the model of a recipe with weights drawn from `recipe.seed`; torch's own generator is left as it was.

    With `train_patients` it has its training heads too, which a finished run does without.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = build_encoder(recipe.encoder)
        heads = _build_heads(recipe.objective, encoder.embedding_size)
        if train_patients:
            heads |= _build_training_heads(recipe, encoder, train_patients)
        return EcgModel(encoder, heads)


def build_encoder(recipe: EncoderRecipe) -> Encoder:
    """Build an encoder; its weights come from torch's own generator."""
    if isinstance(recipe, ResNet18Recipe):
        return ResNet18(
            recipe.embedding_size,
            dropout=recipe.dropout,
            init=recipe.init,
            causal=recipe.causal,
            widths=recipe.widths,
        )
    if isinstance(recipe, PclrResNetRecipe):
        return PclrResNet(variant=recipe.variant, resample_samples=recipe.resample_samples)
    if isinstance(recipe, RhcNetRecipe):
        return RhcNet(dropout=recipe.dropout, resample_samples=recipe.resample_samples)
    if isinstance(recipe, W2vRecipe):
        return W2vEncoder(
            size=recipe.size,
            dropout=recipe.dropout,
            resample_samples=recipe.resample_samples,
            feature_gradient=recipe.feature_gradient,
            checkpointing=recipe.checkpointing,
        )
    return EdgeNet(
        recipe.embedding_size,
        dropout=recipe.dropout,
        size=recipe.size,
        causal=recipe.causal,
        widths=recipe.widths,
    )


def _build_heads(objective: ObjectiveRecipe, embedding_size: int) -> dict[str, nn.Module]:
    """Return the heads that read the embedding alone."""
    heads: dict[str, nn.Module] = {}
    for part in parts_of(objective):
        if isinstance(part, (PclrObjective, SimClrObjective, CmscObjective)):
            heads["projection"] = ProjectionHead(embedding_size, projection_size=part.projection_size)
        elif isinstance(part, HemodynamicsObjective):
            heads["hemodynamics"] = HemodynamicsHead(
                embedding_size, mean_mmhg=part.mean_mmhg, sd_mmhg=part.sd_mmhg, extras=part.extras
            )
        elif isinstance(part, RhcNetObjective):
            heads["rhcnet"] = RhcNetHead(embedding_size, dropout=part.dropout)
        elif isinstance(part, ClassesObjective):
            heads["classes"] = ClassesHead(embedding_size, labels=part.labels)
    return heads


def _build_training_heads(recipe: Recipe, encoder: Encoder, patients: int) -> dict[str, nn.Module]:
    heads: dict[str, nn.Module] = {}
    for part in parts_of(recipe.objective):
        if isinstance(part, (DistanceObjective, MetricObjective)) and part.loss == "margin":
            heads["margin"] = MarginHead()
        elif isinstance(part, IdentityObjective):
            heads["identity"] = IdentityHead(encoder.embedding_size, patients=patients)
        elif isinstance(part, TfcObjective):
            heads["frequency"] = FrequencyHead(
                build_encoder(recipe.encoder), encoder.embedding_size, projection_size=part.projection_size
            )
        elif isinstance(part, W2vObjective):
            heads["tokens"] = TokenHead(_of_tokens(encoder), groups=part.groups, codes=part.codes)
        elif isinstance(part, DistillObjective):
            other_width = part.teacher_embedding_size != encoder.embedding_size
            # One that no loss reads would keep several processes waiting for its gradient.
            if other_width and part.embedding_weight > 0:
                heads["distill"] = DistillHead(encoder.embedding_size, part.teacher_embedding_size)
    return heads


def _of_tokens(encoder: Encoder) -> W2vEncoder:
    if not isinstance(encoder, W2vEncoder):
        raise RecipeError('the objective "w2v" hides tokens; it needs encoder.name = "w2v"')
    return encoder
