"""A policy for a stated budget of false alarms, and the patients that it is judged on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias

from ecgedge.errors import UsageError
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.score import PolicyScore
from ecgedge.schema import to_plain

BudgetBy: TypeAlias = Literal["estimate", "upper"]


@dataclass(frozen=True)
class Budget:
    """At most so many false alarms a patient-day, by the estimate or by the upper end of its interval."""

    false_alarms_per_patient_day: float
    by: BudgetBy = "estimate"

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        value = self.false_alarms_per_patient_day
        if not 0.0 <= value < math.inf:
            raise UsageError(f"--budget is {value:g}; expected false alarms per patient-day, 0 or more")

    def spent(self, scored: PolicyScore) -> float | None:
        """Return what a policy spends of it; None if that is not known."""
        found = scored.score.false_alarms_per_patient_day
        return found.value if self.by == "estimate" else found.high


def choose(scores: Iterable[PolicyScore], budget: Budget) -> PolicyScore | None:
    """Return the most sensitive policy within the budget, None if none is, or none detects anything.

    Ties go to the shorter median delay, then to fewer false alarms, then to the earlier one.
    """
    fitting = [
        (-sensitivity, delay_min, spent, number, scored)
        for number, scored in enumerate(scores)
        if (spent := budget.spent(scored)) is not None
        and spent <= budget.false_alarms_per_patient_day
        and (sensitivity := scored.score.sensitivity.value)
        and (delay_min := scored.score.delay_median_min.value) is not None
    ]
    return min(fitting, key=lambda row: row[:4])[-1] if fitting else None


def why_none(scores: Sequence[PolicyScore], budget: Budget) -> str:
    """Say why `choose` found nothing."""
    limit = f"{budget.false_alarms_per_patient_day:g} false alarms per patient-day"
    how = "" if budget.by == "estimate" else " by the upper end of the interval"
    useful = [s for s in scores if s.score.detected]
    if not useful:
        return f"no policy fits a budget of {limit}{how}: no policy of the grid detects any episode"
    spent = [value for s in useful if (value := budget.spent(s)) is not None]
    if not spent:
        return f"no policy fits a budget of {limit}{how}: there is no interval; more patients are needed"
    return (
        f"no policy fits a budget of {limit}{how}: of those that detect anything the best has {min(spent):.3g}; raise "
        "the budget, widen the grid, or replay more patients (a rate is never surer than their days allow)"
    )


def hold_out(groups: Mapping[str, str], share: float) -> frozenset[str]:
    """Return the patients kept for the report: `share` of each group, whatever the order they come in.

    Parameters
    ----------
    groups
        Each patient's group: what must stand in both parts alike.
    share
        Of each group; at least one patient of it is held out and one is not, where it has two.

    Raises
    ------
    UsageError
        If the share is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise UsageError(f"--holdout-share is {share:g}; it must lie between 0 and 1")
    held: list[str] = []
    for group in sorted(set(groups.values())):
        members = sorted((p for p, g in groups.items() if g == group), key=_shuffled)
        held += members[: min(max(1, round(share * len(members))), len(members) - 1)]
    return frozenset(held)


def _shuffled(patient: str) -> str:
    return sha256(patient.encode()).hexdigest()


def policy_toml(policy: AlarmPolicy, remarks: Iterable[str]) -> str:
    """Return a policy as a file for `--policy`, all keys written out, under remarks."""
    lines = [f"# {line}" for remark in remarks for line in remark.splitlines()]
    for key, value in to_plain(policy).items():
        lines.append(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
    return "\n".join(lines) + "\n"
