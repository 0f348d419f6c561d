"""`make aarch64-check`: what the wheel says on aarch64 is what it says here.

The wheel and its aarch64 dependencies run in an emulated arm64 folder (`arm64_root`): bundle verify, two
streams with every kind of alarm transition, predict on recordings made on the way, and what lies below the
command line (`arm64_probe`). The same runs here. Events must be the same, numbers within the tolerance that
the bundle's self-test has for them. Speed means nothing there, and nothing is said about it.

Exit code 0 if all agree, 1 if not, 2 if a program is missing.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from arm64_compare import (
    Comparison,
    compare_measured,
    compare_rows,
    read_events,
    read_predictions,
    tolerances_of,
)
from arm64_root import Arm64, make_arm64, missing_tools
from foreign_wheels import DEVICE_EXTRAS, REPO, Target, build_wheel, install, resolve
from numpy.typing import NDArray

CACHE = REPO / ".aarch64"
_PROBE = Path(__file__).with_name("arm64_probe.py")
_AT_ONCE = 2
_POLICY = """\
# Limits close to what this patient shows within two minutes, so that alarms come, rise and go.
onset_probability = 0.25
recovery_probability = 0.25
persistence_s = 20.0
recovery_window_s = 15.0
threshold_mmhg = 15.0
recovery_margin_mmhg = 1.0
medium_after_s = 15.0
"""
_ALARMS = ("--feed", "sim:decompensating?seed=1&rate_hz=500&chunk_ms=500", "--duration", "100")
_LEADS = ("--feed", "sim:lead-off?seed=1&rate_hz=250&chunk_ms=200", "--duration", "160")

Python = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs Python with arguments on one of the machines, in that machine's work folder."""


@dataclass(frozen=True)
class Said:
    """What one machine said."""

    verified: str
    alarms: list[dict[str, Any]]
    leads: list[dict[str, Any]]
    table: list[dict[str, Any]]
    measured: dict[str, NDArray[Any]]

    @property
    def facts(self) -> dict[str, str]:
        """Processor and versions."""
        facts: dict[str, str] = json.loads(str(self.measured["facts"]))
        return facts


def ask(python: Python, work: Path) -> Said:
    """Run everything on one machine, whose work folder is `work`."""
    ecgedge = ("-m", "ecgedge")
    stream = (*ecgedge, "stream", "--speed", "max", "--format", "jsonl")
    commands = {
        "leads": (*stream, *_LEADS),
        "alarms": (*stream, *_ALARMS, "--policy", "policy.toml"),
        "predict": (
            *(*ecgedge, "predict", "embedded"),
            *("recordings/sim360.npz", "recordings/limb.npz", "--out", "table.csv"),
        ),
        "measure": ("probe.py", "measure", "recordings", "measured.npz"),
        "verify": (*ecgedge, "bundle", "verify", "embedded"),
    }
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda command: _output(python(command)), commands.values())
        printed = dict(zip(commands, answers, strict=True))
    with np.load(work / "measured.npz") as archive:
        measured = {name: archive[name] for name in archive.files}
    return Said(
        verified=printed["verify"],
        alarms=read_events(printed["alarms"]),
        leads=read_events(printed["leads"]),
        table=read_predictions(work / "table.csv"),
        measured=measured,
    )


def compare(here: Said, there: Said) -> dict[str, Comparison]:
    """Compare all that two machines said, by what was asked."""
    tolerances = tolerances_of(here.measured)
    same = () if here.verified == there.verified else (f"{here.verified!r} here, {there.verified!r} there",)
    return {
        "bundle verify": Comparison((), same),
        "stream, alarms": compare_rows(here.alarms, there.alarms, tolerances),
        "stream, leads": compare_rows(here.leads, there.leads, tolerances),
        "predict": compare_rows(here.table, there.table, tolerances),
        "self-test and front end": compare_measured(here.measured, there.measured),
    }


def run_check(cache: Path) -> tuple[Said, Said]:
    """Ask this machine and the emulated one."""
    wheel = build_wheel(cache / "wheel")
    arm64 = make_arm64(cache)
    _install(wheel, arm64)
    native, emulated = cache / "native", arm64.root / "opt" / "work"
    _unzip(wheel, native / "ecgedge")
    for work in (native / "work", emulated):
        _lay(work)

    def here(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(native / "ecgedge"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=native / "work",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def there(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return arm64.run(*arguments, folder=emulated, path="/opt/ecgedge:/opt/site")

    _output(here(("probe.py", "make", "recordings")))
    # The very same samples for both: whether the simulator draws the same is measured beside.
    shutil.copytree(native / "work" / "recordings", emulated / "recordings", dirs_exist_ok=True)
    return ask(here, native / "work"), ask(there, emulated)


def _install(wheel: Path, arm64: Arm64) -> None:
    """Unpack our wheel, and its dependencies where those there are not what pip names today."""
    target = Target(python=arm64.python, machine="aarch64")
    wanted = resolve(wheel, DEVICE_EXTRAS, target).dependencies
    site, stamp = arm64.root / "opt" / "site", arm64.root / "opt" / "site.txt"
    names = "\n".join(wheel.file for wheel in wanted)
    if not stamp.exists() or stamp.read_text() != names:
        shutil.rmtree(site, ignore_errors=True)
        stamp.unlink(missing_ok=True)
        install(wanted, target, site)
        stamp.write_text(names)
    _unzip(wheel, arm64.root / "opt" / "ecgedge")


def _unzip(wheel: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def _lay(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    (work / "recordings").mkdir(parents=True)
    (work / "policy.toml").write_text(_POLICY)
    shutil.copyfile(_PROBE, work / "probe.py")


def _output(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(done.args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def describe(here: Said, there: Said, comparisons: dict[str, Comparison]) -> Iterable[str]:
    """Say in lines what was compared, the largest difference of each number, and every complaint."""
    for said in (here, there):
        yield ", ".join(f"{name} {value}" for name, value in said.facts.items())
    events = [*here.alarms, *here.leads]
    served = {event["variant"] for event in [*events, *here.table] if event.get("variant")}
    alarms = [event for event in events if event["type"] == "alarm"]
    transitions = {f"{alarm['condition']} {alarm['priority']} {alarm['presence']}" for alarm in alarms}
    yield f"{len(events)} events, {len(here.table)} rows of the table, served by {', '.join(sorted(served))}"
    yield f"{len(alarms)} alarm transitions: {', '.join(sorted(transitions))}"
    for name, comparison in comparisons.items():
        yield f"{name}: {'DIFFERENT' if comparison.complaints else 'the same'}"
        for gap in comparison.gaps:
            yield f"  {gap.name:<44} largest difference {gap.largest:<9.3g} allowed {gap.allowed:.3g} ({gap.compared})"
        yield from (f"  ! {complaint}" for complaint in comparison.complaints)


def main() -> int:
    """Run the check and print what it found."""
    if missing := missing_tools():
        print(f"aarch64-check needs {', '.join(missing)}; `make system-deps-slow` installs them on Debian")
        return 2
    start_s = time.monotonic()
    try:
        here, there = run_check(CACHE)
    except RuntimeError as error:
        print(f"aarch64-check: {error}")
        return 1
    comparisons = compare(here, there)
    print("\n".join(describe(here, there, comparisons)))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.monotonic() - start_s:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time")
    if there.facts["machine"] != "aarch64":
        print(f"nothing was compared: the other machine is {there.facts['machine']}")
        return 1
    agree = not any(comparison.complaints for comparison in comparisons.values())
    print("aarch64-check: all agree" if agree else "aarch64-check: NOT the same")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
