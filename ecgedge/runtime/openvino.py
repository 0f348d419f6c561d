"""OpenVINO on the CPU, one thread: the second engine for x86, on the very ONNX file that ONNX Runtime serves.

It pays where a bundle's INT8 is the symmetric one of the engine targets, which ONNX Runtime runs slowly on x86.
PyPI has no wheel for aarch64 on the Pythons that we support, so a Jetson has ONNX Runtime or TensorRT.

Three defaults of OpenVINO are not ours:

- Its import tells Google Analytics that it was imported (openvino 2026.4, `openvino.tools.ovc`). A bedside
  program reports to nobody: that package, a model converter that no device needs, is kept from being imported.
- On a CPU with bfloat16 it computes in bfloat16 without being asked. The file's own precision is asked for.
- It pins its threads to cores. Every process would pin to the same ones, so pinning is off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError, missing_extra
from ecgedge.runtime.base import EngineRunner, ModelInput, runner_name, window_file

_REPORTS_HOME = "openvino.tools.ovc"
_SETTINGS: dict[str, Any] = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}


class OpenVinoRunner(EngineRunner):
    """A bundle variant in OpenVINO; warmed up, but not yet tested (see `open_runner`).

    Parameters
    ----------
    model, leads, precision
        As for `OrtRunner`.
    threads
        Threads inside one inference.

    Raises
    ------
    EngineError
        If OpenVINO refuses the file, or its input is not (batch, leads, 1, samples).
    UsageError
        If OpenVINO is not installed.
    """

    def __init__(self, model: bytes, *, leads: tuple[str, ...], precision: str, threads: int = 1) -> None:
        name = runner_name(leads, precision)
        openvino = _openvino()
        core = openvino.Core()
        try:
            # The compiled model renames the outputs, so the names come from the file; the order is the same.
            graph = core.read_model(model)
            compiled = core.compile_model(graph, "CPU", {**_SETTINGS, "INFERENCE_NUM_THREADS": threads})
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(
                f"{name}: OpenVINO {openvino.__version__} refuses the model: {_last_line(error)}. "
                "Verify the bundle; if it is whole, choose the runtime 'ort', or update openvino"
            ) from error
        super().__init__(
            leads=leads,
            precision=precision,
            inputs=[_input(port) for port in graph.inputs],
            outputs=[port.any_name for port in graph.outputs],
        )
        self.warm_up()

    @classmethod
    def from_variant(cls, bundle: Bundle, variant: VariantSpec) -> OpenVinoRunner:
        """Open one variant of a bundle."""
        return cls(window_file(bundle, variant), leads=variant.leads, precision=variant.precision)

    def _infer(self, ecg: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        self._request.infer([ecg], share_inputs=True)
        # Views of the request's own memory, which the next window overwrites.
        return [self._request.get_output_tensor(k).data.copy() for k in range(len(self.output_names))]

    def _release(self) -> None:
        self._request = None


def _input(port: Any) -> ModelInput:
    sizes = tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
    return ModelInput(port.any_name, str(np.dtype(port.element_type.to_dtype())), sizes)


def _last_line(error: Exception) -> str:
    """Return what OpenVINO has to say after the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _openvino() -> ModuleType:
    try:
        with _nothing_reported():
            import openvino
    except ImportError as error:
        raise missing_extra(
            extra="openvino", package="openvino", purpose="running a model on OpenVINO"
        ) from error
    module: ModuleType = openvino
    return module


@contextmanager
def _nothing_reported() -> Iterator[None]:
    """Keep the converter that reports home from being imported; OpenVINO does without it."""
    if _REPORTS_HOME in sys.modules:
        yield  # whoever imported it has decided
        return
    sys.modules[_REPORTS_HOME] = None  # type: ignore[assignment]  # None is how Python says "not to be found"
    try:
        yield
    finally:
        del sys.modules[_REPORTS_HOME]
