"""Logit distillation: the teacher's probabilities as targets, softened by a temperature.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015 (arXiv:1503.02531), section 2. There one
softmax over classes; classes and cut-offs of ours may be true together, so each logit is a Bernoulli of its own:

    q = sigmoid(z_teacher / T),  p = sigmoid(z_student / T)
    L = T^2 * mean over records and logits of KL(q || p)

T^2 keeps the gradient's size whatever T is; as T grows, L goes to mean((z_teacher - z_student)^2) / 8. KL rather than
cross-entropy: the gradient is the same, and 0 means that the student says what the teacher says.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the student's Bernoulli probabilities from the teacher's.

    Parameters
    ----------
    student, teacher
        Raw logits of one shape.
    temperature
        T, above 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's logits are {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
        )
    soft = teacher / temperature
    q = torch.sigmoid(soft)
    cross = functional.binary_cross_entropy_with_logits(student / temperature, q)
    entropy = functional.binary_cross_entropy_with_logits(soft, q)
    return temperature**2 * (cross - entropy)
