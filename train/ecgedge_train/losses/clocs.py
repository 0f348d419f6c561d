"""The contrastive baselines of SSL-DML (Jeong et al., MLHC 2023) as published.

SimCLR (Chen et al., ICML 2020): two views of one ECG, each with white noise of 0.1 mV; the value is `nt_xent`, T 0.1.
CMSC (Kiyasseh et al., CLOCS, ICML 2021): the views are the two halves of one ECG. With one ECG a patient the published
value is `cmsc_loss`; with several the code departs from the paper, and `clocs_loss` is what it computes. Symbols: h_i,
g_j unit vectors of first and second halves, T temperature, P the pairs (i, j) of one patient.

    S_ij = h_i . g_j / T        r_ij = -log softmax of row i at j        c_ij = -log softmax of column j at i
    loss = mean of four means: of r_ii, of c_ii, of r_ij over P with i < j, of c_ij over P with i > j

The published baselines scaled each view to [0, 1] in pretraining and saw millivolts afterwards; here every method
sees the same millivolts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def clocs_loss(first: Tensor, second: Tensor, patients: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Contrastive loss of N pairs of halves, as the published code runs it.

    Parameters
    ----------
    first, second
        (N, D) projections of the two halves; row k of both is one ECG. Not necessarily unit vectors.
    patients
        (N,) integer codes.
    temperature
        T.

    Raises
    ------
    ValueError
        If the shapes differ, or N < 2 (a contrast needs another ECG).
    """
    if first.shape != second.shape or first.dim() != 2 or patients.shape != first.shape[:1]:
        shapes = [tuple(x.shape) for x in (first, second, patients)]
        raise ValueError(f"expected (N, D), (N, D) and (N,), found {shapes}")
    if len(first) < 2:
        raise ValueError("CMSC needs at least 2 ECGs in a batch; use a larger data.batch_size")
    logits = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T / temperature
    rows, columns = -logits.log_softmax(dim=1), -logits.log_softmax(dim=0)
    same = patients[:, None] == patients
    groups = [rows.diagonal(), columns.diagonal(), rows[same.triu(1)], columns[same.tril(-1)]]
    return torch.stack([group.mean() for group in groups if len(group)]).mean()
