"""The doctor: what machines printed is judged right, and the command runs on this one."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hand_made import make_bundle, make_stream_bundle

from ecgedge.bundle import EngineRecord, PackedEngine, sha256, write_engine
from ecgedge.doctor import Disk, Facts, Output, check_bundle, check_machine, gather_facts
from ecgedge.runtime.engines import engine_folder

# What a Jetson Orin NX with JetPack 6.2.1 prints, from public system reports (only cores 0 and 1 are kept).
NV_TEGRA_RELEASE = """\
# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia"""
JETSON_CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin NX Engineering Reference Developer Kit
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=1 c7=1
cpu1:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=1497600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=306000000
Active GPU TPCs: 2
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0"""
JETSON_CLOCKS_HELD = "GPU MinFreq=1020000000 MaxFreq=1020000000 CurrentFreq=1020000000"
JETSON_CLOCKS_AS_A_USER = "Error: Run this script(/usr/bin/jetson_clocks) as a root user"
ORIN_CPUINFO = """\
processor	: 0
BogoMIPS	: 62.50
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat
CPU implementer	: 0x41"""
CHRONY = """\
Reference ID    : CB00710F (foo.example.net)
Stratum         : 3
System time     : 0.000006523 seconds slow of NTP time
Leap status     : Normal"""
CHRONY_LOST = """\
Reference ID    : 00000000 ()
Stratum         : 0
System time     : 0.000000000 seconds fast of NTP time
Leap status     : Not synchronised"""
TIMEDATECTL = """\
Timezone=Etc/UTC
LocalRTC=no
CanNTP=yes
NTP=yes
NTPSynchronized=yes
TimeUSec=Thu 2026-11-26 17:28:08 UTC"""
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq"

PC = Facts(
    machine="x86_64",
    python="3.12.3",
    cores=8,
    disk=Disk("/var/lib/ecgedge", 50 * 2**30, 1.2),
    packages={"ecgedge": "0.1.0", "numpy": "2.4.6", "scipy": "1.18.1", "onnxruntime": "1.31.1"},
    providers=("CPUExecutionProvider",),
    files={
        "/proc/cpuinfo": "processor : 0\nflags\t\t: fpu sse2 avx avx2 fma avx512f avx512_vnni\n",
        "/proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable:   20000000 kB\n",
        f"{CPUFREQ}/scaling_governor": "performance",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    },
    commands={
        "nvidia-smi": Output(0, "NVIDIA RTX A4000, 550.54.15, 16376 MiB, 8.6, 210 MHz, 2100 MHz"),
        "timedatectl": Output(0, TIMEDATECTL),
    },
)
ORIN = replace(
    PC,
    machine="aarch64",
    python="3.10.12",
    cores=6,
    packages={**PC.packages, "tensorrt": "10.3.0"},
    files={
        **PC.files,
        "/proc/cpuinfo": ORIN_CPUINFO,
        "/proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        "/etc/nv_tegra_release": NV_TEGRA_RELEASE,
        f"{CPUFREQ}/scaling_governor": "schedutil",
        f"{CPUFREQ}/scaling_min_freq": "729600",
        f"{CPUFREQ}/scaling_max_freq": "1510400",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter",
    },
    commands={
        "nvidia-smi": Output(0, "Orin (nvgpu), 540.4.0, [N/A], [N/A], [N/A], [N/A]"),
        "nvpmodel": Output(0, "NV Power Mode: MAXN_SUPER\n2"),
        "jetson_clocks": Output(0, JETSON_CLOCKS),
        "timedatectl": Output(0, TIMEDATECTL),
    },
)


def _by_name(facts):
    return {check.name: check for check in check_machine(facts)}


def _state(check):
    """State, and that each problem comes with what to do, and only a problem does."""
    assert (check.advice is None) == (check.state == "ok"), check
    assert "\n" not in check.seen + (check.advice or "")
    return check.state


def test_a_good_workstation():
    checks = _by_name(PC)
    assert {name: _state(check) for name, check in checks.items()} == dict.fromkeys(checks, "ok")
    assert "RTX A4000, 550.54.15" in checks["GPU"].seen
    assert checks["CPU"].seen == "8 cores, avx2, avx512_vnni"
    assert "Jetson" not in checks


def test_an_orin_as_it_boots():
    checks = _by_name(ORIN)
    assert checks["Jetson"].seen == (
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit, L4T 36.4.4 (JetPack 6.1 or 6.2)"
    )
    assert _state(checks["Jetson"]) == _state(checks["power mode"]) == _state(checks["TensorRT"]) == "ok"
    assert checks["CPU"].seen == "6 cores, asimd, asimddp, asimdhp"
    assert _state(checks["GPU clock"]) == "warn"
    assert "306 to 624 MHz, now 306" in checks["GPU clock"].seen
    assert checks["GPU clock"].advice == checks["CPU clock"].advice == "sudo jetson_clocks"
    assert "schedutil, 729 to 1510 MHz" in checks["CPU clock"].seen
    assert [c.name for c in check_machine(ORIN)][:2] == ["versions", "Jetson"]


def _file(facts, name, text):
    return replace(facts, files={**facts.files, name: text})


def _command(facts, name, text, status=0):
    return replace(facts, commands={**facts.commands, name: Output(status, text)})


def _less(facts, place, name):
    return replace(facts, **{place: {k: v for k, v in getattr(facts, place).items() if k != name}})


CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"

# (what is different, facts, check, state, words of what was seen, words of the advice)
TABLE = [
    ("old Python", replace(PC, python="3.9.2"), "versions", "fail", "Python 3.9.2", "3.10"),
    ("no scipy", _less(PC, "packages", "scipy"), "versions", "fail", "scipy missing", "install ecgedge again"),
    ("no ORT", replace(_less(PC, "packages", "onnxruntime"), providers=()), "ONNX Runtime", "fail", "not installed",
     "ecgedge[ort]"),
    ("broken ORT", replace(PC, providers=()), "ONNX Runtime", "fail", "does not import", "ecgedge[ort]"),
    ("GPU-only ORT", replace(PC, providers=("CUDAExecutionProvider",)), "ONNX Runtime", "fail", "CUDA", "plain build"),
    ("OpenVINO", replace(PC, packages={**PC.packages, "openvino": "2026.4.1"}), "OpenVINO", "ok", "2026.4.1", ""),
    ("RTX", replace(PC, packages={**PC.packages, "tensorrt-rtx-cu13-bindings": "1.7.1.116"}), "TensorRT", "ok",
     "tensorrt-rtx-cu13-bindings 1.7.1.116", ""),
    ("no GPU", _less(PC, "commands", "nvidia-smi"), "GPU", "ok", "no NVIDIA driver here", ""),
    ("no driver", _command(PC, "nvidia-smi", NO_DRIVER, 9), "GPU", "warn", "couldn't communicate", "driver"),
    ("no AVX2", _file(PC, "/proc/cpuinfo", "flags : sse2 avx"), "CPU", "warn", "none of avx2", "newer CPU"),
    ("no VNNI", _file(PC, "/proc/cpuinfo", "flags : avx avx2"), "CPU", "warn", "may saturate", "self-test"),
    ("AVX-VNNI", _file(PC, "/proc/cpuinfo", "flags : avx avx2 avx_vnni"), "CPU", "ok", "avx2, avx_vnni", ""),
    ("no cpuinfo", _less(PC, "files", "/proc/cpuinfo"), "CPU", "ok", "not shown", ""),
    ("old ARM", _file(ORIN, "/proc/cpuinfo", "Features : fp asimd crc32"), "CPU", "warn", "asimd", "prefer fp32"),
    ("powersave", _file(PC, f"{CPUFREQ}/scaling_governor", "powersave"), "CPU clock", "warn", "powersave", "cpupower"),
    ("no cpufreq", _less(PC, "files", f"{CPUFREQ}/scaling_governor"), "CPU clock", "ok", "not set from here", ""),
    ("no numbers", _file(ORIN, f"{CPUFREQ}/scaling_min_freq", "<unsupported>"), "CPU clock", "warn", "schedutil:",
     "jetson_clocks"),
    ("held clocks", _file(ORIN, f"{CPUFREQ}/scaling_min_freq", "1510400"), "CPU clock", "ok", "1510 to 1510", ""),
    ("hpet", _file(PC, CLOCK, "hpet"), "clock source", "warn", "hpet", "dmesg"),
    ("little memory", _file(PC, "/proc/meminfo", "MemAvailable: 200000 kB"), "memory", "fail", "195 MB", "256 MB"),
    ("some memory", _file(PC, "/proc/meminfo", "MemAvailable: 700000 kB"), "memory", "warn", "683 MB", "may not fit"),
    ("small container", replace(PC, files={**PC.files, "/sys/fs/cgroup/memory.max": str(512 * 2**20),
     "/sys/fs/cgroup/memory.current": str(300 * 2**20)}), "memory", "fail", "212 MB", "container"),
    ("no limit", replace(PC, files={**PC.files, "/sys/fs/cgroup/memory.max": "max",
     "/sys/fs/cgroup/memory.current": "1"}), "memory", "ok", "19,531 MB", ""),
    ("not writable", replace(PC, disk=Disk("/x", 2**40, None, "Permission denied")), "disk", "fail",
     "Permission denied", "may write"),
    ("full", replace(PC, disk=Disk("/x", 2**20, 1.0)), "disk", "fail", "1 MB free", "make room"),
    ("filling", replace(PC, disk=Disk("/x", 2**30, 1.0)), "disk", "warn", "1,024 MB free", "make room"),
    ("SD card", replace(PC, disk=Disk("/x", 2**40, 180.0)), "disk", "warn", "after 180.0 ms", "NVMe"),
    ("chrony", _command(PC, "chronyc", CHRONY), "time", "ok", "chronyc", ""),
    ("chrony lost", _command(PC, "chronyc", CHRONY_LOST), "time", "warn", "not synchronised (chronyc)", "time server"),
    ("chronyd is off", _command(PC, "chronyc", "506 Cannot talk to daemon", 1), "time", "ok", "timedatectl", ""),
    ("ntpd", _command(PC, "ntpq", "associd=0 status=0615 leap_none, sync_ntp, 1 event"), "time", "ok", "ntpq", ""),
    ("ntpd lost", _command(PC, "ntpq", "associd=0 status=c016 leap_alarm, sync_unspec, 1 event"), "time", "warn",
     "not synchronised (ntpq)", "time server"),
    ("no NTP", _command(PC, "timedatectl", TIMEDATECTL.replace("d=yes", "d=no")), "time", "warn",
     "not synchronised (timedatectl)", "set-ntp"),
    ("kernel only", replace(_less(PC, "commands", "timedatectl"), clock_synchronised=True), "time", "ok", "kernel", ""),
    ("kernel says no", replace(_less(PC, "commands", "timedatectl"), clock_synchronised=False), "time", "warn",
     "not synchronised (the kernel)", "host"),
    ("nobody knows", _less(PC, "commands", "timedatectl"), "time", "warn", "nothing here says", "chrony"),
    ("15 W", _command(ORIN, "nvpmodel", "NV Power Mode: 15W\n0"), "power mode", "warn", "15W", "nvpmodel -m"),
    ("no nvpmodel", _less(ORIN, "commands", "nvpmodel"), "power mode", "warn", "does not say", "nvpmodel -q"),
    ("GPU held", _command(ORIN, "jetson_clocks", JETSON_CLOCKS_HELD), "GPU clock", "ok", "1020 to 1020", ""),
    ("no root", _command(ORIN, "jetson_clocks", JETSON_CLOCKS_AS_A_USER, 1), "GPU clock", "warn", "root user", "root"),
    ("JetPack 5", _file(ORIN, "/etc/nv_tegra_release", "# R35 (release), REVISION: 3.1, GCID: 32827747"), "Jetson",
     "warn", "L4T 35.3.1", "JetPack 6.1"),
    ("JetPack 7.2", _file(ORIN, "/etc/nv_tegra_release", "# R39 (release), REVISION: 2.0, GCID: 45755727"), "Jetson",
     "ok", "L4T 39.2.0 (JetPack 7.2)", ""),
    ("a later L4T", _file(ORIN, "/etc/nv_tegra_release", "# R40 (release), REVISION: 1.0, GCID: 1"), "Jetson", "ok",
     "does not know", ""),
    ("Jetson container", _less(ORIN, "files", "/etc/nv_tegra_release"), "Jetson", "ok",
     "mount /etc/nv_tegra_release", ""),
    ("JetPack 5 has no nvidia-smi", _less(ORIN, "commands", "nvidia-smi"), "GPU", "ok", "integrated", ""),
    ("environment without JetPack's Python", _command(_less(ORIN, "packages", "tensorrt"), "trtexec", ""), "TensorRT",
     "warn", "does not see the module", "--system-site-packages"),
    ("no TensorRT", _command(_less(ORIN, "packages", "tensorrt"), "trtexec", "", 1), "TensorRT", "warn",
     "not installed", "nvidia-jetpack"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "name", "state", "seen", "advice"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_finding(facts, name, state, seen, advice):
    check = _by_name(facts)[name]
    assert _state(check) == state
    assert seen in check.seen
    assert advice in (check.advice or "")


def test_this_machine_is_seen(tmp_path):
    facts = gather_facts(tmp_path)
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert "CPUExecutionProvider" in facts.providers
    assert facts.disk.error is None
    assert 0.0 < facts.disk.sync_ms < 60_000.0
    assert list(tmp_path.iterdir()) == []
    system = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert facts.machine == system
    # nproc heeds OMP_NUM_THREADS as well.
    nproc = subprocess.run(
        ["env", "-u", "OMP_NUM_THREADS", "nproc"], capture_output=True, text=True, check=True
    )
    assert facts.cores == int(nproc.stdout)


@pytest.mark.parametrize("folder", ["none", "file"])
def test_a_place_that_takes_no_journal(tmp_path, folder):
    (tmp_path / "file").write_text("x")
    facts = gather_facts(tmp_path / folder)
    (disk,) = [check for check in check_machine(facts) if check.name == "disk"]
    assert disk.state == "fail"


def test_the_command(cli):
    done = cli("doctor")
    assert done.stdout.startswith("ecgedge ")
    assert "Research use only" in done.stdout
    assert "self-test: passed here: 12/fp32" in done.stdout
    *lines, verdict = done.stdout.splitlines()[1:]
    assert verdict.startswith("this machine is fit to serve")
    for line in lines:
        assert line.split()[0] in ("ok", "warn", "->")
    report = json.loads(cli("doctor", "--json").stdout)
    assert report["ok"]
    assert {check["name"] for check in report["checks"]} >= {"versions", "GPU", "disk", "time", "self-test"}


def test_the_command_fails_where_the_machine_does(cli):
    done = cli("doctor", "--journal-folder", "none", "--json", exits=1)
    assert not json.loads(done.stdout)["ok"]
    assert "not fit to serve: disk" in done.stderr
    done = cli("doctor", "--bundle", "none.ecgb", exits=1)
    assert "fail  bundle: none.ecgb: no bundle" in done.stdout
    without = cli.without(["onnxruntime", "openvino"], "doctor", exits=1)
    assert "fail  ONNX Runtime" in without.stdout
    assert "fail  self-test: no variant passed here" in without.stdout


@pytest.mark.parametrize("window", [True, False], ids=["both forms", "streaming form alone"])
def test_a_streaming_form_is_tested_as_one(cli, tmp_path, window):
    make_stream_bundle(tmp_path / "s.ecgb", window=window)
    checks = check_bundle(str(tmp_path / "s.ecgb"))
    assert [(c.name, c.state) for c in checks] == [("bundle", "ok"), ("self-test", "ok")]
    assert "I,II/fp32/stream" in checks[1].seen
    assert "I,II/fp32/stream" in cli("bundle", "verify", "s.ecgb").stdout


def test_an_engine_that_does_not_serve_here_is_said(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb")
    record = EngineRecord("model.engine", sha256(b"x"), variant.file, bundle.manifest.files[variant.file], "tensorrt",
                          "10.3.0", "Orin", "built elsewhere")  # fmt: skip
    write_engine(tmp_path / "b.ecgb", engine_folder(variant), PackedEngine(record, b"x"))
    checks = check_bundle(str(tmp_path / "b.ecgb"))
    assert [(c.name, c.state) for c in checks] == [("bundle", "ok"), ("engine", "warn"), ("self-test", "ok")]
    assert checks[1].seen.startswith("the engine of I,II/fp32 does not serve: ")
    assert "ecgedge bundle build" in checks[1].advice


def test_the_embedded_bundle():
    assert [(c.name, c.state) for c in check_bundle("embedded")] == [("bundle", "ok"), ("self-test", "ok")]
