"""AdamW and its learning rate by step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ecgedge_train.recipe import OptimizerRecipe, ScheduleRecipe


def lr_at(peak: float, schedule: ScheduleRecipe, step: int) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then a cosine to the final fraction."""
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    span = max(1, schedule.steps - 1 - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - schedule.warmup_steps) / span)))
    return peak * (schedule.final_lr_fraction + (1 - schedule.final_lr_fraction) * cosine)


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW with weight decay on kernels; a decayed norm scale or bias only fights the data."""
    kernels = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))
