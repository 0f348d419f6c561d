"""What every inference engine looks like to the stream: millivolts of the measured leads in, outputs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import StreamSpec
from ecgedge.errors import EngineError


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
        """Either "fp32" or "int8"."""
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
