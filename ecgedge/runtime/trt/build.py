"""An engine out of an ONNX file, built in a child process with a time limit.

The native library has been seen to crash, and a builder on a small device may run for long.
Any warning of the parser or the builder fails the build: the parser is known to accept a file with a warning and then
compute something else (uint8 imported as int8). A TensorRT-RTX engine is the same, bit by bit, each time it is built
on the same installation (see `fixed_addresses`); TensorRT chooses kernels by timing them and gives no such promise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ecgedge.errors import EngineError
from ecgedge.runtime.trt.api import RuntimeName
from ecgedge.runtime.trt.report import LayerReport
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge.target import BatchProfile

MODEL_FILE, ENGINE_FILE, REPORT_FILE = "model.onnx", "model.engine", "report.json"
JOB_FILE, CACHE_FILE = "job.json", "timing.cache"
DEFAULT_TIMEOUT_S = 300.0
_WORKER = "ecgedge.runtime.trt.worker"


@dataclass(frozen=True)
class BuildJob:
    """What the child process is told. `compute_capabilities` is for TensorRT-RTX, such as ("SM86", "SM89")."""

    runtime: RuntimeName
    compute_capabilities: tuple[str, ...]
    batch: BatchProfile


@dataclass(frozen=True)
class BuildReport:
    """What the child process says; `messages` holds every warning and error, and must be empty."""

    runtime: RuntimeName
    runtime_version: str
    messages: tuple[str, ...]
    layers: LayerReport | None


@dataclass(frozen=True)
class Built:
    """An engine, what is known of it, and TensorRT's timing cache (empty for TensorRT-RTX)."""

    engine: bytes
    report: BuildReport
    timing_cache: bytes

    @property
    def report_json(self) -> bytes:
        """The report as the file that stands beside the engine."""
        return (json.dumps(to_plain(self.report), indent=1) + "\n").encode()


def build_engine(
    onnx_bytes: bytes,
    job: BuildJob,
    *,
    name: str,
    timing_cache: bytes = b"",
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Built:
    """Build an engine.

    Parameters
    ----------
    onnx_bytes
        A float file, or an INT8 one of the "rtx" flavour; every input has a free batch as its first axis.
    job
        For which TensorRT and which GPUs.
    name
        Of the file, for messages.
    timing_cache
        From an earlier build on this GPU with this TensorRT.
    timeout_s
        After which the child process is stopped.

    Raises
    ------
    EngineError
        On any warning or error, with its text; on a crash or a time-out.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / MODEL_FILE).write_bytes(onnx_bytes)
        (place / JOB_FILE).write_text(json.dumps(to_plain(job)), "utf-8")
        if timing_cache:
            (place / CACHE_FILE).write_bytes(timing_cache)
        _run_worker(place, name=name, timeout_s=timeout_s, fixed=job.runtime == "tensorrt_rtx")
        report = _read_report(place / REPORT_FILE, name=name)
        engine = _optional(place / ENGINE_FILE)
        if report.messages or not engine:
            raise EngineError(
                f"{report.runtime} {report.runtime_version} does not take {name} without complaint: "
                f"{'; '.join(report.messages) or 'no engine came out'}. INT8 files must be of the rtx flavour"
            )
        return Built(engine, report, _optional(place / CACHE_FILE))


_KEPT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


def _environment() -> dict[str, str]:
    """Return the child's environment: what it needs, and nothing that changes from build to build.

    A variable more or a longer one (a test's name, a job's number) moves the stack, hash seed and bytecode caches move
    the heap; and with the addresses go the builder's internal names.
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("CUDA")}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def _run_worker(place: Path, *, name: str, timeout_s: float, fixed: bool) -> None:
    """Run the child; `fixed` makes its addresses the same each time, at the price of one core."""
    arguments = ["-m", _WORKER, str(place)]
    if fixed and sys.platform == "linux":
        arguments.insert(0, str(Path(__file__).with_name("fixed_addresses.py")))
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, *arguments],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"building an engine out of {name} took more than {timeout_s:g} s and was stopped; "
            "give it more time (--timeout-s), or serve with ONNX Runtime"
        ) from error
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        raise EngineError(
            f"the engine builder ended with code {done.returncode} on {name}: {tail or 'no message'}"
        )


def _read_report(path: Path, *, name: str) -> BuildReport:
    try:
        return read_report(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"the engine builder left no report on {name}: {error}") from error


def read_report(data: bytes) -> BuildReport:
    """Read a report file.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        return from_plain(BuildReport, json.loads(data))
    except SchemaError as error:
        raise ValueError(str(error)) from error


def _optional(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
