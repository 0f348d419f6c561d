"""Linear resampling inside a network: `numpy.interp` over [0, 1], both ends kept.

Published encoders fix their input length by interpolating an ECG of any length onto `linspace(0, 1, n)`. Between
N and n samples that is y[i] = x at position i (N - 1) / (n - 1): a fixed linear map over time, the same for every
lead, so it may stand before or after any mixing of leads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearResample(nn.Module):
    """Bring the last axis to `n_samples` by linear interpolation.

    Parameters
    ----------
    n_samples
        Length of the output; 0 leaves every input as it is.

    Raises
    ------
    ValueError
        If `n_samples` is negative or 1: both ends cannot be kept.
    """

    def __init__(self, n_samples: int) -> None:
        super().__init__()
        if n_samples < 0 or n_samples == 1:
            raise ValueError(f"cannot resample to {n_samples} samples; give 0 (off) or at least 2")
        self.n_samples = n_samples

    def forward(self, x: Tensor) -> Tensor:
        """(..., N) to (..., n_samples), N at least 2."""
        n_in, n_out = x.shape[-1], self.n_samples
        if n_out in (0, n_in):
            return x
        # Positions as whole samples and remainders in integers: float32 positions would be off by up to 1e-4
        # samples at the end of a record, and the last one could fall beyond it.
        steps = torch.arange(n_out, device=x.device) * (n_in - 1)
        left = torch.div(steps, n_out - 1, rounding_mode="floor")
        weight = ((steps - left * (n_out - 1)).to(torch.float32) / (n_out - 1)).to(x.dtype)
        before = x.index_select(-1, left)
        after = x.index_select(-1, (left + 1).clamp_max(n_in - 1))
        return before + (after - before) * weight

    def extra_repr(self) -> str:
        """Show the length in the module's repr."""
        return f"n_samples={self.n_samples}"
