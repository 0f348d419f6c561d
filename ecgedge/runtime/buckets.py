"""Batches of any size through a few fixed ones.

An engine pays for each batch size that it meets for the first time: OpenVINO and the GPU providers compile or
tune, ONNX Runtime plans its memory. A ward whose beds come and go would meet dozens. Here a batch is filled up
to the next of a few sizes, all of them met before the first answer, and a larger one is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge.runtime.base import Closing, Runner, as_rank4

DEFAULT_SIZES = (1, 4, 16, 64)


class BucketRunner(Closing):
    """A runner in front of another one, which then meets only `sizes`; owns that other one.

    A window's answer does not depend on the windows beside it: on a CPU it is that of a run alone, bit for bit
    (tested on ONNX Runtime and OpenVINO). A GPU may choose another kernel for another size.

    Parameters
    ----------
    runner
        What computes.
    sizes
        Batch sizes. All are run once here.

    Raises
    ------
    EngineError
        If a size is not positive, or there is none.
    """

    def __init__(self, runner: Runner, *, sizes: Sequence[int] = DEFAULT_SIZES) -> None:
        self._sizes = tuple(sorted(set(sizes)))
        if not self._sizes or self._sizes[0] < 1:
            raise EngineError(f"batch sizes are {list(sizes)}; give at least one, each at least 1")
        self._runner = runner
        # One buffer for all sizes: the first n rows of it are a contiguous batch of n.
        shape = (self._sizes[-1], len(runner.leads), 1, runner.window_samples)
        self._buffer = np.zeros(shape, np.float32)
        for size in self._sizes:
            runner.run(self._buffer[:size])

    @property
    def name(self) -> str:
        """Variant name as events carry it, for example "I,II/int8"."""
        return self._runner.name

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads, in the order of the input's rows."""
        return self._runner.leads

    @property
    def precision(self) -> str:
        """One of "fp32", "fp16", "int8"."""
        return self._runner.precision

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return self._runner.window_samples

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that the engine meets, the smallest first."""
        return self._sizes

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return outputs by name for any number of windows, as `Runner.run` does.

        Raises
        ------
        EngineError
            As `Runner.run`.
        """
        ecg = as_rank4(ecg_mv, name=self.name, n_leads=len(self.leads), window_samples=self.window_samples)
        largest = self._sizes[-1]
        if len(ecg) <= largest:
            return self._run_one(ecg)
        parts = [self._run_one(ecg[start : start + largest]) for start in range(0, len(ecg), largest)]
        return {output: np.concatenate([part[output] for part in parts]) for output in parts[0]}

    def close(self) -> None:
        """Release the engine; safe to call twice."""
        self._runner.close()

    def _run_one(self, ecg: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        n = len(ecg)
        size = next(size for size in self._sizes if size >= n)
        if size == n:
            return self._runner.run(ecg)
        batch = self._buffer[:size]
        batch[:n] = ecg
        batch[n:] = 0.0  # a NaN left from an earlier batch would refuse this one
        return {output: values[:n] for output, values in self._runner.run(batch).items()}
