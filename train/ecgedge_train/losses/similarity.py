"""Relation distillation: records that are alike to the teacher are to be alike to the student.

Tung and Mori, "Similarity-preserving knowledge distillation", ICCV 2019 (arXiv:1907.09682), eqs. 1 to 4. Symbols: b
records, A (b, E) activations, G~ = A A^T, G = G~ with rows of length 1:

    L_SP = 1/b^2 ||G_teacher - G_student||_F^2

The widths E need not agree. Ours normalises the rows of A and not those of G~, so that G holds cosines: the relation is
of directions, an embedding's length is free, and the value does not shrink with the size of the batch. The diagonal,
which is then 1 for both, is left out of the mean.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines of all pairs of records.

    Parameters
    ----------
    student, teacher
        (B, E) and (B, E'), the same records in the same order.

    Raises
    ------
    ValueError
        If the batches differ or hold no pair.
    """
    n = len(student)
    if len(teacher) != n or n < 2:
        raise ValueError(f"pairs among {n} records of the student and {len(teacher)} of the teacher")
    difference = _cosines(student) - _cosines(teacher)
    difference.fill_diagonal_(0.0)
    return difference.square().sum() / (n * (n - 1))


def _cosines(x: Tensor) -> Tensor:
    unit = functional.normalize(x, dim=1)
    return unit @ unit.T
