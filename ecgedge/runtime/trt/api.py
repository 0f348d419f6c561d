"""The one layer over TensorRT 10, TensorRT 11 and TensorRT-RTX: which is here, and what differs between them.

TensorRT 10.3 is what JetPack 6 has; 11 comes with JetPack 7.2.2 and on a desktop. `Bindings` lists every name of the
package that ecgedge uses, typed by the published stubs (PyPI tensorrt-stubs, TensorRT 10.13): a name that a new
version drops fails the type check, without a GPU. What differs:

- Strong typing. TensorRT 10 keeps to the types of the graph only under NetworkDefinitionCreationFlag.STRONGLY_TYPED;
  in 11 every network is strongly typed and the flag is accepted and ignored (NVIDIA: "Migrating from TensorRT 10.x
  to 11.x"). Its bit is 1 in version 10, 0 in 11 and RTX, so it is always taken from the enumeration.
- BuilderFlag.FP16 and INT8 are gone in 11 and in RTX (same guide, "Removed Python APIs"). They are never set here:
  precision stands in the graph, as fp16 tensors or Q/DQ pairs.
- TF32 rounds the factors of an fp32 product to 10 bits and is on by default in all three: it is cleared.
- Timing cache: TensorRT only; a deprecated no-op in RTX (1.7.1 warns).
- Compute capabilities: RTX compiles ahead of time for the ones it is told; TensorRT builds for the GPU that is here.
- EngineInspector: needs the engine deserialized, so a GPU. RTX without one prints its plan to the verbose log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from ecgedge.errors import EngineError, UsageError

if TYPE_CHECKING:
    import tensorrt as trt

RuntimeName = Literal["tensorrt", "tensorrt_rtx"]
PACKAGES: dict[RuntimeName, tuple[str, ...]] = {
    # JetPack and NVIDIA's archives install "tensorrt"; PyPI's wheels of TensorRT-RTX hold "tensorrt_rtx_bindings".
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
HOW_TO_GET: dict[RuntimeName, str] = {
    "tensorrt": "On a Jetson it is part of JetPack: sudo apt install tensorrt python3-libnvinfer, and an environment "
    "that sees it (python3 -m venv --system-site-packages)",
    "tensorrt_rtx": "Install it with: pip install 'ecgedge[rtx]'",
}
OLDEST = (10, 3)


class Bindings(Protocol):
    """What ecgedge uses of the package; the same names in TensorRT 10, 11 and RTX."""

    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    ILogger: type[trt.ILogger]
    LayerInformationFormat: type[trt.LayerInformationFormat]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    ProfilingVerbosity: type[trt.ProfilingVerbosity]
    Runtime: type[trt.Runtime]
    TensorIOMode: type[trt.TensorIOMode]

    def nptype(self, trt_type: trt.DataType) -> Any:
        """Return numpy's type for one of TensorRT."""
        ...


if TYPE_CHECKING:

    def _the_stubs_fit() -> Bindings:
        return trt

    class CollectingLogger(trt.ILogger):
        """A logger with what it was told, (severity, text) in order; `complaints` are warnings and errors."""

        lines: list[tuple[str, str]]
        complaints: tuple[str, ...]


@dataclass(frozen=True)
class TensorRt:
    """A TensorRT that is installed here."""

    runtime: RuntimeName
    version: str
    api: Bindings

    @property
    def is_rtx(self) -> bool:
        """Whether it compiles ahead of time for named GPUs."""
        return self.runtime == "tensorrt_rtx"


def find_tensorrt(runtime: RuntimeName | None = None) -> TensorRt:
    """Import the TensorRT that is here: the one asked for, else TensorRT before TensorRT-RTX.

    Raises
    ------
    UsageError
        If none is installed, or one that is too old; the message says how to get it.
    """
    wanted: Sequence[RuntimeName] = (runtime,) if runtime else tuple(PACKAGES)
    for name in wanted:
        for package in PACKAGES[name]:
            found = _import(name, package)
            if found is not None:
                return found
    advice = ". ".join(HOW_TO_GET[name] for name in wanted)
    raise UsageError(f"no {' or '.join(wanted)} is installed for this Python. {advice}")


def _import(name: RuntimeName, package: str) -> TensorRt | None:
    try:
        module = import_module(package)
    except ImportError:
        return None
    # A folder of type stubs alone imports as an empty namespace.
    if not hasattr(module, "Builder"):
        return None
    version = str(vars(module).get("__version__", "0"))
    if name == "tensorrt" and version_tuple(version) < OLDEST:
        raise UsageError(
            f"TensorRT {version} is installed; ecgedge needs {OLDEST[0]}.{OLDEST[1]} or later (JetPack 6.1). "
            "Update JetPack, or serve with ONNX Runtime"
        )
    return TensorRt(name, version, cast("Bindings", module))


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "10.3.0.30" is (10, 3, 0, 30)."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def collecting_logger(api: Bindings) -> CollectingLogger:
    """Return a logger that keeps every message, for a builder, a parser or a runtime."""

    class Collector(api.ILogger):  # type: ignore[name-defined, misc]  # the base class is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            self.lines.append((severity.name, msg.strip()))

        @property
        def complaints(self) -> tuple[str, ...]:
            bad = ("INTERNAL_ERROR", "ERROR", "WARNING")
            return tuple(f"{severity}: {text}" for severity, text in self.lines if severity in bad)

    return cast("CollectingLogger", Collector())


def strongly_typed_network(api: Bindings, builder: trt.Builder) -> trt.INetworkDefinition:
    """Return an empty network whose tensors keep the types that the graph gives them."""
    return builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def set_compute_capabilities(here: TensorRt, config: trt.IBuilderConfig, names: Sequence[str]) -> None:
    """Tell TensorRT-RTX which GPUs to compile for; TensorRT is told nothing.

    Raises
    ------
    EngineError
        If this version knows no such GPU.
    """
    if not here.is_rtx:
        return
    # Not in the stubs: TensorRT itself has no such setting.
    known: dict[str, Any] = cast("Any", here.api).ComputeCapability.__members__
    if unknown := sorted(set(names) - set(known)):
        raise EngineError(f"{', '.join(unknown)}: TensorRT-RTX {here.version} knows {', '.join(known)}")
    rtx_config = cast("Any", config)
    rtx_config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not rtx_config.set_compute_capability(known[name], index):
            raise EngineError(f"TensorRT-RTX {here.version} refused the compute capability {name}")


def use_timing_cache(here: TensorRt, config: trt.IBuilderConfig, data: bytes) -> None:
    """Give TensorRT what it measured before; empty bytes start a cache. TensorRT-RTX measures nothing."""
    if not here.is_rtx:
        config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False)


def timing_cache(here: TensorRt, config: trt.IBuilderConfig) -> bytes:
    """Return what TensorRT has measured so far, to be kept for the next build on this GPU."""
    if here.is_rtx:
        return b""
    return bytes(config.get_timing_cache().serialize())


def dims(shape: trt.Dims) -> tuple[int, ...]:
    """Return a shape as a tuple; a free size is -1."""
    # A sequence at run time; the stubs do not say so.
    return tuple(cast("Any", shape))
