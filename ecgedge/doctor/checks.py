"""One function a question about a machine: facts in, what was seen and what to do out; nothing is read here.

A check "fail"s where the bed cannot serve or cannot keep its journal, and "warn"s where it serves, but slower or with
something an operator should know. What is merely absent and not needed is "ok" and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ecgedge.doctor.facts import Facts

State = Literal["ok", "warn", "fail"]

MIN_PYTHON: Final = (3, 10)
LOW_MEMORY_MB: Final = 256
SOME_MEMORY_MB: Final = 1024
LOW_DISK_MB: Final = 100
SOME_DISK_MB: Final = 2048
SLOW_SYNC_MS: Final = 50.0
"""An alarm is on the disk before any screen hears of it, so this much later it would be seen."""

_JETPACK: Final = {
    "36.3": "JetPack 6.0",
    "36.4": "JetPack 6.1 or 6.2",
    "38.2": "JetPack 7.0",
    "38.4": "JetPack 7.1",
    "39.2": "JetPack 7.2",
}
_STEADY_CLOCKS: Final = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")


@dataclass(frozen=True)
class Check:
    """One answer: `seen` in one line, and in another what to do about it, where something is to be done."""

    name: str
    state: State
    seen: str
    advice: str | None = None


def check_machine(facts: Facts) -> tuple[Check, ...]:
    """Return every check of a machine, in the order in which an operator would ask."""
    checks = [check(facts) for check in _CHECKS]
    if is_jetson(facts):
        checks[1:1] = [check(facts) for check in _JETSON_CHECKS]
    return tuple(checks)


def is_jetson(facts: Facts) -> bool:
    """Say whether this is an NVIDIA Jetson."""
    return "/etc/nv_tegra_release" in facts.files or "Jetson" in facts.files.get(
        "/proc/device-tree/model", ""
    )


def check_versions(facts: Facts) -> Check:
    """Check Python, ecgedge, numpy and scipy."""
    packages = [f"{name} {facts.packages.get(name, 'missing')}" for name in ("ecgedge", "numpy", "scipy")]
    seen = f"Python {facts.python}, {', '.join(packages)}, {facts.machine}"
    if tuple(int(part) for part in facts.python.split(".")[:2]) < MIN_PYTHON:
        return Check("versions", "fail", seen, "install Python 3.10 or newer")
    if "missing" in seen:
        return Check("versions", "fail", seen, "install ecgedge again: pip install --force-reinstall ecgedge")
    return Check("versions", "ok", seen)


def check_onnxruntime(facts: Facts) -> Check:
    """Check the engine that every bundle can be served with."""
    version = facts.packages.get("onnxruntime")
    if not facts.providers:
        seen = "not installed" if version is None else f"{version} is installed, but does not import"
        return Check("ONNX Runtime", "fail", seen, "pip install 'ecgedge[ort]'; without it no bundle serves")
    seen = f"{version or 'another build'}, providers {', '.join(facts.providers)}"
    if "CPUExecutionProvider" not in facts.providers:
        return Check("ONNX Runtime", "fail", seen, "install the plain build: pip install onnxruntime")
    return Check("ONNX Runtime", "ok", seen)


def check_openvino(facts: Facts) -> Check:
    """Check the engine for Intel and AMD CPUs."""
    version = facts.packages.get("openvino")
    if version is not None:
        return Check("OpenVINO", "ok", version)
    return Check("OpenVINO", "ok", "not installed, and not needed: ONNX Runtime serves")


def check_tensorrt(facts: Facts) -> Check:
    """Check TensorRT of a Jetson, or TensorRT-RTX of a workstation."""
    found = [
        f"{n} {facts.packages[n]}" for n in ("tensorrt", "tensorrt-rtx-cu13-bindings") if n in facts.packages
    ]
    if found:
        return Check("TensorRT", "ok", ", ".join(found))
    if not is_jetson(facts):
        return Check("TensorRT", "ok", "not installed, and not needed: ONNX Runtime serves")
    trtexec = facts.commands.get("trtexec")
    if trtexec is not None and trtexec.status == 0:
        return Check(
            "TensorRT",
            "warn",
            "trtexec is there, but this Python does not see the module tensorrt",
            "make the environment with --system-site-packages, with the Python that JetPack came with",
        )
    return Check(
        "TensorRT",
        "warn",
        "not installed; ONNX Runtime serves on the CPU",
        "sudo apt-get install nvidia-jetpack (or tensorrt), then: ecgedge bundle build",
    )


def check_gpu(facts: Facts) -> Check:
    """Check the NVIDIA GPU and its driver."""
    output = facts.commands.get("nvidia-smi")
    if output is None:
        if is_jetson(facts):
            return Check("GPU", "ok", "integrated (no nvidia-smi on this JetPack)")
        return Check("GPU", "ok", "no NVIDIA driver here: models run on the CPU")
    if output.status != 0:
        return Check(
            "GPU",
            "warn",
            _first_line(output.text) or f"nvidia-smi ended with status {output.status}",
            "install the driver that fits the running kernel, restart, and look at: dmesg | grep -i nvrm",
        )
    return Check("GPU", "ok", "; ".join(line.strip() for line in output.text.splitlines() if line.strip()))


def check_cpu(facts: Facts) -> Check:
    """Check the cores, and the instructions that decide how fast INT8 is and whether it is right."""
    flags = _cpu_flags(facts.files.get("/proc/cpuinfo", ""))
    cores = f"{facts.cores} core{'s' if facts.cores != 1 else ''}"
    if not flags:
        return Check("CPU", "ok", f"{cores}; its instructions are not shown here")
    if facts.machine in ("aarch64", "arm64"):
        return _arm_cpu(cores, flags)
    known = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8")
    seen = f"{cores}, {', '.join(name for name in known if name in flags) or 'none of ' + ', '.join(known)}"
    if "avx2" not in flags:
        return Check("CPU", "warn", seen, "without AVX2 every model is several times slower; use a newer CPU")
    if not {"avx_vnni", "avx512_vnni"} & flags:
        return Check(
            "CPU",
            "warn",
            f"{seen}: 8-bit products may saturate",
            "nothing to do: the self-test refuses an INT8 variant that comes out wrong here, and fp32 serves",
        )
    return Check("CPU", "ok", seen)


def _arm_cpu(cores: str, flags: frozenset[str]) -> Check:
    known = ("asimd", "asimddp", "i8mm", "asimdhp")
    seen = f"{cores}, {', '.join(name for name in known if name in flags) or 'none of ' + ', '.join(known)}"
    if "asimddp" not in flags:
        return Check("CPU", "warn", seen, "without the dot product (asimddp) INT8 gains little; prefer fp32")
    return Check("CPU", "ok", seen)


def check_governor(facts: Facts) -> Check:
    """Check how the cores are clocked: a core that first has to speed up answers late."""
    governor = facts.files.get("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor is None:
        return Check("CPU clock", "ok", "not set from here (a virtual machine, a container, or fixed)")
    low, high = (
        facts.files.get(f"/sys/devices/system/cpu/cpu0/cpufreq/scaling_{end}_freq") for end in ("min", "max")
    )
    seen = f"governor {governor}"
    if low and high and low.isdigit() and high.isdigit():
        seen += f", {int(low) // 1000} to {int(high) // 1000} MHz"
    if governor == "performance" or (low is not None and low == high):
        return Check("CPU clock", "ok", seen)
    advice = "sudo jetson_clocks" if is_jetson(facts) else "sudo cpupower frequency-set -g performance"
    return Check("CPU clock", "warn", f"{seen}: late answers after idle times", advice)


def check_clocksource(facts: Facts) -> Check:
    """Check where the kernel takes the time from; the slow sources cost microseconds a look."""
    source = facts.files.get("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None or source in _STEADY_CLOCKS:
        return Check("clock source", "ok", source or "not shown here")
    return Check(
        "clock source",
        "warn",
        f"{source}: slow to read",
        "look why the kernel refused the CPU's own: dmesg | grep -i clocksource",
    )


def check_memory(facts: Facts) -> Check:
    """Check the memory that is free for models, within the limit of a container."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", facts.files.get("/proc/meminfo", ""), re.MULTILINE)
    if found is None:
        return Check("memory", "ok", "not shown here")
    free_mb = int(found.group(1)) // 1024
    limit, used = (facts.files.get(f"/sys/fs/cgroup/memory.{end}", "") for end in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        free_mb = min(free_mb, (int(limit) - int(used)) // 2**20)
    seen = f"{free_mb:,} MB free"
    if free_mb < LOW_MEMORY_MB:
        return Check(
            "memory",
            "fail",
            seen,
            f"end other programs, or give the container more; have {LOW_MEMORY_MB} MB free",
        )
    if free_mb < SOME_MEMORY_MB:
        return Check(
            "memory", "warn", seen, "enough for a small model; several lead sets or a large one may not fit"
        )
    return Check("memory", "ok", seen)


def check_disk(facts: Facts) -> Check:
    """Check the journal's place: it must be writable, and quick to keep an alarm."""
    disk = facts.disk
    if disk.error is not None or disk.sync_ms is None:
        return Check(
            "disk",
            "fail",
            f"{disk.folder}: {disk.error}",
            "give --journal-folder a folder that this user may write to",
        )
    free_mb = disk.free_bytes // 2**20
    seen = f"{disk.folder}: {free_mb:,} MB free, a line is on the disk after {disk.sync_ms:.1f} ms (median)"
    if free_mb < LOW_DISK_MB:
        return Check(
            "disk",
            "fail",
            seen,
            "make room: without it the journal breaks off, and every alarm goes unrecorded",
        )
    if free_mb < SOME_DISK_MB:
        return Check("disk", "warn", seen, "make room, or put the journal on another disk")
    if disk.sync_ms > SLOW_SYNC_MS:
        return Check("disk", "warn", seen, "put the journal on an SSD or NVMe: each alarm waits for the disk")
    return Check("disk", "ok", seen)


def check_time_sync(facts: Facts) -> Check:
    """Check that a time server holds the wall clock; journals of two machines cannot be compared otherwise."""
    for tool, read in _TIME_TOOLS.items():
        output = facts.commands.get(tool)
        answer = None if output is None or output.status != 0 else read(output.text)
        if answer is not None:
            return _time_answer(tool, synchronised=answer)
    if facts.clock_synchronised is not None:
        return _time_answer("the kernel", synchronised=facts.clock_synchronised)
    return Check("time", "warn", "nothing here says whether the clock is synchronised", _SYNC_ADVICE)


_SYNC_ADVICE: Final = (
    "sudo timedatectl set-ntp true, or chrony with the site's time server; for a container: on its host"
)


def _time_answer(source: str, *, synchronised: bool) -> Check:
    if synchronised:
        return Check("time", "ok", f"synchronised ({source})")
    return Check(
        "time", "warn", f"not synchronised ({source}): the journal's wall times may be off", _SYNC_ADVICE
    )


def _timedatectl(text: str) -> bool | None:
    found = re.search(r"^NTPSynchronized=(yes|no)$", text, re.MULTILINE)
    return None if found is None else found.group(1) == "yes"


def _chronyc(text: str) -> bool | None:
    found = re.search(r"^Leap status\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return None if found is None else found.group(1) != "Not synchronised"


def _ntpq(text: str) -> bool | None:
    return None if "leap_" not in text else "sync_unspec" not in text and "leap_alarm" not in text


_TIME_TOOLS: Final[dict[str, Callable[[str], bool | None]]] = {
    # chrony and ntpd first: timedatectl knows of its own service only where that runs.
    "chronyc": _chronyc,
    "ntpq": _ntpq,
    "timedatectl": _timedatectl,
}


def check_jetson(facts: Facts) -> Check:
    """Check which Jetson this is, and which JetPack."""
    model = facts.files.get("/proc/device-tree/model", "NVIDIA Jetson, model not shown")
    release = re.search(
        r"R(\d+) \(release\), REVISION: (\d+)\.(\d+)", facts.files.get("/etc/nv_tegra_release", "")
    )
    if release is None:
        return Check(
            "Jetson", "ok", f"{model}, L4T release not shown (in a container: mount /etc/nv_tegra_release)"
        )
    major, minor, patch = release.groups()
    jetpack = _JETPACK.get(f"{major}.{minor}", "a JetPack that this ecgedge does not know")
    seen = f"{model}, L4T {major}.{minor}.{patch} ({jetpack})"
    if int(major) < 36:
        return Check(
            "Jetson",
            "warn",
            seen,
            "update to JetPack 6.1 or newer: the target profile is for TensorRT 10.3 and up",
        )
    return Check("Jetson", "ok", seen)


def check_power_mode(facts: Facts) -> Check:
    """Check the Jetson's power mode, which caps every clock."""
    output = facts.commands.get("nvpmodel")
    found = None if output is None else re.search(r"NV Power Mode:\s*(\S+)", output.text)
    if found is None:
        return Check("power mode", "warn", "nvpmodel does not say", "sudo nvpmodel -q")
    mode = found.group(1)
    if mode.startswith("MAXN"):
        return Check("power mode", "ok", mode)
    # The number of a mode differs from board to board, so none is given.
    return Check(
        "power mode", "warn", f"{mode}: clocks are capped",
        "where supply and cooling allow it: sudo nvpmodel -p --verbose shows the modes, sudo nvpmodel -m ID takes one",
    )  # fmt: skip


def check_jetson_clocks(facts: Facts) -> Check:
    """Check whether the GPU's clock is held at its top."""
    output = facts.commands.get("jetson_clocks")
    found = (
        None
        if output is None
        else re.search(r"GPU MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)", output.text)
    )
    if found is None:
        why = "not shown" if output is None or not output.text else _first_line(output.text)
        return Check(
            "GPU clock", "warn", why, "run the doctor as root, or look with: sudo jetson_clocks --show"
        )
    low, high, now = (int(hz) // 1_000_000 for hz in found.groups())
    seen = f"{low} to {high} MHz, now {now}"
    if low == high:
        return Check("GPU clock", "ok", seen)
    return Check("GPU clock", "warn", f"{seen}: late answers after idle times", "sudo jetson_clocks")


_CHECKS: Final = (
    check_versions,
    check_onnxruntime,
    check_openvino,
    check_tensorrt,
    check_gpu,
    check_cpu,
    check_governor,
    check_clocksource,
    check_memory,
    check_disk,
    check_time_sync,
)
_JETSON_CHECKS: Final = (check_jetson, check_power_mode, check_jetson_clocks)


def _cpu_flags(cpuinfo: str) -> frozenset[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
