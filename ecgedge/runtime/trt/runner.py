"""An engine as a runner: page-locked buffers, one stream, and one CUDA graph for each batch bucket.

An engine takes batches from the profile's smallest to its largest, but every new size costs TensorRT a plan of its own.
So a batch is padded to the next of three buckets (1, 8, 64), each warmed up and captured as a graph when the runner
opens; a larger batch goes through in pieces. Each bucket has its own execution context, since a graph holds addresses
of its context; contexts may share the one optimisation profile (TensorRT 10 and later).
One stream a runner: several beds with runners of their own run side by side on the GPU.

Written against NVIDIA's documents and checked against the published stubs; it was not run on a GPU here. The
bundle's self-test stands between it and a bed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime.base import OfVariant, as_rank4, closed_on_error, require_finite
from ecgedge.runtime.trt.api import TensorRt, collecting_logger, dims
from ecgedge.runtime.trt.cuda import Cuda, PinnedArray
from ecgedge.target import BatchProfile

if TYPE_CHECKING:
    import tensorrt as trt

WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Piece:
    """Rows [start, start + count) of a batch, run in a bucket of `bucket` rows."""

    start: int
    count: int
    bucket: int


def split_batch(rows: int, buckets: tuple[int, ...]) -> tuple[Piece, ...]:
    """Return how a batch of `rows` goes through: whole largest buckets first, the rest in the smallest that holds it.

    Parameters
    ----------
    rows
        At least 1.
    buckets
        Batch sizes in increasing order.
    """
    pieces: list[Piece] = []
    start = 0
    while start < rows:
        count = min(rows - start, buckets[-1])
        pieces.append(Piece(start, count, next(size for size in buckets if size >= count)))
        start += count
    return tuple(pieces)


def padded(rows: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill `out` with `rows` and repeat the last of them: padding of zeros would be a dead lead to a network."""
    out[: len(rows)] = rows
    out[len(rows) :] = rows[-1]


@dataclass(frozen=True)
class _Tensor:
    """One input or output of the engine: its memory on both sides, for the largest bucket."""

    name: str
    host: PinnedArray
    device: int
    row_bytes: int


@dataclass(frozen=True)
class _Bucket:
    context: trt.IExecutionContext
    graph: Any


class TrtRunner(OfVariant):
    """A bundle variant in a TensorRT engine; warmed up, but not yet tested (see `ecgedge.runtime.engines`).

    Parameters
    ----------
    engine
        The serialized engine.
    variant
        The variant that it was built from.
    here
        The TensorRT that built it.
    batch
        The profile that it was built with.

    Raises
    ------
    EngineError
        If the engine does not load, its input is not (batch, leads, 1, samples), or CUDA refuses something.
    UsageError
        If cuda-bindings is not installed.
    """

    def __init__(self, engine: bytes, *, variant: VariantSpec, here: TensorRt, batch: BatchProfile) -> None:
        super().__init__(variant)
        self._cuda = Cuda()
        self._buckets: dict[int, _Bucket] = {}
        self._tensors: list[_Tensor] = []
        self._sizes = tuple(dict.fromkeys(batch.sizes))
        self._stream: Any = self._cuda.call("cudaStreamCreate")
        with closed_on_error(self):
            self._engine = self._load(engine, here)
            self._input, self._outputs = self._allocate(here)
            for size in self._sizes:
                self._buckets[size] = self._open_bucket(size)

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return int(self._input.host.values.shape[3])

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return outputs by name for (B, K, T) or (B, K, 1, T) float32 millivolts.

        Raises
        ------
        EngineError
            On input of a wrong shape or type, a closed runner, or an output that is not finite.
        """
        if not self._buckets:
            raise EngineError(f"{self.name}: the runner is closed; open the variant again")
        ecg = as_rank4(ecg_mv, name=self.name, n_leads=len(self.leads), window_samples=self.window_samples)
        parts = [self._run_piece(ecg, piece) for piece in split_batch(len(ecg), self._sizes)]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        require_finite(outputs, name=self.name)
        return outputs

    def close(self) -> None:
        """Release graphs, memory and stream; safe to call twice."""
        for bucket in self._buckets.values():
            self._cuda.call("cudaGraphExecDestroy", bucket.graph)
        self._buckets = {}
        for tensor in self._tensors:
            self._cuda.call("cudaFree", tensor.device)
            self._cuda.call("cudaFreeHost", tensor.host.address)
        self._tensors = []
        if self._stream is not None:
            self._cuda.call("cudaStreamDestroy", self._stream)
            self._stream = None

    def _load(self, engine: bytes, here: TensorRt) -> trt.ICudaEngine:
        logger = collecting_logger(here.api)
        # The runtime must live as long as its engine.
        self._runtime = here.api.Runtime(logger)
        loaded: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise EngineError(
                f"{self.name}: {here.runtime} {here.version} does not load the engine: "
                f"{'; '.join(logger.complaints) or 'no reason given'}. Build it again: ecgedge bundle build"
            )
        return loaded

    def _allocate(self, here: TensorRt) -> tuple[_Tensor, tuple[_Tensor, ...]]:
        """Allocate memory for every tensor at the largest bucket, once, and return the input and the outputs."""
        inputs: list[_Tensor] = []
        outputs: list[_Tensor] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == here.api.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(self._tensor(name, here))
        shape = inputs[0].host.values.shape if len(inputs) == 1 else ()
        if len(shape) != 4 or shape[1:3] != (len(self.leads), 1):
            seen = ", ".join(f"{tensor.name} {tensor.host.values.shape}" for tensor in inputs)
            raise EngineError(
                f"{self.name}: the engine takes {seen}; expected one input, "
                f"(batch, {len(self.leads)}, 1, samples). Build it again: ecgedge bundle build"
            )
        return inputs[0], tuple(outputs)

    def _tensor(self, name: str, here: TensorRt) -> _Tensor:
        shape = (self._sizes[-1], *dims(self._engine.get_tensor_shape(name))[1:])
        dtype = np.dtype(here.api.nptype(self._engine.get_tensor_dtype(name)))
        host = self._cuda.pinned(shape, dtype)
        device = int(self._cuda.call("cudaMalloc", max(1, host.values.nbytes)))
        tensor = _Tensor(name, host, device, host.values.nbytes // shape[0])
        self._tensors.append(tensor)
        return tensor

    def _open_bucket(self, size: int) -> _Bucket:
        context = self._engine.create_execution_context()
        context.set_input_shape(self._input.name, (size, *self._input.host.values.shape[1:]))
        for tensor in (self._input, *self._outputs):
            context.set_tensor_address(tensor.name, tensor.device)
        self._input.host.values[...] = 0.0
        # The first runs allocate and load kernels, which a capture must not see.
        for _ in range(WARM_UP_RUNS):
            self._enqueue(context, size)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return _Bucket(context, self._cuda.capture(self._stream, lambda: self._enqueue(context, size)))

    def _enqueue(self, context: trt.IExecutionContext, size: int) -> None:
        """Put copy in, inference and copies out of `size` rows onto the stream."""
        kinds = self._cuda.runtime.cudaMemcpyKind
        to_device, to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        source = self._input
        copied = size * source.row_bytes
        self._cuda.call(
            "cudaMemcpyAsync", source.device, source.host.address, copied, to_device, self._stream
        )
        if not context.execute_async_v3(int(self._stream)):
            raise EngineError(
                f"{self.name}: TensorRT could not run a batch of {size}; build the engine again"
            )
        for output in self._outputs:
            copied = size * output.row_bytes
            self._cuda.call(
                "cudaMemcpyAsync", output.host.address, output.device, copied, to_host, self._stream
            )

    def _run_piece(self, ecg: NDArray[np.float32], piece: Piece) -> dict[str, NDArray[np.float32]]:
        padded(ecg[piece.start : piece.start + piece.count], self._input.host.values[: piece.bucket])
        self._cuda.call("cudaGraphLaunch", self._buckets[piece.bucket].graph, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return {
            output.name: output.host.values[: piece.count].astype(np.float32, copy=True)
            for output in self._outputs
        }
