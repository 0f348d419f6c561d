"""Root mean square error of a regression in units of the label's spread (Jeong et al., MLHC 2023).

Symbols: y label, mu and sd its mean and SD over the training split (mPCWP: 15.678 and 8.145 mmHg there), z what the
network says, (y - mu) / sd.

    loss = sqrt(mean of (mu + sd z - y)^2 + 1e-6)        in the unit of the label
"""

from __future__ import annotations

import torch
from torch import Tensor


def rmse_loss(
    standardised: Tensor, labels: Tensor, *, mean: float = 15.678, sd: float = 8.145, epsilon: float = 1e-6
) -> Tensor:
    """RMSE over the labels that are known.

    Parameters
    ----------
    standardised
        (B,) z.
    labels
        (B,) y, in mmHg for a pressure; NaN where unknown.
    mean, sd
        mu and sd, in the unit of the labels.
    epsilon
        Keeps the slope of the root finite at a perfect fit.

    Raises
    ------
    ValueError
        If the shapes differ (broadcasting would train on nonsense without a word) or no label is known.
    """
    if standardised.shape != labels.shape:
        raise ValueError(f"outputs are {tuple(standardised.shape)}, labels {tuple(labels.shape)}")
    known = ~torch.isnan(labels)
    if not bool(known.any()):
        raise ValueError("no record of the batch has a label")
    error = mean + sd * standardised[known] - labels[known]
    return (error.square().mean() + epsilon).sqrt()
