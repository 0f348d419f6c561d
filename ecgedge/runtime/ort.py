"""ONNX Runtime, one thread: on the CPU the engine that every device has; on a GPU where its build has one.

One thread a bed is the faster choice for a ward: whole windows gain nothing from batching on a CPU, so many
beds fill the cores better than one bed spread over all of them.

On a GPU nothing may change silently: no engine from a cache that another version or another model has left, no
fp16 and no TF32 (the self-test's tolerance is that of fp32), and no quiet fall back to the CPU because a CUDA
library was not found. The CPU takes only the operators that the GPU's provider does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError, UsageError, missing_extra
from ecgedge.runtime.base import INPUT_NAME, EngineRunner, ModelInput, one_line, runner_name, window_file
from ecgedge.runtime.memory import large_pages

Provider = Literal["cpu", "cuda", "tensorrt"]
_LOG_ERRORS_ONLY = 3
_CPU = "CPUExecutionProvider"
_PROVIDERS: dict[Provider, tuple[str, ...]] = {
    "cpu": (_CPU,),
    "cuda": ("CUDAExecutionProvider", _CPU),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", _CPU),
}


class OrtRunner(EngineRunner):
    """A bundle variant in ONNX Runtime; warmed up, but not yet tested (see `open_runner`).

    Parameters
    ----------
    model
        The ONNX file's bytes.
    leads
        Measured leads, in the order of the input's rows.
    precision
        One of "fp32", "fp16", "int8".
    threads
        Threads inside one operator.
    provider
        Where to run: "cpu", or "cuda" or "tensorrt" of an ONNX Runtime that was built with it.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the file, its input is not (batch, leads, 1, samples), or the provider does not
        start.
    UsageError
        If ONNX Runtime is not installed, or was built without the provider.
    """

    def __init__(
        self,
        model: bytes,
        *,
        leads: tuple[str, ...],
        precision: str,
        threads: int = 1,
        provider: Provider = "cpu",
    ) -> None:
        name = runner_name(leads, precision)
        self._session: Any = open_session(
            model, threads=threads, name=name, provider=provider, int8=precision == "int8"
        )
        super().__init__(
            leads=leads,
            precision=precision,
            inputs=[_input(i.name, i.type, i.shape) for i in self._session.get_inputs()],
            outputs=[output.name for output in self._session.get_outputs()],
        )
        self.warm_up()

    @classmethod
    def from_variant(cls, bundle: Bundle, variant: VariantSpec, *, provider: Provider = "cpu") -> OrtRunner:
        """Open one variant of a bundle."""
        model = window_file(bundle, variant)
        return cls(model, leads=variant.leads, precision=variant.precision, provider=provider)

    def _infer(self, ecg: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        values: list[NDArray[np.float32]] = self._session.run(list(self.output_names), {INPUT_NAME: ecg})
        return values

    def _release(self) -> None:
        self._session = None


def _input(name: str, kind: str, shape: Sequence[int | str | None]) -> ModelInput:
    dtype = "float32" if kind == "tensor(float)" else kind
    return ModelInput(name, dtype, tuple(size if isinstance(size, int) else None for size in shape))


def open_session(
    model: bytes, *, threads: int, name: str, provider: Provider = "cpu", int8: bool = False
) -> Any:
    """Return an ONNX Runtime session.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the file, or the provider does not start.
    UsageError
        If it is not installed, or was built without the provider.
    """
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    providers = _available(ort, provider, name=name)
    settings = [_provider_options(p, int8=int8) for p in providers]
    try:
        with large_pages(len(model)):
            session = ort.InferenceSession(model, options, providers=providers, provider_options=settings)
            # Should a provider fail in the middle of a run, the self-test was not passed by the one that would follow.
            session.disable_fallback()
            # The file's bytes were only kept for that. Beside the optimised weights they are a second copy.
            session._model_bytes = None  # noqa: SLF001 - nothing public lets go of them
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise EngineError(
            f"{name}: ONNX Runtime {ort.__version__} refuses the model: {one_line(error)}. "
            "Verify the bundle; if it is whole, update onnxruntime"
        ) from error
    # ONNX Runtime logs that a provider's libraries are missing, and goes on with the next one.
    if session.get_providers()[0] != providers[0]:
        raise EngineError(
            f"{name}: {providers[0]} did not start, {session.get_providers()[0]} would serve instead; install the "
            f"CUDA, cuDNN and TensorRT libraries that onnxruntime {ort.__version__} was built for, or choose the CPU"
        )
    return session


def _available(ort: ModuleType, provider: Provider, *, name: str) -> list[str]:
    wanted, has = _PROVIDERS[provider], ort.get_available_providers()
    if wanted[0] not in has:
        raise UsageError(
            f"{name}: the installed onnxruntime {ort.__version__} has no {wanted[0]} (it has {', '.join(has)}). "
            "Install onnxruntime-gpu in place of onnxruntime (on a Jetson, the wheel of its JetPack), or choose "
            "the runtime 'ort', which needs no GPU"
        )
    return [p for p in wanted if p in has]


def _provider_options(provider: str, *, int8: bool) -> dict[str, str]:
    if provider == "CUDAExecutionProvider":
        return {"use_tf32": "0"}
    if provider == "TensorrtExecutionProvider":
        # INT8 is in the graph (explicit QDQ); the flag only lets TensorRT follow it.
        return {
            "trt_fp16_enable": "0",
            "trt_int8_enable": "1" if int8 else "0",
            "trt_engine_cache_enable": "0",
            "trt_timing_cache_enable": "0",
        }
    return {}


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra(
            extra="ort", package="onnxruntime", purpose="running a model on ONNX Runtime"
        ) from error
    module: ModuleType = onnxruntime
    return module
