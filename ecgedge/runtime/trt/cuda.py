"""CUDA memory, streams and graphs through `cuda-bindings`: a device has no torch.

cuda-bindings 12.9 is the last for Python 3.10 (JetPack 6, CUDA 12.6; the 12.x runtime is compatible within its
major version), 13 serves JetPack 7. Both have aarch64 wheels and hold the CUDA runtime themselves; only the driver
must be there. Every call returns (status, *values): `Cuda` turns a status into an `EngineError`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError, missing_extra

EXTRA, PACKAGE = "tensorrt", "cuda-bindings"


@dataclass(frozen=True)
class Gpu:
    """The first GPU of this machine: product name, "SM87" for compute capability 8.7, newest CUDA of its driver."""

    name: str
    compute_capability: str
    driver: str


class Cuda:
    """The calls of the CUDA runtime that a runner needs, checked.

    Raises
    ------
    UsageError
        If cuda-bindings is not installed.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise missing_extra(extra=EXTRA, package=PACKAGE, purpose="running on an NVIDIA GPU") from error
        self.runtime: Any = runtime

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return its value, a tuple if it has several.

        Raises
        ------
        EngineError
            If the status is not success; the message names the function and the status.
        """
        status, *values = getattr(self.runtime, function)(*arguments)
        if status != self.runtime.cudaError_t.cudaSuccess:
            raise EngineError(
                f"{function} failed: {status.name} ({int(status)}); check the GPU with nvidia-smi"
            )
        return values[0] if len(values) == 1 else tuple(values)

    def gpu(self) -> Gpu:
        """Return the first GPU.

        Raises
        ------
        EngineError
            If there is no GPU or no driver; the message holds CUDA's reason.
        """
        facts = self.call("cudaGetDeviceProperties", 0)
        version = int(self.call("cudaDriverGetVersion"))
        return Gpu(
            name=facts.name.decode(errors="replace").strip("\0 "),
            compute_capability=f"SM{facts.major}{facts.minor}",
            driver=f"CUDA {version // 1000}.{version % 1000 // 10}",
        )

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> PinnedArray:
        """Return a page-locked host array, which the GPU copies from and to without a detour."""
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        address = int(self.call("cudaMallocHost", size))
        return PinnedArray(np.ndarray(shape, dtype, buffer=memory_at(address, size)), address)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """Record what `work` puts onto `stream` and return it as an executable graph.

        Thread-local capture: another thread's allocation (another bed's runner that opens) must not break it.
        """
        modes = self.runtime.cudaStreamCaptureMode
        self.call("cudaStreamBeginCapture", stream, modes.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:
            graph = self.call("cudaStreamEndCapture", stream)
        executable = self.call("cudaGraphInstantiate", graph, 0)
        self.call("cudaGraphDestroy", graph)
        return executable


def memory_at(address: int, size: int) -> memoryview:
    """Return `size` bytes of this process's memory as a writable buffer."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


@dataclass(frozen=True)
class PinnedArray:
    """A numpy view of page-locked memory, and the address to free it by."""

    values: NDArray[Any]
    address: int
