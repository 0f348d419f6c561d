"""The simulated patient: a test stimulus and a test of the line, never evidence; always mode "demo"."""

from ecgedge.sim.cohort import SimulatedLabel, simulate_patient_recordings
from ecgedge.sim.observer import Posterior, ideal_observer
from ecgedge.sim.patient import Correlates, Traits, correlates_at, draw_mpcwp_mmhg, draw_traits
from ecgedge.sim.scenario import DEFAULT_SEED, SCENARIOS, Scenario
from ecgedge.sim.simulator import Simulator

__all__ = [
    "DEFAULT_SEED",
    "SCENARIOS",
    "Correlates",
    "Posterior",
    "Scenario",
    "SimulatedLabel",
    "Simulator",
    "Traits",
    "correlates_at",
    "draw_mpcwp_mmhg",
    "draw_traits",
    "ideal_observer",
    "simulate_patient_recordings",
]
