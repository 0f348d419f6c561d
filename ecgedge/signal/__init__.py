"""From raw samples to windows: the one causal front end, the windower, and signal quality."""

from ecgedge.signal.front_end import Conditioned, FrontEnd, condition, counts_to_mv, push_together
from ecgedge.signal.gaps import MEASURED, MISSING, SETTLING
from ecgedge.signal.quality import Quality, assess
from ecgedge.signal.windows import Window, Windower

__all__ = [
    "MEASURED",
    "MISSING",
    "SETTLING",
    "Conditioned",
    "FrontEnd",
    "Quality",
    "Window",
    "Windower",
    "assess",
    "condition",
    "counts_to_mv",
    "push_together",
]
