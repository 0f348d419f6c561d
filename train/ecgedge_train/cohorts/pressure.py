"""Pressures and flows as files write them: units in text, decimal commas, "n/a", and what no heart can do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

MMHG_PER_CMH2O: Final = 0.73556
_MMHG_PER_UNIT: Final = {"mmhg": 1.0, "torr": 1.0, "cmh2o": MMHG_PER_CMH2O, "kpa": 7.50062}
_LITRES_PER_UNIT: Final = {"l/min": 1.0, "ml/min": 1e-3}
_QUANTITY: Final = re.compile(r"([-+]?\d+(?:[.,]\d*)?)\s*([A-Za-z][A-Za-z0-9/]*)")

PLAUSIBLE: Final[Mapping[str, tuple[float, float]]] = {
    "mpcwp_mmhg": (1.0, 60.0),
    "lvedp_mmhg": (1.0, 70.0),
    "mpap_mmhg": (4.0, 110.0),
    "co_l_min": (0.5, 20.0),
}
"""Chosen wide: outside is a line that is open to air, clamped or flushed, or a slip of the keyboard."""


def plausible(label: str, value: float) -> float:
    """Return `value`, or NaN where it lies outside `PLAUSIBLE[label]`."""
    low, high = PLAUSIBLE[label]
    return value if low <= value <= high else math.nan


def read_mmhg(text: str) -> float:
    """Read a pressure such as "11 cmH2O" or "8,5 mmHg" in mmHg; NaN if there is no single number with a unit.

    A pair ("140/80 mmHg") is no mean pressure, and a number without a unit could be either unit in use.
    """
    return _read(text, _MMHG_PER_UNIT)


def read_l_min(text: str) -> float:
    """Read a flow such as "4,34 l/min" in litres per minute; NaN if there is no single number with a unit."""
    return _read(text, _LITRES_PER_UNIT)


def _read(text: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        return math.nan
    return float(match[1].replace(",", ".")) * factor
