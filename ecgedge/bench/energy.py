"""Energy, where the platform has a counter for it; nothing is ever estimated.

- RAPL (x86): energy counters in microjoules that wrap around, one a processor package. Readable by root only on
  most systems since 2020 (CVE-2020-8694).
- tegrastats (Jetson): one line each interval with the power of every rail, "VDD_IN 4556mW/4500mW": now, and the
  mean since its start.

Both are of the whole package or module, everything else that runs on it included: measure on a quiet machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from threading import Thread
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
INTERVAL_MS = 50
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
"""The whole module: Orin Nano and NX, Xavier NX; Nano."""
PART_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
"""AGX Orin has no rail for the whole; its three parts are added."""


class Meter(Protocol):
    """Measures the energy between two calls."""

    @property
    def what(self) -> str:
        """What is measured, for the report."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> float | None:
        """Return the joules since `start`; None if the platform said nothing in between."""
        ...


class RaplMeter:
    """The sum of the packages' counters below `folder`."""

    what = "RAPL, processor packages"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = tuple(packages)
        self._ranges_uj = [_number(p / "max_energy_range_uj") for p in self._packages]
        self._before_uj: list[int] = []

    def start(self) -> None:
        """Begin."""
        self._before_uj = self._read()

    def stop(self) -> float | None:
        """Return the joules since `start`."""
        return rapl_joules(self._before_uj, self._read(), self._ranges_uj)

    def _read(self) -> list[int]:
        return [_number(p / "energy_uj") for p in self._packages]


class TegrastatsMeter:
    """Runs tegrastats between `start` and `stop`."""

    what = "tegrastats, module input"

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._reader = Thread()
        self._lines: list[str] = []
        self._began_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._process = subprocess.Popen(  # noqa: S603 - the system's own tool, found on PATH
            [self._program, "--interval", str(INTERVAL_MS)], stdout=subprocess.PIPE, text=True
        )
        # Read all the time: a pipe that nobody empties is soon full, and tegrastats would wait instead of measuring.
        self._lines = []
        self._reader = Thread(target=self._lines.extend, args=(self._process.stdout or (),), daemon=True)
        self._reader.start()
        self._began_s = time.perf_counter()

    def stop(self) -> float | None:
        """Return the joules since `start`: mean power by time."""
        if self._process is None:
            return None
        took_s = time.perf_counter() - self._began_s
        with self._process as process:
            process.terminate()
            self._reader.join()
        self._process = None
        powers_mw = [power for line in self._lines if (power := tegrastats_mw(line)) is not None]
        return fmean(powers_mw) * 1e-3 * took_s if powers_mw else None


def find_meter(powercap: Path = POWERCAP) -> Meter | None:
    """Return what measures energy here, or None."""
    packages = sorted(powercap.glob("intel-rapl:[0-9]*"))
    # intel-rapl:0:0 and the like are parts of a package that are counted in it.
    packages = [p for p in packages if p.name.count(":") == 1 and _readable(p / "energy_uj")]
    if packages:
        return RaplMeter(packages)
    program = shutil.which("tegrastats")
    return TegrastatsMeter(program) if program else None


def rapl_joules(before_uj: Sequence[int], after_uj: Sequence[int], ranges_uj: Sequence[int]) -> float:
    """Return the energy between two readings of counters that wrap to 0 after their range, at most once."""
    spent = [
        after - before if after >= before else after - before + highest + 1
        for before, after, highest in zip(before_uj, after_uj, ranges_uj, strict=True)
    ]
    return sum(spent) * 1e-6


def tegrastats_mw(line: str) -> float | None:
    """Return the power of the whole module on one line of tegrastats; None if it does not tell.

    JetPack 4 writes "VDD_IN 4556/4500", later ones "VDD_IN 4556mW/4500mW".
    """
    rails = {
        name: float(now)
        for name, now in re.findall(r"\b([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?(?!\S)", line)
    }
    for rail in INPUT_RAILS:
        if rail in rails:
            return rails[rail]
    if all(rail in rails for rail in PART_RAILS):
        return sum(rails[rail] for rail in PART_RAILS)
    return None


def _number(path: Path) -> int:
    return int(path.read_text("ascii"))


def _readable(path: Path) -> bool:
    try:
        _number(path)
    except (OSError, ValueError):
        return False
    return True
