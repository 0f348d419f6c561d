"""An arm64 Debian folder with Python in it, and running that Python here (qemu-user and proot, no privileges).

The packages come through apt with a state folder of its own, so that the machine's list of architectures and
its installed packages stay as they are; they are unpacked, not installed: no package script runs. That takes
seconds where debootstrap takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("qemu-aarch64-static", "proot", "apt-get", "dpkg-deb")
_PACKAGES = ("python3", "libstdc++6")

# The processor that is emulated: of qemu 7.2's, the one closest to the Cortex-A78AE of a Jetson Orin.
_QEMU_CPU = "cortex-a76"
# What the kernel of an Orin says of a core (part 0xd42 is the A78AE; only what qemu's A76 can do is listed).
# ONNX Runtime chooses its kernels by this text, and without it takes those of the oldest ARMv8.
_CPUINFO = """processor\t: {core}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""


def missing_tools() -> list[str]:
    """Return the programs that are absent here."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@dataclass(frozen=True)
class Arm64:
    """The folder, and the version of the Python in it."""

    root: Path
    python: str

    def run(self, *arguments: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
        """Run that Python in `folder`, which must lie in the root, with `path` as PYTHONPATH inside."""
        inside = f"/{folder.relative_to(self.root)}"
        options = ["-q", "qemu-aarch64-static", "-r", str(self.root), "-w", inside]
        command = ["proot", *options, "/usr/bin/python3", *arguments]
        environment = {
            # proot's system call filter and qemu do not go together.
            "PROOT_NO_SECCOMP": "1",
            "QEMU_CPU": _QEMU_CPU,
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/tmp",  # noqa: S108 - inside the root
            "LANG": "C.UTF-8",
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
        # From the folder's outer path: proot 5.1 does not know the system call faccessat2, behind os.access,
        # and hands its paths on as they are. Relative ones are then right all the same.
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )


def make_arm64(cache: Path) -> Arm64:
    """Return the arm64 folder below `cache`, made if it is not there yet.

    Raises
    ------
    RuntimeError
        If apt has no arm64 packages here, or the emulated Python does not answer.
    """
    root = cache / "root"
    whole = cache / "root.whole"
    if not whole.exists():
        shutil.rmtree(root, ignore_errors=True)
        packages = _download(cache / "apt")
        _unpack(packages, root)
    answer = Arm64(root, "").run(
        "-c",
        "import platform; print(*platform.uname()[4:5], platform.python_version())",
        folder=root / "tmp",
        path="",
    )
    machine, _, python = answer.stdout.strip().partition(" ")
    if answer.returncode != 0 or machine != "aarch64":
        raise RuntimeError(f"the emulated Python does not run: {answer.stdout}{answer.stderr}")
    whole.touch()
    return Arm64(root, python)


def _download(folder: Path) -> list[Path]:
    """Download the packages and all that they depend on, as if nothing were installed."""
    for name in ("state", "lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": folder / "state",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
    }
    options = ["-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    _run(["apt-get", *options, "update"])
    _run(["apt-get", *options, "install", "-y", "--download-only", "--no-install-recommends", *_PACKAGES])
    return sorted((folder / "archives").glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        # From Debian 13 on packages hold /usr/lib alone and rely on these links; older ones replace them.
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(root)])
    for name in ("tmp", "opt", "proc", "sys/devices/system/cpu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    (root / "proc" / "cpuinfo").write_text("".join(_CPUINFO.format(core=core) for core in range(cores)))
    for name in ("possible", "present"):
        (root / "sys/devices/system/cpu" / name).write_text(f"0-{cores - 1}\n")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:1])} failed:\n{done.stdout}{done.stderr}")
