"""Which wheels another machine would install of ours, and getting them here.

A device installs wheels only: nothing is compiled on it. All of these run with glibc 2.28, which every target
has (JetPack 6, Ubuntu 22.04: 2.35; JetPack 7, Ubuntu 24.04: 2.39; Debian 12: 2.36).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
CONSTRAINTS = REPO / "constraints.txt"
DEVICE_EXTRAS = ("ort",)
"""What a device installs beside the base; the Dockerfiles' EXTRAS say the same."""
_TAGS = ("manylinux_2_17", "manylinux2014", "manylinux_2_27", "manylinux_2_28")


@dataclass(frozen=True)
class Target:
    """A machine: CPython's full version and `uname -m`."""

    python: str
    machine: str


@dataclass(frozen=True)
class Wheel:
    """One file that pip chose."""

    name: str
    version: str
    file: str

    @property
    def pin(self) -> str:
        """As a requirement."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Resolution:
    """What pip would install, our own wheel included, and the marker values that it evaluated."""

    wheels: tuple[Wheel, ...]
    environment: dict[str, str]

    @property
    def dependencies(self) -> tuple[Wheel, ...]:
        """All but our own wheel."""
        return tuple(wheel for wheel in self.wheels if wheel.name != "ecgedge")


def build_wheel(folder: Path) -> Path:
    """Build this checkout's wheel into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("ecgedge-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    (wheel,) = folder.glob("ecgedge-*.whl")
    return wheel


def resolve(
    wheel: Path, extras: Iterable[str], target: Target, *, constraints: Path = CONSTRAINTS
) -> Resolution:
    """Ask pip what it would install of `wheel` with `extras` on `target`; nothing is written.

    Raises
    ------
    RuntimeError
        If there is no set of wheels; the message is pip's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        wanted = ["--dry-run", "--ignore-installed", "--target", scratch, "--report", str(report)]
        _pip(target, "install", *wanted, "-c", str(constraints), _requirement(wheel, extras))
        return _read_report(json.loads(report.read_text()))


def download(wheel: Path, extras: Iterable[str], target: Target, folder: Path) -> list[Path]:
    """Download what `resolve` names into `folder`; return the files, our own wheel left out."""
    _pip(target, "download", "-d", str(folder), "-c", str(CONSTRAINTS), _requirement(wheel, extras))
    return [path for path in sorted(folder.iterdir()) if path.name != wheel.name]


def install(wheels: Iterable[Wheel], target: Target, folder: Path) -> None:
    """Unpack these wheels into `folder`."""
    pins = [wheel.pin for wheel in wheels]
    _pip(target, "install", "--no-deps", "--no-compile", "--target", str(folder), *pins)


def _requirement(wheel: Path, extras: Iterable[str]) -> str:
    return f"{wheel}[{','.join(extras)}]"


def _pip(target: Target, command: str, *arguments: str) -> None:
    platforms = [word for tag in _TAGS for word in ("--platform", f"{tag}_{target.machine}")]
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", target.python]
    launcher = [sys.executable, str(Path(__file__).with_name("pip_for.py")), target.python, target.machine]
    done = subprocess.run(
        [*launcher, command, *options, *platforms, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"pip {command} for Python {target.python} on {target.machine}:\n{done.stdout}{done.stderr}"
        )


def _read_report(report: dict[str, Any]) -> Resolution:
    wheels = [
        Wheel(
            name=item["metadata"]["name"].lower(),
            version=item["metadata"]["version"],
            file=item["download_info"]["url"].rsplit("/", 1)[-1],
        )
        for item in report["install"]
    ]
    return Resolution(tuple(sorted(wheels, key=lambda wheel: wheel.name)), report["environment"])
