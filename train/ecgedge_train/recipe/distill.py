"""The section of a student: which run teaches it, what of that run it learns, and how much each part counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecgedge_train.recipe.sections import require


@dataclass(frozen=True)
class DistillObjective:
    """Distillation from a finished run, see objectives/distill.py; `ecgedge compress` writes it.

    `teacher_*` say who teaches: they stay in the student's recipe as its provenance. `class_logits` are the labels of
    the teacher's class head, `logits` and `values` the names of its other outputs, `value_sds` their scales.
    """

    name: Literal["distill"]
    teacher: str
    teacher_sha256: str
    teacher_encoder: str
    teacher_trained_on: str
    teacher_embedding_size: int
    class_logits: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    value_sds: tuple[float, ...] = ()
    embedding_weight: float = 1.0
    relation_weight: float = 1.0
    output_weight: float = 1.0
    temperature: float = 2.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a teacher that says nothing, and scales that cannot be divided by."""
        require(self.teacher_embedding_size >= 1, "teacher_embedding_size must be at least 1")
        require(len(self.values) == len(self.value_sds), "every one of values needs its own of value_sds")
        require(all(sd > 0 for sd in self.value_sds), "value_sds must be above 0")
        require(self.temperature > 0, f"temperature {self.temperature:g} must be above 0")
        weights = (self.embedding_weight, self.relation_weight, self.output_weight)
        require(min(weights) >= 0 < max(weights), "the weights must not be negative, nor all 0")
        require(
            self.embedding_weight > 0 or self.relation_weight > 0 or bool(self.outputs),
            "output_weight alone teaches nothing: this teacher has no outputs beside its embedding; "
            "set embedding_weight or relation_weight above 0",
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the teacher's outputs beside its embedding, in the order of their columns."""
        return (*(f"class_{label}" for label in self.class_logits), *self.logits, *self.values)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that hold what the teacher says: its embedding first, then its outputs."""
        size = self.teacher_embedding_size
        return (
            *(f"teacher_embedding_{i}" for i in range(size)),
            *(f"teacher_{name}" for name in self.outputs),
        )
