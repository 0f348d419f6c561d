"""The four targets of RHCnet: mPAP > 20, mPCWP > 15 mmHg, PVR > 3 Wood units, cardiac output > 4 L/min.

Schlesinger et al., JACC: Advances 2022 (1:100003). Symbols: K the targets that have a label in the batch.

    loss = 1/|K| sum over k in K of the mean BCE(logit_k, y_k > cut_k) over the rows that have y_k
    PVR = (mPAP - mPCWP) / CO, where a row has all three

How the published training weighed its four outputs, and rows that lack one, is not known; here each counts alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ecgedge_train.heads import RHCNET_TARGETS
from ecgedge_train.losses.hemodynamics import logit_name
from ecgedge_train.objectives.base import OutputArrays, Outputs, Plain, Targets, auroc
from ecgedge_train.recipe import RhcNetObjective


class RhcNetTask(Plain):
    """Whether each of four catheter values is above its published cut, over the rows where it is known."""

    scored = True
    label_names = ("mpap_mmhg", "mpcwp_mmhg", "co_l_min")

    def __init__(self, recipe: RhcNetObjective) -> None:
        self.recipe = recipe

    def loss(self, outputs: Outputs, targets: Targets, generator: torch.Generator) -> Tensor:
        """Return the mean BCE over the targets with a label; zero, with a gradient, where there is none."""
        terms = []
        for name, y, cut in _targets(targets.labels):
            known = ~torch.isnan(y)
            if bool(known.any()):
                logit = outputs[name][known]
                above = (y[known] > cut).to(logit.dtype)
                terms.append(functional.binary_cross_entropy_with_logits(logit, above))
        if not terms:
            return 0.0 * torch.stack([outputs[logit_name(*target)].sum() for target in RHCNET_TARGETS]).sum()
        return torch.stack(terms).mean()

    def scores(self, outputs: OutputArrays, labels: NDArray[np.float32]) -> dict[str, float]:
        """Return the AUROC of each target that has labels."""
        found: dict[str, float] = {}
        for name, y, cut in _targets(torch.from_numpy(labels)):
            known = ~np.isnan(y.numpy())
            if known.any():
                above = y.numpy()[known] > cut
                found[name.replace("logit", "auroc", 1)] = auroc(outputs[name][known], above)
        return found


def _targets(labels: Tensor) -> Iterator[tuple[str, Tensor, float]]:
    """Yield output, value (N,) and cut of each target, given (N, 3) labels."""
    mpap, mpcwp, output = labels.unbind(1)
    # A resistance is no measurement of its own: few cohorts have a column of it, and it needs all three.
    values = {"mpap_mmhg": mpap, "mpcwp_mmhg": mpcwp, "co_l_min": output, "pvr_wu": (mpap - mpcwp) / output}
    for label, cut in RHCNET_TARGETS:
        yield logit_name(label, cut), values[label], cut
