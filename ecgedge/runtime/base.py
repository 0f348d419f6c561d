"""What every inference engine looks like to the stream: millivolts of the measured leads in, outputs by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, StreamSpec, VariantSpec
from ecgedge.errors import EngineError
from ecgedge.leads import format_lead_set

INPUT_NAME = "ecg_mv"


class Runner(Protocol):
    """One variant of a bundle on one engine; a context manager that owns the engine."""

    @property
    def name(self) -> str:
        """Variant name as events carry it, for example "I,II/int8"."""
        ...

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the input's rows."""
        ...

    @property
    def precision(self) -> str:
        """One of "fp32", "fp16", "int8"."""
        ...

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        ...

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return outputs by name, (B,) or (B, size), for (B, K, T) or (B, K, 1, T) float32 millivolts.

        Raises
        ------
        EngineError
            On input of a wrong shape or type, or if an output is not finite.
        """
        ...

    def close(self) -> None:
        """Release the engine; safe to call twice."""
        ...

    def __enter__(self) -> Runner:
        """Return the runner itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the engine."""
        ...


class Stepper(Protocol):
    """The streaming form of a variant, with the state of every bed inside."""

    @property
    def name(self) -> str:
        """Variant name, for example "I,II/int8/stream"."""
        ...

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the chunk's rows."""
        ...

    @property
    def spec(self) -> StreamSpec:
        """Lengths and states."""
        ...

    @property
    def beds(self) -> int:
        """How many beds there are."""
        ...

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that are run."""
        ...

    def step(self, beds: Sequence[int], chunk_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Give each of some beds its next chunk, (len(beds), K, C), and return the outputs by name."""
        ...

    def reset(self, bed: int) -> None:
        """Let a bed begin a new stream."""
        ...


C = TypeVar("C", bound="Closing")


class Closing(ABC):
    """A context manager that owns an engine."""

    @abstractmethod
    def close(self) -> None:
        """Release the engine; safe to call twice."""

    def __enter__(self: C) -> C:
        """Return the owner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the engine."""
        self.close()


class OfVariant(Closing):
    """What a runner says of the variant that it was opened from.

    Parameters
    ----------
    variant
        Its specification.
    """

    def __init__(self, variant: VariantSpec) -> None:
        self._variant = variant

    @property
    def name(self) -> str:
        """Variant name as events carry it, for example "I,II/int8" or "I,II/int8/stream"."""
        return self._variant.name

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the input's rows."""
        return self._variant.leads

    @property
    def precision(self) -> str:
        """One of "fp32", "fp16", "int8"."""
        return self._variant.precision


@contextmanager
def closed_on_error(owner: Runner | Closing) -> Iterator[None]:
    """Let go of an engine that does not come into service."""
    try:
        yield
    except BaseException:
        owner.close()
        raise


@dataclass(frozen=True)
class ModelInput:
    """One input of a model as an engine sees it; a size that may vary is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class EngineRunner(Closing):
    """What the runners of ONNX files have in common: checks before and after, and the end of the engine.

    A child opens its engine, calls this constructor, and then `warm_up`.

    Parameters
    ----------
    leads
        Measured leads, in the order of the input's rows.
    precision
        One of "fp32", "fp16", "int8".
    inputs
        What the engine says that the model takes.
    outputs
        Names of the outputs, in the file's order.

    Raises
    ------
    EngineError
        If the model's input is not (batch, leads, 1, samples).
    """

    def __init__(
        self, *, leads: tuple[str, ...], precision: str, inputs: Sequence[ModelInput], outputs: Sequence[str]
    ) -> None:
        self._leads = leads
        self._precision = precision
        self._name = runner_name(leads, precision)
        self._window_samples = _window_samples(inputs, name=self._name, n_leads=len(leads))
        self._output_names = tuple(outputs)
        self._closed = False

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
        """One of "fp32", "fp16", "int8"."""
        return self._precision

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return self._window_samples

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""
        return self._output_names

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return outputs by name for (B, K, T) or (B, K, 1, T) float32 millivolts; the arrays are the caller's.

        Raises
        ------
        EngineError
            On input of a wrong shape or type, a closed runner, an engine that gives up, or an output that is not
            finite.
        """
        if self._closed:
            raise EngineError(f"{self._name}: the runner is closed; open the variant again")
        ecg = as_rank4(ecg_mv, name=self._name, n_leads=len(self._leads), window_samples=self._window_samples)
        try:
            values = self._infer(ecg)
        except Exception as error:  # an engine's exceptions share no base of their own
            raise EngineError(
                f"{self._name}: the engine could not run a batch of {len(ecg)}: {one_line(error)}; "
                "run the bundle's self-test (ecgedge bundle verify), or choose another runtime"
            ) from error
        outputs = dict(zip(self._output_names, values, strict=True))
        require_finite(outputs, name=self._name)
        return outputs

    def warm_up(self) -> None:
        """Run once: the first run allocates."""
        self.run(np.zeros((1, len(self._leads), self._window_samples), np.float32))

    def close(self) -> None:
        """Release the engine; safe to call twice."""
        self._closed = True
        self._release()

    @abstractmethod
    def _infer(self, ecg: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """Return the outputs of a contiguous (B, K, 1, T) batch, in the file's order, as arrays of their own."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the engine."""


def window_file(bundle: Bundle, variant: VariantSpec) -> bytes:
    """Return the ONNX file of a window form.

    Raises
    ------
    EngineError
        If the variant is a streaming form.
    """
    if variant.stream is not None:
        raise EngineError(
            f"{variant.name} is a streaming form, which takes {variant.stream.chunk_samples} samples at a time; "
            "open it with ecgedge.runtime.open_step_runner"
        )
    return bundle.read_bytes(variant.file)


def one_line(error: Exception) -> str:
    """Return what an engine says, which may be several lines, in one."""
    return " ".join(str(error).split())


def runner_name(leads: tuple[str, ...], precision: str) -> str:
    """Return the variant's name as events carry it, for example "I,II/int8"."""
    return f"{format_lead_set(leads)}/{precision}"


def _window_samples(inputs: Sequence[ModelInput], *, name: str, n_leads: int) -> int:
    """Return the window length in samples, once the input is what a variant must have."""
    shape = inputs[0].shape if len(inputs) == 1 else ()
    samples = shape[3] if len(shape) == 4 and shape[1:3] == (n_leads, 1) else None
    if samples is None or (inputs[0].name, inputs[0].dtype) != (INPUT_NAME, "float32"):
        seen = ", ".join(f"{i.name} {i.dtype} {list(i.shape)}" for i in inputs)
        raise EngineError(
            f"{name}: the model takes {seen}; expected one input '{INPUT_NAME}', float32, "
            f"(batch, {n_leads}, 1, samples). Export the bundle again"
        )
    return samples


def as_rank4(
    ecg_mv: NDArray[np.float32], *, name: str, n_leads: int, window_samples: int
) -> NDArray[np.float32]:
    """Return the input as a contiguous (B, n_leads, 1, window_samples) array.

    Raises
    ------
    EngineError
        If the type or the shape is another.
    """
    if ecg_mv.dtype != np.float32:
        raise EngineError(f"{name}: the input is {ecg_mv.dtype}; give float32 millivolts")
    ecg = ecg_mv[:, :, None, :] if ecg_mv.ndim == 3 else ecg_mv
    if ecg.ndim != 4 or ecg.shape[1:] != (n_leads, 1, window_samples) or ecg.shape[0] < 1:
        raise EngineError(
            f"{name}: the input has shape {ecg_mv.shape}; give (batch, {n_leads}, {window_samples}), "
            "one row for each lead of the variant"
        )
    return np.ascontiguousarray(ecg)


def require_finite(outputs: Mapping[str, NDArray[np.float32]], *, name: str) -> None:
    """Raise EngineError if any output holds NaN or infinity: such a number must never reach a bed."""
    for output, values in outputs.items():
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise EngineError(
                f"{name}: output {output} holds {bad} values that are not finite; check the input window for "
                "NaN, and run the bundle's self-test"
            )


def single_numbers(outputs: Mapping[str, NDArray[np.float32]], n: int) -> list[Mapping[str, float]]:
    """Return, for each of n windows, those outputs that are one number each."""
    columns = {name: values.tolist() for name, values in outputs.items() if values.ndim == 1}
    return [{name: values[k] for name, values in columns.items()} for k in range(n)]
