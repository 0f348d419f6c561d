"""Masked prediction with CMSC: W2V+CMSC+RLM of Oh et al. (CHIL 2022); the lead masks are those of every objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgedge_train.losses import sample_negatives, w2v_loss
from ecgedge_train.losses.w2v import W2vLoss
from ecgedge_train.objectives.base import Outputs, Plain, Targets
from ecgedge_train.objectives.contrast import halves_contrast
from ecgedge_train.quantizer import Predictions
from ecgedge_train.recipe import W2vObjective
from ecgedge_train.token_masking import draw_token_mask


class W2v(Plain):
    """InfoNCE over hidden tokens, code diversity, feature penalty, and CMSC over the two halves of an ECG."""

    views = "halves"

    def __init__(self, recipe: W2vObjective) -> None:
        self.recipe = recipe

    def token_mask(self, views: int, n_tokens: int, generator: torch.Generator) -> Tensor:
        """Return (V, n_tokens) bool, the same count in every row."""
        r = self.recipe
        return draw_token_mask(
            views, n_tokens, generator=generator, probability=r.mask_probability, span=r.mask_span
        )

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the weighted sum of the four parts."""
        return self._parts(outputs, targets, generator).total

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the parts of the loss, and how many of the codes are in use (as a perplexity)."""
        parts = self._parts(outputs, targets, torch.Generator().manual_seed(0))
        return {
            "info_nce": float(parts.info_nce),
            "cmsc": float(parts.cmsc),
            "code_perplexity": float(outputs["tokens_code_perplexity"]),
        }

    def _parts(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> W2vLoss:
        r = self.recipe
        predicted = outputs["tokens_predicted"]
        predictions = Predictions(
            predicted,
            outputs["tokens_targets"],
            outputs["tokens_codes"],
            outputs["tokens_prob_perplexity"],
            outputs["tokens_code_perplexity"],
            r.groups * r.codes,
        )
        negatives = sample_negatives(
            predicted.shape[0], predicted.shape[1], generator=generator, count=r.negatives
        )
        return w2v_loss(
            predictions,
            negatives,
            penalty=outputs["tokens_penalty"],
            cmsc=halves_contrast(outputs["embedding"], targets, temperature=r.temperature),
            temperature=r.temperature,
            diversity_weight=r.diversity_weight,
            penalty_weight=r.penalty_weight,
            cmsc_weight=r.cmsc_weight,
        )
