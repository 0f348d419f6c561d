"""A small policy whose times can be reckoned by hand, and short ways to write windows."""

from collections.abc import Iterable
from dataclasses import replace

from ecgedge.alarms import DELAYS, AlarmEngine
from ecgedge.events import Alarm, Estimate
from ecgedge.policy import AlarmPolicy

HOP_S = 5.0
# Onset: 5 windows due in 25 s; at least 2.5, so 3, valid; of 3, 4, 5 valid ones 3 (2.4), 4 (3.2), 4 (4.0) exceed.
# Recovery: 8 windows due in 40 s; at least 4 valid.
SMALL = AlarmPolicy(
    persistence_s=25.0,
    recovery_window_s=40.0,
    medium_after_s=100.0,
    lead_off_s=2.0,
    poor_signal_s=30.0,
)
ELEVATED = "MPCWP_ELEVATED"
AT_ONCE = [name for name, key in DELAYS.items() if key is None]
LONG = replace(SMALL, medium_after_s=1000.0, poor_signal_s=600.0)


def window(
    t_s: float,
    *,
    p: float | None = 0.1,
    mpcwp: float | None = 12.0,
    half: float = 6.0,
    validity: str = "valid",
    variant: str | None = "I,II/fp32",
    leads: tuple[str, ...] = ("I", "II"),
) -> Estimate:
    if validity == "invalid":
        p = mpcwp = None
    interval = None if mpcwp is None else (mpcwp - half, mpcwp + half)
    return Estimate(t_s, mpcwp, interval, p, p, validity, None, 0.9, leads, variant)


# One letter a window, as the examples write them.
WINDOWS = {
    ".": {},  # low: p 0.1, 12 mmHg
    "H": {"p": 0.9, "mpcwp": 22.0},  # high by probability; lower bound 16
    "B": {"p": 0.7, "mpcwp": 24.5},  # high by lower bound 18.5
    "e": {"p": 0.7, "mpcwp": 24.0},  # lower bound 18.0 is not above 18; p is under 0.8
    "M": {"p": 0.95, "mpcwp": 31.0},  # lower bound 25
    "m": {"p": 0.45, "mpcwp": 15.0},  # under neither recovery limit in pressure, under it in p
    "n": {"p": 0.5, "mpcwp": 14.0},  # the other way round
    "x": {"validity": "invalid"},
    "?": {"p": 0.1, "mpcwp": 12.0, "validity": "questionable"},
    "q": {"p": 0.95, "mpcwp": 31.0, "validity": "questionable"},
    "-": None,  # no window at all
}


def windows(letters: str, *, first_s: float = HOP_S) -> list[Estimate]:
    """One window each hop, the first ending at `first_s`; blanks are ignored."""
    slots = enumerate(letters.replace(" ", ""))
    return [window(first_s + i * HOP_S, **WINDOWS[c]) for i, c in slots if WINDOWS[c] is not None]


def engine(policy: AlarmPolicy = SMALL) -> AlarmEngine:
    """An engine whose stream starts at 0 s."""
    made = AlarmEngine(policy, hop_s=HOP_S)
    assert made.on_feed(0.0, connected=True) == []
    return made


def play(target: AlarmEngine, estimates: Iterable[Estimate]) -> list[Alarm]:
    return [alarm for e in estimates for alarm in target.on_estimate(e)]


def brief(alarms: Iterable[Alarm], *, condition: str | None = None) -> list[tuple]:
    """(t_s, priority, presence, signal) of each, with the condition in front where all are wanted."""
    alarms = [a for a in alarms if isinstance(a, Alarm)]
    if condition is None:
        return [(a.t_s, a.condition, a.priority, a.presence, a.signal) for a in alarms]
    return [(a.t_s, a.priority, a.presence, a.signal) for a in alarms if a.condition == condition]


def elevated(policy: AlarmPolicy = LONG, *, letter: str = "H") -> AlarmEngine:
    """An engine whose elevation came at 25 s: low for H, medium for M."""
    made = engine(policy)
    assert [a.t_s for a in play(made, windows(letter * 5))] == [25.0]
    return made
