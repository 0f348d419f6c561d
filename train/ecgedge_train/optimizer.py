"""AdamW and its learning rate by step."""

from __future__ import annotations

import math

import torch

from ecgedge.errors import RecipeError
from ecgedge_train.model import EcgModel
from ecgedge_train.recipe import OptimizerRecipe, ScheduleRecipe


def lr_at(peak: float, schedule: ScheduleRecipe, step: int) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then a cosine to the final fraction."""
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    span = max(1, schedule.steps - 1 - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - schedule.warmup_steps) / span)))
    return peak * (schedule.final_lr_fraction + (1 - schedule.final_lr_fraction) * cosine)


def build_optimizer(model: EcgModel, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW with weight decay on kernels; a decayed norm scale or bias only fights the data.

    Each group has an `lr_factor`: that of the recipe for the encoder, 1 for the heads. A factor of 0 freezes.

    Raises
    ------
    RecipeError
        If nothing is left to train.
    """
    groups = []
    for module, factor in ((model.encoder, recipe.encoder_lr_factor), (model.heads, 1.0)):
        if factor == 0:
            module.requires_grad_(requires_grad=False)
            continue
        kernels = [p for p in module.parameters() if p.dim() >= 2]
        others = [p for p in module.parameters() if p.dim() < 2]
        groups += [
            {"params": kernels, "weight_decay": recipe.weight_decay, "lr_factor": factor},
            {"params": others, "weight_decay": 0.0, "lr_factor": factor},
        ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise RecipeError(
            "optimizer.encoder_lr_factor = 0 freezes the encoder, and this objective has no head to train; set it "
            "above 0 or choose an objective with a head"
        )
    on_gpu = next(model.parameters()).is_cuda
    return torch.optim.AdamW(
        groups,
        lr=recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        fused=True if on_gpu else None,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every group to `lr` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
