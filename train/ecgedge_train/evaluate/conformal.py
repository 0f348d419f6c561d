"""Mondrian conformal intervals: one half width a subgroup, so that each subgroup is covered, not only their mixture.

Vovk, Gammerman and Shafer 2005, section 4.5. Within a subgroup a patient's records share one weight, as in
ecgedge_train.calibrate. The bundle carries the pooled half width; these say what it costs whom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.calibrate import conformal_halfwidth
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.common import MIN_GROUP_PATIENTS, group_names


@dataclass(frozen=True)
class GroupCoverage:
    """Coverage on the test split of one subgroup, by the pooled half width and by its own (None: too few patients)."""

    lead_set: str
    group: str
    tune_patients: int
    pooled_halfwidth: float
    pooled: Estimate
    own_halfwidth: float | None
    own: Estimate | None


def mondrian_halfwidths(
    absolute_errors: NDArray[Any], patients: NDArray[Any], groups: NDArray[Any], *, coverage: float
) -> dict[str, float]:
    """Return a half width by group; infinite where a group has too few patients for `coverage`."""
    return {
        str(group): conformal_halfwidth(
            absolute_errors[groups == group], patients[groups == group], coverage=coverage
        )
        for group in np.unique(groups.astype(str))
    }


@dataclass(frozen=True)
class AbsoluteErrors:
    """|predicted - measured| (n,), whose record, and labels by factor ("sex", "age" ...), of one split."""

    absolute: NDArray[np.float64]
    patients: NDArray[Any]
    groups: Mapping[str, NDArray[Any]]


def group_coverage(
    lead_set: str,
    *,
    tune: AbsoluteErrors,
    test: AbsoluteErrors,
    pooled_halfwidth: float,
    coverage: float,
    resamples: int = 1000,
) -> tuple[GroupCoverage, ...]:
    """Fit a half width for each subgroup on the tune split and score it, and the pooled one, on the test split."""
    found = []
    for factor, labels in test.groups.items():
        own = mondrian_halfwidths(tune.absolute, tune.patients, tune.groups[factor], coverage=coverage)
        for group in group_names(labels):
            mask = labels == group
            if len(np.unique(test.patients[mask])) < MIN_GROUP_PATIENTS:
                continue
            half = own.get(group, math.inf)
            found.append(
                GroupCoverage(
                    lead_set,
                    group,
                    len(np.unique(tune.patients[tune.groups[factor] == group])),
                    pooled_halfwidth,
                    _covered(test, mask, pooled_halfwidth, resamples),
                    half if math.isfinite(half) else None,
                    _covered(test, mask, half, resamples) if math.isfinite(half) else None,
                )
            )
    return tuple(found)


def _covered(errors: AbsoluteErrors, mask: NDArray[np.bool_], half: float, resamples: int) -> Estimate:
    interval = np.broadcast_to([0.0, half], (int(mask.sum()), 2))
    return patient_bootstrap(
        metrics.coverage, errors.absolute[mask], interval, errors.patients[mask], resamples=resamples
    )
