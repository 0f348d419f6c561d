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
from ecgedge.signal.raw import TENTHS
from ecgedge.signal.raw_track import MeasureRaw, RawTrack, measure_raw_together
from ecgedge.signal.stretch import COMPILED
from ecgedge.signal.windows import Window, Windower, WindowerState

__all__ = [
    "COMPILED",
    "MEASURED",
    "MISSING",
    "SETTLING",
    "TENTHS",
    "Assess",
    "Conditioned",
    "FrontEnd",
    "FrontEndState",
    "MeasureRaw",
    "Meter",
    "Quality",
    "RawTrack",
    "Reason",
    "Window",
    "Windower",
    "WindowerState",
    "assess",
    "assess_together",
    "condition",
    "counts_to_mv",
    "measure_raw_together",
    "push_together",
]
