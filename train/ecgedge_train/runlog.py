"""What a run tells: metrics.jsonl, environment.json, and on standard error a bar or lines."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ecgedge.progress import on_terminal
from ecgedge_train.checkpoint import write_text

Report = Callable[[int, int, float], None]
"""Called after every step with (steps done, steps in all, loss)."""


@dataclass(frozen=True)
class Telling:
    """What is told of a run as it goes on: each step, and lines about what it has come to."""

    step: Report
    line: Callable[[str], None] = lambda _text: None

    def look(self, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Tell the figures of a look at the tune split."""
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.line(f"step {done} of {total}: tune {told}")


PACKAGES = ("ecgedge", "torch", "numpy", "scipy", "safetensors", "pyarrow")


class MetricsLog:
    """Appends one JSON object a line; not-finite figures become null. Without a path it writes nothing.

    Lines after `keep_until_step` are dropped on opening: the steps of a killed run that come after its last
    checkpoint are done again.
    """

    def __init__(self, path: Path | None, *, keep_until_step: int) -> None:
        self._file = None
        if path is None:
            return
        kept = []
        if path.is_file():
            kept = [
                x for x in path.read_text(encoding="utf-8").splitlines() if _step_of(x) <= keep_until_step
            ]
        write_text(path, "".join(f"{x}\n" for x in kept))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        """Append a line of a kind ("train", "tune")."""
        if self._file is None:
            return
        clean = {k: (v if math.isfinite(v) else None) for k, v in figures.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **clean}) + "\n")
        self._file.flush()


def _step_of(line: str) -> float:
    """Return the step of a line; a torn last line belongs to no kept step."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return math.inf


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions, machine and threads: what decides speed and, beyond the recipe, the bits."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def git_commit() -> str | None:
    """Return the commit of the checkout this file is tracked in, or None (installed from a wheel)."""
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__)
    tracked = _run(git, "-C", str(here.parent), "ls-files", "--error-unmatch", here.name)
    return _run(git, "-C", str(here.parent), "rev-parse", "HEAD") if tracked else None


def _run(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def telling(report: Report | None, title: str) -> Iterator[Telling]:
    """Yield `report` alone; without one a bar if standard error is a terminal, and lines there in any case."""
    if report is not None:
        yield Telling(report)
        return
    if not on_terminal():
        # A log file, which a bar would fill; a line a look shows that the run lives, and how it does.
        yield Telling(
            lambda _done, _total, _loss: None,
            lambda text: _write_line(f"{title}: {text}"),
        )
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, loss=math.nan)
        yield Telling(
            lambda done, total, loss: bar.update(task, completed=done, total=total, loss=loss),
            lambda text: bar.console.print(f"{title}: {text}", markup=False, highlight=False),
        )


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
