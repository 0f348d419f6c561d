"""Random lead masking: one network serves every lead set.

Published RLM (Oh et al., CHIL 2022, PMLR 174): each of 12 leads is zeroed independently with probability 0.5. That
never shows the network a device's lead set, may zero everything (2^-12), and hides nothing when it zeroes III while
I and II stay, since III = II - I. So ours draws real lead sets among Bernoulli ones, keeps at least one lead, and
derives the dependent limb leads from I and II wherever both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ecgedge.leads import STANDARD_LEADS, derivation_matrix, parse_lead_set, presence_vector

N_LEADS = len(STANDARD_LEADS)
ROW_I, ROW_II = 0, 1
DEPENDENT = slice(2, 6)
"""Rows of III, aVR, aVL, aVF."""


def bernoulli_lead_mask(batch: int, *, generator: torch.Generator, keep_probability: float = 0.5) -> Tensor:
    """Return the published mask, (B, 12) bool, True where a lead is kept; all 12 may be False."""
    return torch.rand(batch, N_LEADS, generator=generator) < keep_probability


def draw_lead_sets(
    batch: int,
    *,
    generator: torch.Generator,
    lead_sets: Sequence[str],
    full_probability: float = 0.3,
    device_probability: float = 0.5,
    keep_probability: float = 0.5,
) -> Tensor:
    """Draw which leads are measured, row by row.

    With `full_probability` all 12, with `device_probability` one of `lead_sets` (each equally likely), otherwise
    each lead with `keep_probability` and at least one.

    Returns
    -------
    Tensor
        (B, 12) bool on the CPU, the same for the same generator state.
    """
    kind = torch.rand(batch, generator=generator)
    pick = torch.randint(max(len(lead_sets), 1), (batch,), generator=generator)
    rescue = torch.randint(N_LEADS, (batch,), generator=generator)
    kept = bernoulli_lead_mask(batch, generator=generator, keep_probability=keep_probability)
    empty = ~kept.any(dim=1)
    kept[empty, rescue[empty]] = True
    if lead_sets:
        device = (kind >= full_probability) & (kind < full_probability + device_probability)
        kept[device] = lead_set_rows(tuple(lead_sets))[pick[device]]
    kept[kind < full_probability] = True
    return kept


@lru_cache(maxsize=32)
def lead_set_rows(lead_sets: tuple[str, ...]) -> Tensor:
    """Return (n_sets, 12) bool: the measured leads of each set, for example ("12", "I,II,V1")."""
    rows = [[lead in parse_lead_set(name) for lead in STANDARD_LEADS] for name in lead_sets]
    return torch.tensor(rows, dtype=torch.bool)


def apply_lead_mask(ecg_mv: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Zero what is not measured, derive what follows from I and II.

    Parameters
    ----------
    ecg_mv
        (B, 12, T).
    kept
        (B, 12) bool, the measured leads.

    Returns
    -------
    tuple of Tensor
        (B, 12, T) model input and (B, 12) presence in the dtype of `ecg_mv`: row by row what
        `ecgedge.leads.derivation_matrix` and `presence_vector` give for that lead set.
    """
    kept = kept.to(ecg_mv.device)
    masked = ecg_mv * kept[:, :, None]
    presence = kept.clone()
    both = (kept[:, ROW_I] & kept[:, ROW_II])[:, None]
    fill = both & ~kept[:, DEPENDENT]
    if bool(fill.any()):
        derived = torch.einsum("dl,blt->bdt", _dependent_rows().to(ecg_mv), ecg_mv[:, : ROW_II + 1])
        masked[:, DEPENDENT] += derived * fill[:, :, None]
        presence[:, DEPENDENT] |= fill
    return masked, presence.to(ecg_mv.dtype)


def fixed_lead_set(ecg_mv: Tensor, lead_set: str) -> tuple[Tensor, Tensor]:
    """Apply one named lead set to a whole batch, as evaluation does."""
    kept = lead_set_rows((lead_set,)).expand(len(ecg_mv), N_LEADS)
    return apply_lead_mask(ecg_mv, kept)


@lru_cache(maxsize=1)
def _dependent_rows() -> Tensor:
    return torch.from_numpy(derivation_matrix(("I", "II"))[DEPENDENT])


def presence_of(lead_set: str) -> Tensor:
    """Return the (12,) presence vector of a named lead set."""
    return torch.from_numpy(presence_vector(parse_lead_set(lead_set)))
