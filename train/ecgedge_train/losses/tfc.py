"""Time-frequency consistency, a baseline of SSL-DML (Zhang et al., TF-C, NeurIPS 2022, section 4).

Two encoders see an ECG, one its samples and one its spectrum. Symbols: h^T, h^F their embeddings of ECG i, z^T, z^F
the projections of both into one space, ~ the same of a perturbed view, d_i(x, y) the NT-Xent term of ECG i between
the views x and y (mean of both directions, temperature T), delta margin, lambda weight.

    L_T = mean of d_i(h^T, h~^T)        L_F = mean of d_i(h^F, h~^F)
    S_TF = d_i(z^T, z^F)        S_pair: d_i(z^T, z~^F), d_i(z~^T, z^F), d_i(z~^T, z~^F)
    L_C = mean over i of the sum over the three pairs of (S_TF - S_pair + delta)
    loss = lambda (L_T + L_F) + (1 - lambda) L_C

Time and frequency of the clean ECG are to agree better than with a perturbed view on either side. As printed delta is
a constant without a gradient, and a pair is pushed apart for ever; `hinge=True` takes max(0, .) of each bracket, the
triplet loss that the paper names as its model. Defaults T 0.2, delta 1, lambda 0.2 are those of the authors' code.
That code then trains on S_TF in place of (1 - lambda) L_C and adds a poly term to each NT-Xent; we keep to the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ecgedge_train.losses.gather import ALONE, Gather
from ecgedge_train.losses.ntxent import nt_xent


@dataclass(frozen=True)
class TimeFrequency:
    """What the two encoders make of N ECGs: h^T, h^F (N, E) and z^T, z^F (N, P)."""

    h_time: Tensor
    h_frequency: Tensor
    z_time: Tensor
    z_frequency: Tensor


def spectrum(ecg_mv: Tensor) -> Tensor:
    """Return the magnitude spectrum of (B, L, T) millivolts, (B, L, T // 2 + 1).

    Bin k is k / T of the sampling rate. The transform is unitary (a factor 1 / sqrt(T)), so the frequency encoder
    sees numbers of the same size for every window length.
    """
    magnitude: Tensor = torch.fft.rfft(ecg_mv, norm="ortho").abs()
    return magnitude


def perturbed_spectrum(
    magnitude: Tensor, *, generator: torch.Generator, share: float = 0.1, amplitude: float = 0.5
) -> Tensor:
    """Return the frequency view: some components removed, some raised.

    Parameters
    ----------
    magnitude
        (B, L, F), as `spectrum` gives.
    generator
        CPU generator of the draws.
    share
        Chance of a component to be removed, and of a remaining one to be raised.
    amplitude
        A component is raised to this part of the lead's greatest, where it is smaller.
    """
    u = torch.rand(magnitude.shape, generator=generator).to(magnitude.device)
    raised = magnitude.maximum(amplitude * magnitude.amax(dim=-1, keepdim=True))
    added = torch.where((u >= share) & (u < 2 * share), raised, magnitude)
    return torch.where(u < share, 0.0, added)


def tfc_loss(
    clean: TimeFrequency,
    view: TimeFrequency,
    *,
    temperature: float = 0.2,
    contrast_weight: float = 0.2,
    margin: float = 1.0,
    hinge: bool = False,
    patients: Tensor | None = None,
    gather: Gather = ALONE,
) -> Tensor:
    """Time contrast, frequency contrast and their consistency.

    Parameters
    ----------
    clean, view
        Of the ECGs, and of the perturbed views of the same ECGs in the same order.
    temperature, contrast_weight, margin
        T, lambda and delta.
    hinge
        Count only the pairs that break the margin.
    patients
        (N,) integer codes; ECGs of one patient are never negatives of each other.
    gather
        Brings the rows of all processes together, as in `nt_xent`.

    Raises
    ------
    ValueError
        If the shapes differ, or N < 2.
    """

    def d(x: Tensor, y: Tensor) -> Tensor:
        terms = nt_xent(x, y, temperature=temperature, patients=patients, reduction="none", gather=gather)
        return terms.reshape(2, -1).mean(dim=0)

    contrast = d(clean.h_time, view.h_time).mean() + d(clean.h_frequency, view.h_frequency).mean()
    agree = d(clean.z_time, clean.z_frequency)
    pairs = [
        d(clean.z_time, view.z_frequency),
        d(view.z_time, clean.z_frequency),
        d(view.z_time, view.z_frequency),
    ]
    gaps = torch.stack([agree - pair + margin for pair in pairs])
    consistency = (functional.relu(gaps) if hinge else gaps).sum(dim=0).mean()
    return contrast_weight * contrast + (1 - contrast_weight) * consistency
