"""TensorRT-RTX engines, built without a GPU and never run here.

The builder compiles for the compute capabilities that the target profile names; the network is strongly typed, so
precision is what the ONNX file says. Any warning of the parser or the builder fails the build: the parser is known
to accept a file with a warning and then compute something else (uint8 imported as int8).
A rebuild has the same size but not the same bytes: the builder numbers its internal names in another order. So an
engine stands outside the bundle's id, under a hash of its own.
The work is done in a child process with a time limit, since the native library has been seen to crash.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecgedge.bundle import EngineRecord, sha256
from ecgedge.errors import EngineError, missing_extra
from ecgedge.schema import SchemaError, from_plain

PACKAGE = "tensorrt_rtx_bindings"
ENGINE_FILE = "model.engine"
NEVER_RUN = "built without GPU, never run here"
DEFAULT_TIMEOUT_S = 300.0
_REPORT_FILE = "report.json"
_WORKER = "ecgedge_export.engines.rtx_worker"


@dataclass(frozen=True)
class BatchProfile:
    """Smallest, best and largest batch that an engine takes."""

    smallest: int = 1
    best: int = 8
    largest: int = 64

    def __post_init__(self) -> None:
        """Refuse a profile out of order."""
        if not 1 <= self.smallest <= self.best <= self.largest:
            sizes = f"{self.smallest}/{self.best}/{self.largest}"
            raise ValueError(f"batch {sizes}: expected 1 <= smallest <= best <= largest")


@dataclass(frozen=True)
class BuildReport:
    """What the worker says; `messages` holds every warning and error, and must be empty."""

    runtime_version: str
    messages: tuple[str, ...]


@dataclass(frozen=True)
class BuiltEngine:
    """An engine and its record."""

    record: EngineRecord
    engine: bytes


def build_engine(
    onnx_bytes: bytes,
    *,
    onnx_file: str,
    compute_capabilities: Sequence[str],
    batch: BatchProfile | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> BuiltEngine:
    """Build an engine for TensorRT-RTX.

    Parameters
    ----------
    onnx_bytes
        A float file, or an INT8 one of the "rtx" flavour.
    onnx_file
        Its path inside the bundle, for the record.
    compute_capabilities
        Such as ("SM86", "SM89", "SM120").
    batch
        Batch sizes of the optimisation profile; 1/8/64 by default.
    timeout_s
        After which the child process is stopped.

    Raises
    ------
    EngineError
        On any warning or error, with its text; on a crash or a time-out.
    UsageError
        If TensorRT-RTX is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise missing_extra(extra="rtx", package=PACKAGE, purpose=f"building an engine out of {onnx_file}")
    if not compute_capabilities:
        raise EngineError(f"no compute capability is named for {onnx_file}; name some in the target profile")
    sizes = batch or BatchProfile()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model.onnx").write_bytes(onnx_bytes)
        arguments = [",".join(compute_capabilities), f"{sizes.smallest},{sizes.best},{sizes.largest}"]
        _run_worker([str(place), *arguments], onnx_file=onnx_file, timeout_s=timeout_s)
        report = _read_report(place / _REPORT_FILE, onnx_file=onnx_file)
        if report.messages or not (place / ENGINE_FILE).is_file():
            raise EngineError(
                f"TensorRT-RTX {report.runtime_version} does not take {onnx_file} without complaint: "
                f"{'; '.join(report.messages) or 'no engine came out'}. INT8 files must be of the rtx flavour"
            )
        engine = (place / ENGINE_FILE).read_bytes()
    record = EngineRecord(
        engine_file=ENGINE_FILE,
        engine_sha256=sha256(engine),
        onnx_file=onnx_file,
        onnx_sha256=sha256(onnx_bytes),
        runtime="tensorrt_rtx",
        runtime_version=report.runtime_version,
        gpu=",".join(compute_capabilities),
        note=(
            f"{NEVER_RUN}; {len(engine)} bytes; strongly typed; "
            f"batch {sizes.smallest} to {sizes.largest}, best {sizes.best}"
        ),
    )
    return BuiltEngine(record, engine)


def _run_worker(arguments: Sequence[str], *, onnx_file: str, timeout_s: float) -> None:
    command = [sys.executable, "-m", _WORKER, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"building an engine out of {onnx_file} took more than {timeout_s:g} s and was stopped; "
            "give it more time, or export without engines"
        ) from error
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        raise EngineError(
            f"the TensorRT-RTX builder ended with code {done.returncode} on {onnx_file}: {tail or 'no message'}"
        )


def _read_report(path: Path, *, onnx_file: str) -> BuildReport:
    try:
        return from_plain(BuildReport, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, SchemaError) as error:
        raise EngineError(f"the TensorRT-RTX builder left no report on {onnx_file}: {error}") from error
