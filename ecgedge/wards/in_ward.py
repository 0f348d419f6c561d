"""A bed of a ward as its station sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ecgedge.alarms import Reading
from ecgedge.events import Event
from ecgedge.stream import Bed, Ward


class InWard:
    """A bed as its station sees it: samples go to the inbox, and all else comes after what waits there."""

    def __init__(self, ward: Ward, name: str) -> None:
        self._ward, self._name = ward, name

    def push(self, samples_mv: NDArray[np.float32], *, t_s: float) -> list[Event]:
        """See `Bed.push`."""
        self._ward.push(self._name, samples_mv, t_s=t_s)
        return []

    def advance(self, t_s: float) -> list[Event]:
        """See `Bed.advance`."""
        return self._ward.advance(self._name, t_s)

    def feed_lost(self) -> list[Event]:
        """See `Bed.feed_lost`."""
        return self._settled(Bed.feed_lost)

    def journal(self, t_s: float, *, why: str | None) -> list[Event]:
        """See `Bed.journal`."""
        return self._settled(lambda bed: bed.journal(t_s, why=why))

    def model_late(self, t_s: float, *, why: str | None) -> list[Event]:
        """See `Bed.model_late`."""
        # Before what waits: to take all of it at once would end the lateness of this bed, and cost the others theirs.
        return self._ward[self._name].model_late(t_s, why=why)

    def clock_unsync(self, t_s: float, *, why: str | None) -> list[Event]:
        """See `Bed.clock_unsync`."""
        return self._settled(lambda bed: bed.clock_unsync(t_s, why=why))

    def feed_rate(self, t_s: float, *, why: str | None) -> list[Event]:
        """See `Bed.feed_rate`."""
        return self._settled(lambda bed: bed.feed_rate(t_s, why=why))

    def feed_delay(self, t_s: float, *, why: str | None) -> list[Event]:
        """See `Bed.feed_delay`."""
        return self._settled(lambda bed: bed.feed_delay(t_s, why=why))

    def delivery(self, t_s: float, *, why: str | None, user: str | None = None) -> list[Event]:
        """See `Bed.delivery`."""
        return self._settled(lambda bed: bed.delivery(t_s, why=why, user=user))

    def calibrate(self, t_s: float, *, reading: Reading) -> list[Event]:
        """See `Bed.calibrate`."""
        return self._settled(lambda bed: bed.calibrate(t_s, reading=reading))

    def uncalibrate(self, t_s: float, *, user: str) -> list[Event]:
        """See `Bed.uncalibrate`."""
        return self._settled(lambda bed: bed.uncalibrate(t_s, user=user))

    def acknowledge(self, t_s: float, *, condition: str, user: str) -> list[Event]:
        """See `Bed.acknowledge`."""
        return self._settled(lambda bed: bed.acknowledge(t_s, condition=condition, user=user))

    def pause_audio(self, t_s: float, *, duration_s: float, user: str) -> list[Event]:
        """See `Bed.pause_audio`."""
        return self._settled(lambda bed: bed.pause_audio(t_s, duration_s=duration_s, user=user))

    def resume_audio(self, t_s: float, *, user: str) -> list[Event]:
        """See `Bed.resume_audio`."""
        return self._settled(lambda bed: bed.resume_audio(t_s, user=user))

    def _settled(self, tell: Callable[[Bed], list[Event]]) -> list[Event]:
        return [*self._ward.settle(self._name), *tell(self._ward[self._name])]
