"""The feed's clock against the stream's: the stream never runs backwards, though a clock may be set back a day."""

from __future__ import annotations

from dataclasses import dataclass

JUMP_S = 5.0
"""Samples this late are no packets that lost their way, if more of them follow each other ..."""

SURE_S = 1.0
"""... for this long."""


@dataclass(frozen=True)
class ClockState:
    """All that a FeedClock remembers: how far stream time is ahead, and the run of late samples that is going on."""

    ahead_s: float = 0.0
    run_begin_s: float = 0.0
    run_samples: int = 0


class FeedClock:
    """Turns the feed's time into the stream's.

    They are the same until the feed's clock is set back: until, for `SURE_S`, samples have followed each other that all
    seem more than `JUMP_S` late. From there stream time goes on, as though they had come in time; the second that it
    took to be sure is a gap.
    """

    __slots__ = (
        "_rate_hz",
        "state",
    )

    def __init__(self, rate_hz: float, state: ClockState | None = None) -> None:
        self._rate_hz = rate_hz
        self.state = state or ClockState()

    def stream_s(self, feed_s: float) -> float:
        """Return the stream's time."""
        return feed_s + self.state.ahead_s

    def in_time(self) -> None:
        """Take that samples have come that are not late: whatever was late before was astray."""
        if self.state.run_samples:
            self.state = ClockState(self.state.ahead_s)

    def late(self, feed_s: float, n: int, *, due_s: float) -> int | None:
        """Take n samples that seem late; return how many of them it took to be sure of a jump, or None.

        Then the first of their run is due at `due_s` of the stream's time.
        """
        state = self.state
        next_s = state.run_begin_s + state.run_samples / self._rate_hz
        if state.run_samples == 0 or round((feed_s - next_s) * self._rate_hz) != 0:
            state = ClockState(state.ahead_s, feed_s, 0)
        if due_s - self.stream_s(state.run_begin_s) < JUMP_S + SURE_S:
            self.in_time()
            return None
        needed = round(SURE_S * self._rate_hz) - state.run_samples
        if n < needed:
            self.state = ClockState(state.ahead_s, state.run_begin_s, state.run_samples + n)
            return None
        self.state = ClockState(due_s - state.run_begin_s)
        return needed

    def put_on(self, passed_s: float) -> None:
        """Take that so much time passed without samples before the clock was set back."""
        self.state = ClockState(self.state.ahead_s + passed_s)
