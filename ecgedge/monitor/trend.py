"""The trend of a day, in memory that does not grow: one point each `STEP_MS`."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ecgedge.events import Estimate

DAY_MS: Final = 86_400_000
STEP_MS: Final = 30_000
POINTS: Final = DAY_MS // STEP_MS

_MPCWP, _LOW, _HIGH, _P18 = range(4)


class Trend:
    """Points of the last 24 h; of the estimates of a step the newest stands, one with a number before one without."""

    def __init__(self) -> None:
        self._step = np.full(POINTS, -1, dtype=np.int64)
        self._at_ms = np.zeros(POINTS)
        self._values = np.full((4, POINTS), np.nan)
        self._validity: list[str] = [""] * POINTS
        self._reason: list[str | None] = [None] * POINTS
        self._newest = -1

    def add(self, estimate: Estimate, at_ms: float) -> None:
        """Take an estimate that belongs at `at_ms` on the axis."""
        step = int(at_ms // STEP_MS)
        k = step % POINTS
        kept_has_number = self._step[k] == step and not math.isnan(self._values[_MPCWP, k])
        if step <= self._newest - POINTS or (kept_has_number and estimate.mpcwp_mmhg is None):
            return
        low, high = estimate.interval_mmhg or (math.nan, math.nan)
        self._step[k], self._at_ms[k] = step, at_ms
        self._values[:, k] = [_or_nan(estimate.mpcwp_mmhg), low, high, _or_nan(estimate.p_gt_18)]
        self._validity[k], self._reason[k] = estimate.validity, estimate.reason
        self._newest = max(self._newest, step)

    def to_plain(self) -> dict[str, list[Any]]:
        """Return the points, oldest first, as lists of plain JSON types."""
        held = np.flatnonzero(self._step > max(-1, self._newest - POINTS))
        order = held[np.argsort(self._step[held])]
        return {
            "t_ms": [round(t, 1) for t in self._at_ms[order].tolist()],
            "mpcwp_mmhg": _plain(self._values[_MPCWP, order]),
            "low": _plain(self._values[_LOW, order]),
            "high": _plain(self._values[_HIGH, order]),
            "p_gt_18": _plain(self._values[_P18, order]),
            "validity": [self._validity[k] for k in order],
            "reason": [self._reason[k] for k in order],
        }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [round(v, 4) if math.isfinite(v) else None for v in values.tolist()]
