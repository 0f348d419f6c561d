"""NT-Xent over two ECGs of each patient (PCLR).

Diamant et al., "Patient contrastive learning: a performant, expressive, and practical approach to
electrocardiogram modeling", PLoS Comput Biol 2022, e1009862. After Chen et al., SimCLR, ICML 2020, eq. 1.

Symbols: N patients, D width, T temperature. Rows z of the 2N projections are unit vectors; i' is the other ECG of
row i's patient.

    l_i = -log( exp(z_i . z_i' / T) / sum over j != i of exp(z_i . z_j / T) )

The paper's code adds the mean over the first halves and the mean over the second halves, twice the textbook mean
(`reduction="sum_of_means"`). It also takes a second pair of the same patient for negatives; with `patients` given,
such rows leave the sum.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.losses.gather import ALONE, Gather

Reduction = Literal["mean", "sum_of_means", "none"]


def nt_xent(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float = 0.1,
    patients: Tensor | None = None,
    reduction: Reduction = "mean",
    gather: Gather = ALONE,
) -> Tensor:
    """Contrastive loss of N pairs.

    Parameters
    ----------
    first, second
        (N, D) projections; row k of both belongs to one patient. Not necessarily unit vectors.
    temperature
        T.
    patients
        (N,) integer codes; rows of equal code are never negatives of each other.
    reduction
        "mean" (textbook), "sum_of_means" (as published, twice that), "none" for the (2N,) terms.
    gather
        Brings the rows of all processes together. The terms are those of the own rows against the rows of all:
        their mean, averaged over processes, is the loss of one process with the whole batch, and so is its gradient.

    Raises
    ------
    ValueError
        If the shapes differ, or there are fewer than two patients (a contrast needs another one).
    """
    logits, target = _logits(first, second, temperature=temperature, patients=patients, gather=gather)
    terms = functional.cross_entropy(logits, target, reduction="none")
    if reduction == "none":
        return terms
    return terms.mean() if reduction == "mean" else 2.0 * terms.mean()


def nt_xent_accuracy(first: Tensor, second: Tensor, *, patients: Tensor | None = None) -> Tensor:
    """Return the share of the 2N rows whose nearest other row is the patient's own second ECG."""
    logits, target = _logits(first, second, temperature=1.0, patients=patients, gather=ALONE)
    return (logits.argmax(dim=1) == target).float().mean()


def _logits(
    first: Tensor, second: Tensor, *, temperature: float, patients: Tensor | None, gather: Gather
) -> tuple[Tensor, Tensor]:
    """Return (2n, 2N) similarities / T of n own pairs among N in all, and the (2n,) targets.

    Similarities are -inf where a column may not stand in the sum of its row.
    """
    if first.shape != second.shape or first.dim() != 2:
        raise ValueError(
            f"expected two (N, D) tensors of one shape, found {tuple(first.shape)}, {tuple(second.shape)}"
        )
    own = [functional.normalize(z, dim=1) for z in (first, second)]
    ones = torch.arange(len(first), device=first.device) + gather.rank * len(first)
    everyone = torch.cat([gather.rows(z) for z in own])
    n = len(everyone) // 2
    if n < 2:
        raise ValueError("NT-Xent needs at least 2 patients in a batch; use a larger data.batch_size")
    rows = torch.cat([ones, ones + n])
    target = (rows + n) % (2 * n)
    excluded = rows[:, None] == torch.arange(2 * n, device=first.device)[None, :]
    if patients is not None:
        mine, both = torch.cat([patients, patients]), gather.rows(patients).repeat(2)
        excluded = excluded | (mine[:, None] == both[None, :])
        excluded = excluded.scatter(1, target[:, None], value=False)
    return (torch.cat(own) @ everyone.T / temperature).masked_fill(excluded, -torch.inf), target
