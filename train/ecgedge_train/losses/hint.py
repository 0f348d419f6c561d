"""Embedding distillation: the student's embedding, through a regressor, against the teacher's.

Romero et al., "FitNets: hints for thin deep nets", ICLR 2015 (arXiv:1412.6550), eq. 3:

    L_HT = 1/2 ||u(x) - r(v(x))||^2

with u the teacher's features, v the student's, r a regressor that training throws away. There u is a hidden layer and
r a convolution; here u is the embedding and r linear (`heads.DistillHead`), or nothing where the widths agree. Ours is
the mean over records and numbers instead of half the sum: with a teacher centred and scaled to a mean variance of 1
(`teacher.TeacherData`), a student that always says the mean has the loss 1, whatever the widths.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference.

    Parameters
    ----------
    student, teacher
        (B, E): the regressor's output, and what it is to hit.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"the student says {tuple(student.shape)}, the teacher {tuple(teacher.shape)}")
    return functional.mse_loss(student, teacher)
