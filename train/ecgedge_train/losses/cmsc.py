"""Contrastive multi-segment coding: two adjacent crops of an ECG belong together.

Kiyasseh, Zhu and Clifton, "CLOCS: contrastive learning of cardiac signals across space, time, and patients",
ICML 2021; as used by Oh et al., CHIL 2022 (PMLR 174).

Symbols: B pairs, D width, T temperature, a_i and b_i the unit vectors of pair i's first and second crop, P(i) the
pairs of i's patient (i among them), s_ij = a_i . b_j / T.

    l_i = mean over j in P(i) of -log( exp(s_ij) / (exp(s_ij) + sum over k outside P(i) of exp(s_ik)) )
    loss = (mean of l_i over rows + the same over columns) / 2

The published code keeps the patient's other pairs in the denominator, where positives push each other away, and
averages over all positive entries, so that a patient with n pairs weighs n^2: `positives="published"`. With one pair
a patient both are the same. It also holds the vectors' lengths fixed in the gradient, which then is not that of the
cosine; ours is.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Positives = Literal["patient", "published"]


class Gathered(NamedTuple):
    """The pairs of all ranks: `first` and `second` (W B, D) with their gradient, `patients` (W B,)."""

    first: Tensor
    second: Tensor
    patients: Tensor


def cmsc_loss(
    first: Tensor,
    second: Tensor,
    patients: Tensor,
    *,
    temperature: float = 0.1,
    positives: Positives = "patient",
    gathered: Gathered | None = None,
) -> Tensor:
    """Contrastive loss of B pairs.

    Parameters
    ----------
    first, second
        (B, D) time means of the two crops; not necessarily unit vectors.
    patients
        (B,) integer codes; pairs of equal code are never negatives of each other.
    temperature
        T.
    positives
        See the head of this file.
    gathered
        Where B is one rank's share: the pairs of all ranks, which all have B. The mean of the ranks' losses is then
        the loss of one process with all the pairs, and so is the mean of their gradients if the gather sums
        gradients on its way back.

    Raises
    ------
    ValueError
        If shapes differ or only one patient is in the (gathered) batch.
    """
    everyone = Gathered(first, second, patients) if gathered is None else gathered
    _check(first, second, patients, everyone)
    same = patients[:, None] == everyone.patients[None, :]
    pairs = (first, everyone.second), (second, everyone.first)
    logits = [
        functional.normalize(x, dim=1) @ functional.normalize(y, dim=1).T / temperature for x, y in pairs
    ]
    if positives == "patient":
        return torch.stack([_patient_terms(s, same).mean() for s in logits]).mean()
    # The mean over all positive entries of all ranks, told through this rank's entries alone.
    codes = everyone.patients
    n_positive = (codes[:, None] == codes[None, :]).sum() * len(patients) / len(codes)
    return torch.stack([-s.log_softmax(dim=1)[same].sum() / n_positive for s in logits]).mean()


def _patient_terms(logits: Tensor, same: Tensor) -> Tensor:
    """Return l_i of the rows of (B, N) logits, (B,)."""
    others = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
    # -log(e^s / (e^s + e^others)) = log(1 + e^(others - s))
    terms = functional.softplus(others - logits) * same
    return terms.sum(dim=1) / same.sum(dim=1)


def _check(first: Tensor, second: Tensor, patients: Tensor, everyone: Gathered) -> None:
    if first.dim() != 2 or first.shape != second.shape or patients.shape != first.shape[:1]:
        shapes = [tuple(x.shape) for x in (first, second, patients)]
        raise ValueError(f"expected (B, D), (B, D) and (B,), found {shapes}")
    if bool((everyone.patients == everyone.patients[0]).all()):
        raise ValueError("CMSC needs at least 2 patients in a batch; use a larger data.batch_size")
