"""Contrastive objectives: two views of a patient, of an ECG, or of its two halves, against all others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.distributed import gather_rows, world_gather
from ecgedge_train.losses import (
    Gathered,
    TimeFrequency,
    arcface_logits,
    clocs_loss,
    cmsc_loss,
    nt_xent,
    nt_xent_accuracy,
    tfc_loss,
)
from ecgedge_train.objectives.base import Outputs, Plain, Targets
from ecgedge_train.recipe import (
    CmscObjective,
    IdentityObjective,
    PclrObjective,
    SimClrObjective,
    TfcObjective,
)


class Pclr(Plain):
    """NT-Xent over the two ECGs of each patient."""

    views = "pairs"

    def __init__(self, recipe: PclrObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Contrastive loss of outputs["projection"], (2B, P)."""
        first, second = outputs["projection"].chunk(2)
        return nt_xent(
            first,
            second,
            temperature=self.recipe.temperature,
            patients=targets.patients.chunk(2)[0],
            reduction=self.recipe.reduction,
            gather=world_gather(),
        )

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the share of ECGs that find their patient's other ECG in the batch."""
        first, second = outputs["projection"].chunk(2)
        return {
            "pair_accuracy": float(nt_xent_accuracy(first, second, patients=targets.patients.chunk(2)[0]))
        }


class SimClr(Plain):
    """NT-Xent over two augmented views of each ECG; other ECGs of the same patient are no negatives."""

    views = "twice"

    def __init__(self, recipe: SimClrObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Contrastive loss of outputs["projection"], (2B, P)."""
        first, second = outputs["projection"].chunk(2)
        patients = targets.patients.chunk(2)[0]
        return nt_xent(
            first, second, temperature=self.recipe.temperature, patients=patients, gather=world_gather()
        )


class Cmsc(Plain):
    """The two halves of each ECG belong together, and so do all halves of one patient."""

    views = "halves"

    def __init__(self, recipe: CmscObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Contrastive loss of outputs["projection"], (2B, P)."""
        z, temperature = outputs["projection"], self.recipe.temperature
        if self.recipe.form == "clocs":
            first, second = z.chunk(2)
            return clocs_loss(first, second, targets.patients.chunk(2)[0], temperature=temperature)
        return halves_contrast(z, targets, temperature=temperature)


def halves_contrast(z: Tensor, targets: Targets, *, temperature: float) -> Tensor:
    """Return the CMSC loss of (2B, D) views against those of all processes."""
    first, second = z.chunk(2)
    patients = targets.patients.chunk(2)[0]
    everyone = Gathered(gather_rows(first), gather_rows(second), gather_rows(patients))
    if bool((everyone.patients == everyone.patients[0]).all()):
        # By chance all of the batch is one patient: nobody to contrast with, and by the formula nothing to pay.
        return 0.0 * z.sum()
    return cmsc_loss(first, second, patients, temperature=temperature, gathered=everyone)


class Tfc(Plain):
    """Samples and spectrum of an ECG agree better with each other than with a perturbed view."""

    views = "twice"

    def __init__(self, recipe: TfcObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Sum of time contrast, frequency contrast and consistency."""
        names = ("embedding", "frequency_embedding", "time_projection", "frequency_projection")
        first, second = zip(*(outputs[name].chunk(2) for name in names), strict=True)
        return tfc_loss(
            TimeFrequency(*first),
            TimeFrequency(*second),
            temperature=self.recipe.temperature,
            contrast_weight=self.recipe.contrast_weight,
            hinge=True,
            patients=targets.patients.chunk(2)[0],
            gather=world_gather(),
        )


class Identity(Plain):
    """ArcFace over the training patients; tune patients are others, so they are judged as pairs."""

    views = "pairs"

    def __init__(self, recipe: IdentityObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Cross-entropy over the patients with an angular margin."""
        logits = arcface_logits(
            outputs["identity_cosine"], targets.patients, scale=self.recipe.scale, margin=self.recipe.margin
        )
        return functional.cross_entropy(logits, targets.patients)

    def tune_loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """NT-Xent of the two ECGs of each patient: how well they find each other."""
        first, second = outputs["embedding"].chunk(2)
        return nt_xent(first, second, patients=targets.patients.chunk(2)[0])

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the share of ECGs that find their patient's other ECG in the batch."""
        first, second = outputs["embedding"].chunk(2)
        patients = targets.patients.chunk(2)[0]
        return {"pair_accuracy": float(nt_xent_accuracy(first, second, patients=patients))}
