"""Runners around a runner, which say more of each window: how far its embedding is, how far its outputs move.

Both are of window forms. What they add are outputs like others, one number a window, so they pass through a ward and
a bed without either knowing of them.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ecgedge.embedding import EmbeddingEnvelope, embedding_distance
from ecgedge.runtime.base import Runner

EMBEDDING = "embedding"
DISTANCE = "embedding_distance"
MOVEMENT = "_movement"
"""What the name of an output is followed by in that of its movement."""

MOVEMENT_DRAWS = 8
MOVEMENT_MV = 0.01
"""Noise that no eye sees: what EdgeNet's training adds to its input."""
_SEED = 20260


class Around:
    """A runner that is another one, and says what it says."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def name(self) -> str:
        """Of the runner inside."""
        return self._runner.name

    @property
    def leads(self) -> tuple[str, ...]:
        """Of the runner inside."""
        return self._runner.leads

    @property
    def precision(self) -> str:
        """Of the runner inside."""
        return self._runner.precision

    @property
    def window_samples(self) -> int:
        """Of the runner inside."""
        return self._runner.window_samples

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return what the runner inside does."""
        return self._runner.run(ecg_mv)

    def close(self) -> None:
        """Release the runner inside."""
        self._runner.close()

    def __enter__(self) -> Runner:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the runner inside."""
        self.close()


class WithDistance(Around):
    """Adds `embedding_distance` to the outputs, where there is an embedding."""

    def __init__(self, runner: Runner, envelope: EmbeddingEnvelope) -> None:
        super().__init__(runner)
        self._envelope = envelope

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the runner's outputs and the distance, (B,)."""
        outputs = super().run(ecg_mv)
        if EMBEDDING in outputs:
            distance = embedding_distance(self._envelope, outputs[EMBEDDING])
            outputs[DISTANCE] = distance.astype(np.float32)
        return outputs


class WithMovement(Around):
    """Adds, for every output of one number, its standard deviation under small noise on the input.

    The noise is white, drawn once with a fixed seed, and the same for every window: the same window always says the
    same. A window costs `draws` more.

    Parameters
    ----------
    runner
        A window form.
    rms_mv, draws
        How much noise, and how often.
    """

    def __init__(self, runner: Runner, *, rms_mv: float = MOVEMENT_MV, draws: int = MOVEMENT_DRAWS) -> None:
        super().__init__(runner)
        shape = (draws, len(runner.leads), runner.window_samples)
        rng = np.random.default_rng(_SEED)
        self._noise_mv = rng.standard_normal(shape, np.float32) * np.float32(rms_mv)

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the runner's outputs and `<output>_movement`, (B,)."""
        outputs = super().run(ecg_mv)
        windows = ecg_mv.reshape(len(ecg_mv), len(self.leads), self.window_samples)
        # As many windows at a time as the caller gives: a size that the engine has met.
        moved = [super(WithMovement, self).run(windows + noise) for noise in self._noise_mv]
        for name in [name for name, values in outputs.items() if values.ndim == 1]:
            spread = np.stack([each[name] for each in moved]).astype(np.float64).std(axis=0)
            outputs[name + MOVEMENT] = spread.astype(np.float32)
        return outputs
