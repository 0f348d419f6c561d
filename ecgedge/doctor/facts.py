"""What can be seen of this machine, as plain data: file texts, command outputs, versions, one disk measurement."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Final

import ecgedge
from ecgedge.wallclock import clock_synchronised

PACKAGES: Final = (
    *("numpy", "scipy", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu13-bindings", "cryptography"),
)
FILES: Final = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/device-tree/model",
    "/etc/nv_tegra_release",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.current",
)
GPU_QUERY: Final = "name,driver_version,memory.total,compute_cap,clocks.sm,clocks.max.sm"
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "nvidia-smi": ("nvidia-smi", f"--query-gpu={GPU_QUERY}", "--format=csv,noheader"),
    "nvpmodel": ("nvpmodel", "-q"),
    "jetson_clocks": ("jetson_clocks", "--show"),
    "timedatectl": ("timedatectl", "show"),
    "chronyc": ("chronyc", "-n", "tracking"),
    "ntpq": ("ntpq", "-c", "rv"),
    "trtexec": ("test", "-x", "/usr/src/tensorrt/bin/trtexec"),
}
_COMMAND_TIMEOUT_S: Final = 10.0
_SYNCS: Final = 15


@dataclass(frozen=True)
class Output:
    """What a command said, standard output and error together, and its exit status."""

    status: int
    text: str


@dataclass(frozen=True)
class Disk:
    """The folder of the journal: free space, and the median time until a line is on the disk.

    `error` says why nothing could be written there; `sync_ms` is None then.
    """

    folder: str
    free_bytes: int
    sync_ms: float | None
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """A machine, as far as it shows.

    Attributes
    ----------
    machine, python, cores
        Such as x86_64 or aarch64; version; cores that this process may use.
    packages
        Installed version by distribution name; absent ones are not in it.
    providers
        ONNX Runtime's, empty if it does not import.
    files, commands
        Text by path, of files that could be read; output by name, of commands that are there.
    clock_synchronised
        What the kernel says; None where it does not.
    """

    machine: str
    python: str
    cores: int
    disk: Disk
    packages: Mapping[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Output] = field(default_factory=dict)
    clock_synchronised: bool | None = None


def gather_facts(journal_folder: Path) -> Facts:
    """Look at this machine; commands that hang are given up after ten seconds."""
    texts = {name: _read_text(Path(name)) for name in FILES}
    outputs = {name: _run(command) for name, command in COMMANDS.items()}
    return Facts(
        machine=platform.machine(),
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        disk=_measure_disk(journal_folder),
        packages=_versions(),
        providers=_providers(),
        files={name: text for name, text in texts.items() if text is not None},
        commands={name: output for name, output in outputs.items() if output is not None},
        clock_synchronised=clock_synchronised(),
    )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return None


def _run(command: tuple[str, ...]) -> Output | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Output(done.returncode, (done.stdout + done.stderr).strip())


def _versions() -> dict[str, str]:
    found = {"ecgedge": ecgedge.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _providers() -> tuple[str, ...]:
    try:
        return tuple(import_module("onnxruntime").get_available_providers())
    except (ImportError, OSError):
        return ()


def _measure_disk(folder: Path) -> Disk:
    try:
        system = os.statvfs(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            sync_ms = statistics.median(_sync_ms(file.fileno()) for _ in range(_SYNCS))
    except OSError as error:
        return Disk(str(folder), 0, None, error.strerror or str(error))
    return Disk(str(folder), system.f_bavail * system.f_frsize, sync_ms)


def _sync_ms(fd: int) -> float:
    """Write what an alarm is in the journal, and wait until it is on the disk."""
    begun_s = time.perf_counter()
    os.write(fd, b"x" * 400 + b"\n")
    os.fsync(fd)
    return (time.perf_counter() - begun_s) * 1e3
