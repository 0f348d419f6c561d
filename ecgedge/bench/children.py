"""Fresh processes, timed from their start to their first line.

All of them share a cache of compiled modules that is empty at first, and the first child of a kind only fills it:
whether `.pyc` files lie beside the sources (or PYTHONDONTWRITEBYTECODE forbids them) changes a cold start
severalfold, and says nothing about the bundle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ecgedge.errors import EngineError


@dataclass(frozen=True)
class FirstLine:
    """Seconds until a child's first line, and the JSON that stood on it."""

    seconds: float
    said: dict[str, Any]


class Children:
    """Starts children that share one cache of compiled modules; a context manager that removes it."""

    def __init__(self) -> None:
        self._cache = tempfile.TemporaryDirectory(prefix="ecgedge-bench-")
        self._warm: set[tuple[str, ...]] = set()

    def first_line(self, command: Sequence[str], *, kind: Sequence[str] = ()) -> FirstLine:
        """Run `python *command` and time its first line; the first of a `kind` is run twice.

        Raises
        ------
        EngineError
            If the child fails; with its last words.
        """
        if tuple(kind) not in self._warm:
            self._run(command)
            self._warm.add(tuple(kind))
        return self._run(command)

    def _run(self, command: Sequence[str]) -> FirstLine:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        # One thread: what a bed has. Modules are found as in this process, wherever it was started.
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment["PYTHONPYCACHEPREFIX"] = self._cache.name
        environment["PYTHONPATH"] = os.pathsep.join([_HOME, environment.get("PYTHONPATH", "")])
        began = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as child:
            line = next(iter(child.stdout or ()), "")
            took_s = time.perf_counter() - began
            _, complaint = child.communicate()
        if child.returncode != 0 or not line:
            last = complaint.strip().splitlines()[-1:] or ["no reason given"]
            raise EngineError(f"{' '.join(command)} ended with code {child.returncode}: {last[0]}")
        return FirstLine(took_s, json.loads(line))

    def close(self) -> None:
        """Remove the cache."""
        self._cache.cleanup()

    def __enter__(self) -> Children:
        """Return the starter itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the cache."""
        self.close()


_HOME = str(Path(__file__).resolve().parents[2])
