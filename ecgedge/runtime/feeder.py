"""Any number of samples of any beds in, one answer a bed and chunk out: what stands between a feed and a StepRunner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge.runtime.step import F32, StepRunner


@dataclass(frozen=True, eq=False)
class StepAnswer:
    """What the model says of one bed's window.

    Attributes
    ----------
    end_sample
        Samples of the bed's stream since its reset, up to and including the window's last.
    ready
        Whether the window was full.
    outputs
        By name, () or (size,) float32.
    """

    bed: int
    end_sample: int
    ready: bool
    outputs: Mapping[str, NDArray[np.float32]]


class StepFeeder:
    """Collects samples until a chunk is full, and steps all beds that have one together.

    However a bed's samples are cut, and whichever beds come with it, its answers are the same but for rounding.

    It keeps each bed's last `spec.exact_after_samples` samples and builds its state anew from them each
    `spec.reprime_s`: so a fault in memory, or a state that was carried wrongly, cannot stay. One bed at a time, so that
    no step has to wait for all.

    Parameters
    ----------
    runner
        Its beds are fed from here only.
    rate_hz
        Of the samples.
    """

    def __init__(self, runner: StepRunner, *, rate_hz: float) -> None:
        spec = runner.spec
        self._runner = runner
        self._chunk = spec.chunk_samples
        self._period = max(1, round(spec.reprime_s * rate_hz / spec.chunk_samples))
        shape = (runner.beds, len(runner.leads), spec.exact_after_samples)
        self._recent: F32 = np.zeros(shape, np.float32)
        self._fill = np.zeros(runner.beds, np.int64)
        self._steps = np.zeros(runner.beds, np.int64)
        self._due_at = np.full(runner.beds, self._period, np.int64)

    def push(self, samples_mv: Mapping[int, F32]) -> list[StepAnswer]:
        """Take samples of some beds and return what follows from them, in the order of time.

        Parameters
        ----------
        samples_mv
            By bed, (K, n) float32 millivolts without gaps; n may be anything.

        Raises
        ------
        EngineError
            On a wrong bed, shape, type or value; nothing has been taken then. Also if an output is not finite; then the
            beds whose chunk it was in begin anew, and what they were given beyond it is gone.
        """
        self._check(samples_mv)
        left = {bed: samples for bed, samples in samples_mv.items() if samples.shape[1]}
        answers: list[StepAnswer] = []
        while left:
            full: list[int] = []
            for bed, samples in list(left.items()):
                taken = min(samples.shape[1], self._chunk - int(self._fill[bed]))
                self._take(bed, samples[:, :taken])
                left[bed] = samples[:, taken:]
                if not left[bed].shape[1]:
                    del left[bed]
                if self._fill[bed] == self._chunk:
                    full.append(bed)
            if full:
                answers += self._step(full)
        return answers

    def reset(self, bed: int) -> None:
        """Let a bed begin a new stream."""
        self._runner.reset(bed)
        self._fill[bed] = self._steps[bed] = 0
        self._due_at[bed] = self._period

    def _take(self, bed: int, samples: F32) -> None:
        # The newest samples stand at the end; a chunk that is being filled is the last `fill` of them.
        n, recent = samples.shape[1], self._recent[bed]
        recent[:, :-n] = recent[:, n:]
        recent[:, -n:] = samples
        self._fill[bed] += n

    def _step(self, beds: list[int]) -> list[StepAnswer]:
        try:
            return self._step_and_prime(beds)
        except EngineError:
            # A chunk without its step is a hole in the past; the beds begin anew.
            for bed in beds:
                self.reset(bed)
            raise

    def _step_and_prime(self, beds: list[int]) -> list[StepAnswer]:
        outputs = self._runner.step(beds, self._recent[beds, :, -self._chunk :])
        self._fill[beds] = 0
        self._steps[beds] += 1
        answers = [
            StepAnswer(
                bed,
                int(self._steps[bed]) * self._chunk,
                self._runner.ready(bed),
                {name: values[row] for name, values in outputs.items()},
            )
            for row, bed in enumerate(beds)
        ]
        self._prime_one(beds)
        return answers

    def _prime_one(self, beds: list[int]) -> None:
        whole = self._recent.shape[2] // self._chunk
        due = [bed for bed in beds if self._steps[bed] >= max(self._due_at[bed], whole)]
        if due:
            bed = min(due, key=lambda b: (self._due_at[b], b))
            self._runner.prime(bed, self._recent[bed])
            self._due_at[bed] = self._steps[bed] + self._period

    def _check(self, samples_mv: Mapping[int, F32]) -> None:
        n_leads = self._recent.shape[1]
        for bed, samples in samples_mv.items():
            if not 0 <= bed < len(self._recent):
                raise EngineError(f"bed {bed}; beds are numbered 0 to {len(self._recent) - 1}")
            if samples.dtype != np.float32 or samples.ndim != 2 or samples.shape[0] != n_leads:
                raise EngineError(
                    f"bed {bed}: samples are {samples.dtype} {samples.shape}; give float32 ({n_leads}, n) millivolts"
                )
            if not np.isfinite(samples).all():
                raise EngineError(
                    f"bed {bed}: samples hold NaN or infinity; fill gaps first, or reset the bed"
                )
