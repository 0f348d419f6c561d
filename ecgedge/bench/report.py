"""What a benchmark found, as plain data: the JSON of `ecgedge bench --json` has these names."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from ecgedge.bench.peak import Peak

METHOD = (
    "One thread. All variants, runtimes and bundles take turns in every round, so that a busy machine slows all "
    "alike. Latencies are pooled over the rounds; ratios are medians of the rounds' own. GFLOP/s and their share of "
    "the peak are of CPU time, which an interruption does not count in. Cold start: a "
    "new process until its first answer (import, every byte of the bundle checked, self-test), compiled Python "
    "modules at hand; memory: its resident set then, and at most. Whole bed: 12 leads or fewer at 500 Hz of a "
    "SIMULATED patient in chunks of 1 s through front end, quality, model and alarms, in CPU time."
)


@dataclass(frozen=True)
class Speed:
    """One variant on one runtime at one batch size.

    Attributes
    ----------
    beds_per_core
        Beds whose windows one core can answer in time, one window a bed each hop; the model alone.
    gflops
        Billions of operations a second of CPU time (a multiply-accumulate is two), from the manifest's MACs; None
        where the CPU does not compute.
    share_of_peak
        Of what one core reaches in a large matrix product of the same precision; None if that was not measured.
    energy_mj_per_window
        None where the platform has no counter.
    """

    batch: int
    runs: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    windows_per_s: float
    beds_per_core: float
    gflops: float | None
    share_of_peak: float | None
    energy_mj_per_window: float | None
    p50_ms_by_round: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One variant on one runtime.

    Attributes
    ----------
    whole_beds_per_core
        Beds in real time on one core with front end, quality check and alarm rules.
    rss_mb, peak_rss_mb
        Resident memory of the fresh process when it has answered, and at most; None where the system does not say.
    """

    variant: str
    runtime: str
    parameters: int
    macs: int
    file_bytes: int
    speeds: tuple[Speed, ...]
    whole_beds_per_core: float
    cold_start_s: float
    rss_mb: float | None
    peak_rss_mb: float | None
    whole_beds_by_round: tuple[float, ...]
    cold_start_s_by_round: tuple[float, ...]


@dataclass(frozen=True)
class BenchedBundle:
    """One bundle; `refused` says why a variant was not measured on a runtime."""

    source: str
    id: str
    name: str
    simulated: bool
    hop_s: float
    rows: tuple[Row, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """The second bundle's figure by the first's, same variant and runtime; below 1 the second is smaller."""

    variant: str
    runtime: str
    batch: int
    p50: float
    cold_start: float
    rss: float | None
    whole_beds_per_core: float
    file_bytes: float
    macs: float


@dataclass(frozen=True)
class Machine:
    """What a number means nothing without."""

    date: str
    processor: str
    cores: int
    system: str
    python: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """A benchmark."""

    use: str
    method: str
    machine: Machine
    peak: Peak
    energy: str
    bundles: tuple[BenchedBundle, ...]
    pairs: tuple[Pair, ...]


def this_machine() -> Machine:
    """Return date, processor and versions."""
    versions = {}
    for package in ("ecgedge", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions,
    )


def _processor() -> str:
    """Return the processor's name; an ARM kernel gives the board's in the device tree instead."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            lines = Path(path).read_text("utf-8").strip("\0\n").splitlines()
        except OSError:
            continue
        found = [line.split(":", 1)[-1].strip() for line in lines if line.startswith(key)]
        if found:
            return found[0]
    return platform.processor() or "unknown"
