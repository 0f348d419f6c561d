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

Reduction = Literal["mean", "sum_of_means", "none"]


def nt_xent(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float = 0.1,
    patients: Tensor | None = None,
    reduction: Reduction = "mean",
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

    Raises
    ------
    ValueError
        If the shapes differ, or N < 2 (a contrast needs another patient).
    """
    logits, target = _logits(first, second, temperature=temperature, patients=patients)
    terms = functional.cross_entropy(logits, target, reduction="none")
    if reduction == "none":
        return terms
    return terms.mean() if reduction == "mean" else 2.0 * terms.mean()


def nt_xent_accuracy(first: Tensor, second: Tensor, *, patients: Tensor | None = None) -> Tensor:
    """Return the share of the 2N rows whose nearest other row is the patient's own second ECG."""
    logits, target = _logits(first, second, temperature=1.0, patients=patients)
    return (logits.argmax(dim=1) == target).float().mean()


def _logits(
    first: Tensor, second: Tensor, *, temperature: float, patients: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return (2N, 2N) similarities / T with -inf where a row may not stand in the sum, and the (2N,) targets."""
    if first.shape != second.shape or first.dim() != 2:
        raise ValueError(
            f"expected two (N, D) tensors of one shape, found {tuple(first.shape)}, {tuple(second.shape)}"
        )
    n = len(first)
    if n < 2:
        raise ValueError("NT-Xent needs at least 2 patients in a batch; use a larger data.batch_size")
    z = functional.normalize(torch.cat([first, second]), dim=1)
    rows = torch.arange(2 * n, device=z.device)
    target = (rows + n) % (2 * n)
    excluded = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    if patients is not None:
        both = torch.cat([patients, patients])
        excluded = excluded | (both[:, None] == both[None, :])
        excluded[rows, target] = False
    return (z @ z.T / temperature).masked_fill(excluded, -torch.inf), target
