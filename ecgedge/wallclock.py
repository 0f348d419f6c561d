"""Whether a time server holds this machine's wall clock, as the kernel knows it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 30.0
"""How often those who own a clock look. Twice in a policy's minute: so one second look may find that all is well."""

_TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the clock is not synchronised (STA_UNSYNC), or its hardware errs (STA_CLOCKERR)."""

ReadClock = Callable[[], bool | None]
"""Says whether the wall clock is synchronised; None where that cannot be known."""


def clock_synchronised() -> bool | None:
    """Return whether the kernel takes the wall clock for synchronised; None where it does not say.

    It believes whoever disciplines the clock: chrony, ntpd, systemd-timesyncd and phc2sys tell it.
    """
    if sys.platform != "linux":
        return None
    try:
        # struct timex, all zero: modes = 0 only reads. 512 bytes hold it on every architecture.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


class ClockWatch:
    """Reads the wall clock's state now and then, and keeps what was last known; None before that."""

    def __init__(self, read: ReadClock = clock_synchronised) -> None:
        self._read, self._next_s = read, float("-inf")
        self.synchronised: bool | None = None

    def look(self, now_s: float) -> bool | None:
        """Read it if `LOOK_S` have passed since the last time; `now_s` is of a clock that is never set."""
        if now_s >= self._next_s:
            self._next_s = now_s + LOOK_S
            found = self._read()
            self.synchronised = self.synchronised if found is None else found
        return self.synchronised
