"""A simulated patient's samples, and short ways to pick events."""

from ecgedge.events import Estimate, SelfCheck
from ecgedge.sim import Simulator

RATE_HZ = 250.0


def ecg(seconds, *, seed=1, rate_hz=RATE_HZ, scenario="stable"):
    return Simulator(scenario, seed=seed, rate_hz=rate_hz).read(round(seconds * rate_hz))


def estimates_of(events):
    return [event for event in events if isinstance(event, Estimate)]


def of(events, kind, **fields):
    return [e for e in events if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())]


def checks_of(events):
    return [(e.t_s, e.count) for e in of(events, SelfCheck)]
