"""Mean pulmonary capillary wedge pressure from an ECG: two cut-offs and the pressure itself.

Cut-offs: > 15 mmHg (Schlesinger et al., JACC Advances 2022, 100003) and > 18 mmHg (CHAIS, Commun Med 2025, 5:4).
The pressure is regressed on (y - mean) / sd, as Jeong et al. (MLHC 2023) do, with mean 15.678 and sd 8.145 there.

    loss = w_bce * mean of BCE(logit_15, y > 15), BCE(logit_18, y > 18)  +  w_reg * r((y_hat - y) / sd)
    r is Huber (delta in sd units) or Gaussian with unit variance, e^2 / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

THRESHOLDS_MMHG = (15.0, 18.0)
Regression = Literal["huber", "gaussian"]


def logit_name(label: str, cut: float) -> str:
    """Return the output that tells whether a further catheter value is above a cut: logit_mpap_mmhg_gt_20."""
    return f"logit_{label}_gt_{cut:g}"


@dataclass(frozen=True)
class Hemodynamics:
    """What the hemodynamic head says, each (B,): two raw logits and the pressure in mmHg."""

    logit_gt_15: Tensor
    logit_gt_18: Tensor
    mpcwp_mmhg: Tensor


def hemodynamics_loss(
    predicted: Hemodynamics,
    mpcwp_mmhg: Tensor,
    *,
    sd_mmhg: float = 8.145,
    regression: Regression = "huber",
    huber_delta: float = 1.0,
    bce_weight: float = 1.0,
    regression_weight: float = 1.0,
) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    predicted
        Outputs of the head, each (B,).
    mpcwp_mmhg
        (B,) measured pressures; NaN where there is no label, such rows are left out.
    sd_mmhg
        Scale of the regression.
    regression, huber_delta
        Which r, and where Huber turns linear (in sd units).
    bce_weight, regression_weight
        Weights of the two parts.

    Raises
    ------
    ValueError
        If no row has a label, or the shapes differ.
    """
    if predicted.mpcwp_mmhg.shape != mpcwp_mmhg.shape:
        raise ValueError(f"outputs are {tuple(predicted.mpcwp_mmhg.shape)}, labels {tuple(mpcwp_mmhg.shape)}")
    known = ~torch.isnan(mpcwp_mmhg)
    if not bool(known.any()):
        raise ValueError("no record of the batch has an mPCWP label")
    y = mpcwp_mmhg[known]
    logits = torch.stack([predicted.logit_gt_15[known], predicted.logit_gt_18[known]])
    above = torch.stack([(y > cut).to(logits.dtype) for cut in THRESHOLDS_MMHG])
    bce = functional.binary_cross_entropy_with_logits(logits, above)
    error = (predicted.mpcwp_mmhg[known] - y) / sd_mmhg
    if regression == "huber":
        fit = functional.huber_loss(error, torch.zeros_like(error), delta=huber_delta)
    else:
        fit = 0.5 * error.square().mean()
    return bce_weight * bce + regression_weight * fit
