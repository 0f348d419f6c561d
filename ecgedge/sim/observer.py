"""The ideal observer: what could be known of the pressure by someone who reads the correlates without error.

It bounds from above what any model can learn from simulated recordings, so a model's score on them has a
yardstick. Linear and Gaussian: prior N(15.7, 8.1^2) mmHg, each correlate linear in the pressure with a
Gaussian spread between patients. The true prior is skewed, so the posterior is an approximation; its order,
and so its AUROC, is that of the sufficient statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim.patient import (
    CORRELATE_MODELS,
    PRIOR_MEAN_MMHG,
    PRIOR_SD_MMHG,
    REFERENCE_MMHG,
    Correlates,
    Traits,
)

_P_WAVE = ("p_duration_ms", "ptf_v1_uv_ms")


@dataclass(frozen=True)
class Posterior:
    """What the observer believes: mean and SD of mPCWP in mmHg, and two exceedance probabilities."""

    mpcwp_mmhg: float
    sd_mmhg: float
    p_gt_15: float
    p_gt_18: float


def ideal_observer(
    traits: Traits, correlates: Correlates, *, leads: Sequence[str] = STANDARD_LEADS
) -> Posterior:
    """Return the posterior of mPCWP given the exact correlates.

    Parameters
    ----------
    traits
        Only the rhythm is used: in atrial fibrillation there is no P wave to read.
    correlates
        As `ecgedge.sim.patient.correlates_at` gives them.
    leads
        Leads that are seen; the posterior part of the P wave needs a lead that looks along Z (V1 to V4).
    """
    precision = PRIOR_SD_MMHG**-2
    weighted = precision * PRIOR_MEAN_MMHG
    for name in readable_correlates(traits, leads):
        model = CORRELATE_MODELS[name]
        information = (model.per_mmhg / model.total_sd) ** 2
        implied_mmhg = REFERENCE_MMHG + (getattr(correlates, name) - model.at_16) / model.per_mmhg
        precision += information
        weighted += information * implied_mmhg
    mean, sd = weighted / precision, precision**-0.5
    return Posterior(mean, sd, _exceeds(mean, sd, 15.0), _exceeds(mean, sd, 18.0))


def readable_correlates(traits: Traits, leads: Sequence[str] = STANDARD_LEADS) -> tuple[str, ...]:
    """Return the names of the correlates that can be read in a patient from a set of leads."""
    names = [name for name in CORRELATE_MODELS if traits.rhythm != "af" or name not in _P_WAVE]
    if not {"V1", "V2", "V3", "V4"} & set(leads):
        names = [name for name in names if name != "ptf_v1_uv_ms"]
    return tuple(names)


def _exceeds(mean: float, sd: float, threshold: float) -> float:
    return 0.5 * math.erfc((threshold - mean) / (sd * math.sqrt(2.0)))
