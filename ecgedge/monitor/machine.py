"""How this process and its machine do, from /proc and the system's own calls; None where the system does not say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecgedge.wallclock import ClockWatch


class Machine:
    """Reads what a health strip shows.

    Parameters
    ----------
    folder
        Of its disk the free space is told: where journals are written.
    clock
        Says whether the wall clock is synchronised.
    """

    def __init__(self, folder: Path, clock: ClockWatch | None = None) -> None:
        self._folder, self._clock = folder, clock or ClockWatch()
        self._last = (time.monotonic(), time.process_time())

    def read(self) -> dict[str, Any]:
        """Return it as plain JSON types; 100 `cpu_percent` is one core, since the last call."""
        return {
            "cpu_percent": self._cpu_percent(),
            "memory_mb": _known(_memory_mb),
            "disk_free_gb": _known(self._disk_free_gb),
            "clock_synchronised": self._clock.look(time.monotonic()),
        }

    def _cpu_percent(self) -> float | None:
        (then_s, used_s), now = self._last, (time.monotonic(), time.process_time())
        self._last = now
        passed_s = now[0] - then_s
        return round(100.0 * (now[1] - used_s) / passed_s, 1) if passed_s > 0.0 else None

    def _disk_free_gb(self) -> float:
        disk = os.statvfs(self._folder)
        return round(disk.f_bavail * disk.f_frsize / 1e9, 2)


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _known(read: Callable[[], float]) -> float | None:
    try:
        return read()
    except (OSError, AttributeError, ValueError, IndexError):
        return None
