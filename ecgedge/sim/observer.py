"""The ideal observer: what could be known of the pressure by someone who reads the correlates without error.

It bounds from above what any model can learn from simulated recordings, so a model's score on them has a
yardstick. Linear and Gaussian: prior N(15.7, 8.1^2) mmHg, each correlate linear in the pressure with a
Gaussian spread between patients. The true prior is skewed, so the posterior is an approximation; its order,
and so its AUROC, is that of the sufficient statistic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def ideal_observer(traits: Traits, correlates: Correlates) -> Posterior:
    """Return the posterior of mPCWP given the exact correlates.

    It reads every correlate, whatever leads a model sees, so it is an upper bound for each lead set; how much
    of it is left in a subset of the leads is for a model to find out (the P wave's late part leaks into all).

    Parameters
    ----------
    traits
        Only the rhythm is used: in atrial fibrillation there is no P wave to read.
    correlates
        As `ecgedge.sim.patient.correlates_at` gives them.
    """
    precision = PRIOR_SD_MMHG**-2
    weighted = precision * PRIOR_MEAN_MMHG
    for name in readable_correlates(traits):
        model = CORRELATE_MODELS[name]
        information = (model.per_mmhg / model.total_sd) ** 2
        implied_mmhg = REFERENCE_MMHG + (getattr(correlates, name) - model.at_16) / model.per_mmhg
        precision += information
        weighted += information * implied_mmhg
    mean, sd = weighted / precision, precision**-0.5
    return Posterior(mean, sd, _exceeds(mean, sd, 15.0), _exceeds(mean, sd, 18.0))


def readable_correlates(traits: Traits) -> tuple[str, ...]:
    """Return the names of the correlates that can be read in a patient."""
    return tuple(name for name in CORRELATE_MODELS if traits.rhythm != "af" or name not in _P_WAVE)


def _exceeds(mean: float, sd: float, threshold: float) -> float:
    return 0.5 * math.erfc((threshold - mean) / (sd * math.sqrt(2.0)))
