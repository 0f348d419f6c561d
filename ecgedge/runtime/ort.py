"""ONNX Runtime on the CPU, one thread: the engine that every device has.

One thread a bed is the faster choice for a ward: whole windows gain nothing from batching on a CPU, so many
beds fill the cores better than one bed spread over all of them.
"""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError, missing_extra
from ecgedge.runtime.base import as_rank4, require_finite
from ecgedge.runtime.selftest import self_test

INPUT_NAME = "ecg_mv"
_LOG_ERRORS_ONLY = 3


class OrtRunner:
    """A bundle variant in ONNX Runtime; warmed up, but not yet tested (see `open_runner`).

    Parameters
    ----------
    model
        The ONNX file's bytes.
    leads
        Measured leads, in the order of the input's rows.
    precision
        "fp32" or "int8".
    threads
        Threads inside one operator.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the file, or its input is not (batch, leads, 1, samples).
    UsageError
        If ONNX Runtime is not installed.
    """

    def __init__(self, model: bytes, *, leads: tuple[str, ...], precision: str, threads: int = 1) -> None:
        self._leads = leads
        self._precision = precision
        self._name = f"{'12' if len(leads) == 12 else ','.join(leads)}/{precision}"
        self._session: Any = open_session(model, threads=threads, name=self._name)
        self._window_samples = self._check_input()
        self._output_names: list[str] = [output.name for output in self._session.get_outputs()]
        self.run(np.zeros((1, len(leads), self._window_samples), np.float32))  # the first run allocates

    @classmethod
    def from_variant(cls, bundle: Bundle, variant: VariantSpec) -> OrtRunner:
        """Open one variant of a bundle."""
        if variant.stream is not None:
            raise EngineError(
                f"{variant.name} is a streaming form, which takes {variant.stream.chunk_samples} samples at a time; "
                "open it with ecgedge.runtime.open_step_runner"
            )
        return cls(bundle.read_bytes(variant.file), leads=variant.leads, precision=variant.precision)

    @property
    def name(self) -> str:
        """Variant name as events carry it, for example "I,II/int8"."""
        return self._name

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the input's rows."""
        return self._leads

    @property
    def precision(self) -> str:
        """Either "fp32" or "int8"."""
        return self._precision

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return self._window_samples

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""
        return tuple(self._output_names)

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return outputs by name for (B, K, T) or (B, K, 1, T) float32 millivolts.

        Raises
        ------
        EngineError
            On input of a wrong shape or type, a closed runner, or an output that is not finite.
        """
        if self._session is None:
            raise EngineError(f"{self._name}: the runner is closed; open the variant again")
        ecg = as_rank4(ecg_mv, name=self._name, n_leads=len(self._leads), window_samples=self._window_samples)
        values = self._session.run(self._output_names, {INPUT_NAME: ecg})
        outputs = dict(zip(self._output_names, values, strict=True))
        require_finite(outputs, name=self._name)
        return outputs

    def close(self) -> None:
        """Release the session; safe to call twice."""
        self._session = None

    def __enter__(self) -> OrtRunner:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the session."""
        self.close()

    def _check_input(self) -> int:
        """Return the window length in samples, once the input is what a variant must have."""
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        fits = len(shape) == 4 and shape[1:3] == [len(self._leads), 1] and isinstance(shape[3], int)
        if not fits or inputs[0].name != INPUT_NAME or inputs[0].type != "tensor(float)":
            seen = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise EngineError(
                f"{self._name}: the model takes {seen}; expected one input '{INPUT_NAME}', float32, "
                f"(batch, {len(self._leads)}, 1, samples). Export the bundle again"
            )
        return int(shape[3])


def open_runner(bundle: Bundle, variant: VariantSpec) -> OrtRunner:
    """Open one variant and let it serve only if it passes the bundle's self-test.

    Raises
    ------
    EngineError
        If the file is refused or an output is outside the tolerance.
    UsageError
        If ONNX Runtime is not installed.
    """
    runner = OrtRunner.from_variant(bundle, variant)
    try:
        self_test(runner, bundle)
    except EngineError:
        runner.close()
        raise
    return runner


def open_session(model: bytes, *, threads: int, name: str) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the file.
    UsageError
        If it is not installed.
    """
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise EngineError(
            f"{name}: ONNX Runtime {ort.__version__} refuses the model: {error}. "
            "Verify the bundle; if it is whole, update onnxruntime"
        ) from error


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra(
            extra="ort", package="onnxruntime", purpose="running a model on the CPU"
        ) from error
    module: ModuleType = onnxruntime
    return module
