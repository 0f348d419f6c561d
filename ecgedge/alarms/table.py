"""Every alarm condition, and every transition of an alarm signal, in two tables.

A *condition* is a fact about patient or equipment: present ("on") or not ("off"). Its *signal* is what the
user is shown. The state model is IEEE 11073-10207's (BICEPS) signal presence On | Off | Latch | Ack.

How to edit TRANSITIONS:

- A row reads (state, input): next state. Input comes first in thought: ask what the input means in each of
  the four states, and write a row for each state in which it can happen.
- A pair without a row cannot happen: `step` raises. Never add a row to silence that error; find out how the
  engine came to give the input twice.
- Only the engine gives condition_on, condition_off, condition_off_latch and escalate, and gives the first
  and the middle two in turn. A user gives acknowledge at any time, so it has a row in every state. Time gives
  acknowledge_timeout, and only to a signal that has been acknowledged for the policy's time.
- A signal may be "off" only while its condition is absent, and "latched" only after condition_off_latch.
  tests/alarms/test_table.py holds these rules, and names every pair: change it in the same commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ecgedge.events import Kind, Priority, Signal

Input = Literal[
    "condition_on", "condition_off", "condition_off_latch", "escalate", "acknowledge", "acknowledge_timeout"
]

TRANSITIONS: Final[dict[tuple[Signal, Input], Signal]] = {
    # The condition comes; a latched signal comes back to life.
    ("off", "condition_on"): "on",
    ("latched", "condition_on"): "on",
    # The condition goes, and leaves nothing behind.
    ("on", "condition_off"): "off",
    ("acknowledged", "condition_off"): "off",
    # The condition goes, and must not pass unseen; one that was acknowledged has been seen.
    ("on", "condition_off_latch"): "latched",
    ("acknowledged", "condition_off_latch"): "off",
    # The condition grows worse: this breaks through an acknowledgement.
    ("on", "escalate"): "on",
    ("acknowledged", "escalate"): "on",
    # A user saw it, and it is still there a policy's time later.
    ("acknowledged", "acknowledge_timeout"): "on",
    # A user has seen it. Too late or twice changes nothing.
    ("on", "acknowledge"): "acknowledged",
    ("latched", "acknowledge"): "off",
    ("off", "acknowledge"): "off",
    ("acknowledged", "acknowledge"): "acknowledged",
}

COME_ON: Final[frozenset[Input]] = frozenset({"condition_on", "escalate", "acknowledge_timeout"})
"""Inputs that make a signal call for attention (anew): whatever they meet, it is "on" after them."""

PRIORITIES: Final[tuple[Priority, ...]] = ("none", "low", "medium", "high")
"""From least to most urgent."""


def step(state: Signal, given: Input) -> Signal:
    """Return the signal's next state.

    Raises
    ------
    ValueError
        If `given` cannot happen in `state`: a fault of the engine, not of its user.
    """
    following = TRANSITIONS.get((state, given))
    if following is None:
        raise ValueError(f"a signal that is {state} cannot take {given}; see ecgedge/alarms/table.py")
    return following


@dataclass(frozen=True)
class Condition:
    """What never changes about a condition. `latches`: under a policy with `latching`."""

    kind: Kind
    latches: bool


# In order of rank: where two transitions are due at one instant, the earlier row goes first.
CONDITIONS: Final[dict[str, Condition]] = {
    "MPCWP_ELEVATED": Condition("physiological", latches=True),
    "FEED_LOST": Condition("technical", latches=False),
    "MODEL_FAILED": Condition("technical", latches=False),
    "NO_VARIANT": Condition("technical", latches=False),
    "LEAD_OFF": Condition("technical", latches=False),
    "FEED_STALE": Condition("technical", latches=False),
    "FEED_RATE": Condition("technical", latches=False),
    "FEED_DELAYED": Condition("technical", latches=False),
    "SATURATED": Condition("technical", latches=False),
    "FLAT": Condition("technical", latches=False),
    "GAP": Condition("technical", latches=False),
    "POOR_SIGNAL": Condition("technical", latches=False),
    "OUT_OF_ENVELOPE": Condition("technical", latches=False),
    "SIGNAL_DOUBTFUL": Condition("technical", latches=False),
    "MODEL_LATE": Condition("technical", latches=False),
    "JOURNAL_FAILED": Condition("technical", latches=False),
    "DELIVERY_FAILED": Condition("technical", latches=False),
    "CLOCK_UNSYNC": Condition("technical", latches=False),
    # Last, since it is a matter of hours.
    "MPCWP_RISING": Condition("physiological", latches=True),
}

RANKS: Final[dict[str, int]] = {name: rank for rank, name in enumerate(CONDITIONS)}
"""Place of each condition in that order."""

DELAYS: Final[dict[str, str | None]] = {
    "MODEL_FAILED": None,
    "FEED_STALE": "feed_stale_s",
    "FEED_RATE": None,
    "FEED_DELAYED": None,
    "SATURATED": "lead_fault_s",
    "FLAT": "lead_fault_s",
    "GAP": "gap_s",
    "OUT_OF_ENVELOPE": "envelope_s",
    "SIGNAL_DOUBTFUL": "doubt_s",
    "MODEL_LATE": "model_late_s",
    "JOURNAL_FAILED": None,
    "DELIVERY_FAILED": None,
    "CLOCK_UNSYNC": "clock_unsync_s",
}
"""Conditions that are a fact told by `AlarmEngine.on_fact`, and the key of the policy that says for how long it must
hold before the condition comes; None: it comes at once."""

BY_WINDOW: Final = frozenset({"SATURATED", "FLAT", "GAP", "OUT_OF_ENVELOPE", "SIGNAL_DOUBTFUL"})
"""Facts that each window tells anew: the condition comes with a window that tells so when the time is over, never by
time alone, so that one window says nothing of the time after it."""

RECOVERIES: Final[dict[str, str]] = {"MODEL_FAILED": "model_ok_s"}
"""Of them, those that do not go at once, and the key of the policy that says for how long the fact must not hold
before. Then the condition goes with the next call that says so, never by time alone."""

Fact = Literal[
    "MODEL_FAILED",
    "FEED_STALE",
    "FEED_RATE",
    "FEED_DELAYED",
    "SATURATED",
    "FLAT",
    "GAP",
    "OUT_OF_ENVELOPE",
    "SIGNAL_DOUBTFUL",
    "MODEL_LATE",
    "JOURNAL_FAILED",
    "DELIVERY_FAILED",
    "CLOCK_UNSYNC",
]
