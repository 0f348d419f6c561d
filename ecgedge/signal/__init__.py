"""From raw samples to windows: the one causal front end, the windower, and signal quality."""

from ecgedge.signal.front_end import (
    Conditioned,
    FrontEnd,
    FrontEndState,
    condition,
    counts_to_mv,
    push_together,
)
from ecgedge.signal.gaps import MEASURED, MISSING, SETTLING
from ecgedge.signal.meter import Assess, Meter, assess_together
from ecgedge.signal.quality import Quality, Reason, assess
from ecgedge.signal.windows import Window, Windower, WindowerState

__all__ = [
    "MEASURED",
    "MISSING",
    "SETTLING",
    "Assess",
    "Conditioned",
    "FrontEnd",
    "FrontEndState",
    "Meter",
    "Quality",
    "Reason",
    "Window",
    "Windower",
    "WindowerState",
    "assess",
    "assess_together",
    "condition",
    "counts_to_mv",
    "push_together",
]
