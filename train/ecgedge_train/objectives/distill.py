"""A student learns what a teacher said of each ECG: its embedding, which ECGs are alike, its outputs.

    loss = w_e * hint(map(z), z')  +  w_r * similarity(z, z')
         + w_o * (soft targets of the logits + Huber of the values)

z is the student's embedding of a view with the leads drawn for it, z' the teacher's of the same ECG with every lead
that was measured: so one student learns to answer with any lead set what the teacher says with all of them. What the
teacher said comes along as label columns (`teacher.TeacherData`). Labels of people join in by a combination with the
teacher's own task, which also gives the student its heads.

Among several processes each compares the pairs of its own rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.losses import hint_loss, similarity_loss, soft_target_loss
from ecgedge_train.objectives.base import Outputs, Plain, Targets
from ecgedge_train.recipe import DistillObjective


class Distill(Plain):
    """Embedding, relation and outputs of the teacher, each with its weight."""

    def __init__(self, recipe: DistillObjective) -> None:
        self.recipe = recipe
        self.label_names = recipe.columns

    @property
    def needs_labels(self) -> bool:
        """Return False: every record has a teacher's word."""
        return False

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the weighted sum; a part of weight 0 is not computed."""
        parts = self._parts(outputs, targets.labels)
        return torch.stack([weight * value for weight, value in parts.values()]).sum()

    def batch_scores(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the parts of the loss: 1 is an embedding that says the mean, 0 a student that is the teacher."""
        return {
            f"distill_{name}": float(value)
            for name, (_, value) in self._parts(outputs, targets.labels).items()
        }

    def _parts(self, outputs: Outputs, said: Tensor) -> dict[str, tuple[float, Tensor]]:
        r, size = self.recipe, self.recipe.teacher_embedding_size
        embedding, of_teacher = outputs["embedding"], said[:, :size]
        parts: dict[str, tuple[float, Tensor]] = {}
        if r.embedding_weight:
            mapped = outputs.get("mapped_embedding", embedding)
            parts["embedding"] = (r.embedding_weight, hint_loss(mapped, of_teacher))
        if r.relation_weight:
            parts["relation"] = (r.relation_weight, similarity_loss(embedding, of_teacher))
        if r.output_weight and r.outputs:
            parts["outputs"] = (r.output_weight, self._outputs_loss(outputs, said[:, size:]))
        return parts

    def _outputs_loss(self, outputs: Outputs, said: Tensor) -> Tensor:
        """Return the mean over logits of their divergence plus the mean over values of their Huber loss."""
        r = self.recipe
        logits = [outputs["class_logits"]] if r.class_logits else []
        logits += [outputs[name][:, None] for name in r.logits]
        n_logits = len(r.class_logits) + len(r.logits)
        loss = said.new_zeros(())
        if logits:
            student = torch.cat(logits, dim=1)
            loss = loss + soft_target_loss(student, said[:, :n_logits], temperature=r.temperature)
        if r.values:
            student = torch.stack([outputs[name] for name in r.values], dim=1)
            scale = torch.tensor(r.value_sds, device=said.device)
            loss = loss + functional.huber_loss(student / scale, said[:, n_logits:] / scale)
        return loss
