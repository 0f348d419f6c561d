"""The policies that are compared: every combination of the swept keys that can work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from ecgedge.alarms.rules import require_fires
from ecgedge.errors import UsageError
from ecgedge.policy import AlarmPolicy

SWEPT: Final = ("onset_probability", "persistence_s", "recovery_margin_mmhg")


@dataclass(frozen=True)
class GridAxes:
    """The values of each swept key."""

    onset_probability: tuple[float, ...] = (0.6, 0.65, 0.7, 0.75, 0.8)
    persistence_s: tuple[float, ...] = (120.0, 300.0, 900.0)
    recovery_margin_mmhg: tuple[float, ...] = (1.0, 3.0)


@dataclass(frozen=True)
class LeftOut:
    """A combination that makes no policy, and why."""

    onset_probability: float
    persistence_s: float
    recovery_margin_mmhg: float
    reason: str


@dataclass(frozen=True)
class Grid:
    """Policies to compare. `reference` is the one given; it need not be on the grid."""

    reference: AlarmPolicy
    policies: tuple[AlarmPolicy, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def replayed(self) -> tuple[AlarmPolicy, ...]:
        """Those of the grid, and the reference once."""
        return self.policies if self.reference in self.policies else (*self.policies, self.reference)


def make_grid(axes: GridAxes, reference: AlarmPolicy, *, hop_s: float) -> Grid:
    """Return every combination of `axes`, the other keys being those of `reference`.

    Raises
    ------
    UsageError
        If no combination can work.
    """
    policies: list[AlarmPolicy] = []
    left_out: list[LeftOut] = []
    for values in product(*(_distinct(getattr(axes, name)) for name in SWEPT)):
        p, persistence_s, margin_mmhg = values
        try:
            policy = replace(
                reference,
                onset_probability=p,
                persistence_s=persistence_s,
                recovery_margin_mmhg=margin_mmhg,
            )
            require_fires(policy, hop_s=hop_s)
        except ValueError as error:
            left_out.append(LeftOut(p, persistence_s, margin_mmhg, str(error)))
        else:
            policies.append(policy)
    if not policies:
        raise UsageError(
            f"no policy of the grid can work: {left_out[0].reason if left_out else 'it is empty'}"
        )
    return Grid(reference, tuple(policies), tuple(left_out))


def _distinct(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(values))
