"""How far two versions of one network are apart, and the gates that a variant must pass before it ships.

A file of lower precision is held to the same limits twice: on the tune split, where another one is tried if it misses
them, and on the test split, where it is refused (`evidence.py`).

Cosines are centred (each side minus its mean embedding over the windows): embeddings share a large common
part, and the plain cosine of two unrelated ECGs is already near 1, so it would hide any damage.

The gate of INT8 and fp16 looks at the least cosine over the records beside the median: one record in a hundred that
comes out as another patient's is what a bedside device must not have. A trained EdgeNet keeps its median record far
better than its worst (benchmarks/results/export_cpu.json), so each has a limit of its own. One record that leaves the
range which calibration has seen, such as a large artefact, is enough for a low least cosine. That is damage, so it
counts. What is no damage is a record almost at the mean, where any rounding turns a direction of no length: a record
shorter than NEAR_MEAN of the root mean square is judged by its error as if it had that length. All three numbers are
recorded: the plain least, the least that is gated, and the median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError

FP32_GATE = 1e-5
"""Largest difference between ONNX Runtime and torch, relative to max(1, largest reference value)."""
INT8_MIN_COSINE, INT8_MIN_MEDIAN_COSINE, INT8_MAX_ABS = 0.9, 0.995, 0.1
INT8_WANTED_COSINE = 0.995
FP16_MIN_COSINE = 0.9995
NEAR_MEAN = 0.25
"""Centred embeddings shorter than this share of the root mean square length have no direction to speak of."""
EMBEDDING = "embedding"


class QuantizationError(EngineError):
    """A file of lower precision whose answers are too far from the float one's."""


@dataclass(frozen=True)
class Int8Gate:
    """What INT8 must reach, and what happens to a lead set whose INT8 does not.

    "refuse" fails the export; "leave_out" ships that lead set without INT8. `min_cosine` is of the worst record (see
    the head of this file), `min_median_cosine` of the median one. `max_abs` is the largest difference of any output but
    the embedding, relative to max(1, the network's largest value): of a probability, the difference itself.

    `wanted_cosine` of the worst record is no limit: among the files that pass, one that reaches it is preferred to a
    faster one that does not.
    """

    min_cosine: float = INT8_MIN_COSINE
    min_median_cosine: float = INT8_MIN_MEDIAN_COSINE
    max_abs: float = INT8_MAX_ABS
    wanted_cosine: float = INT8_WANTED_COSINE
    otherwise: Literal["refuse", "leave_out"] = "refuse"


Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class OutputDifference:
    """One output: largest absolute difference, and the largest absolute reference value."""

    max_abs: float
    scale: float

    @property
    def relative(self) -> float:
        """The difference over max(1, the largest reference value): of a probability, the difference itself."""
        return self.max_abs / max(1.0, self.scale)


@dataclass(frozen=True)
class Comparison:
    """Differences by output name; cosines are None where there is no embedding.

    `gated_cosine` is the least with records near the mean judged by their error, see the head of this file.
    """

    outputs: Mapping[str, OutputDifference]
    min_cosine: float | None
    gated_cosine: float | None
    median_cosine: float | None
    windows: int

    @property
    def max_abs(self) -> float:
        """Largest absolute difference over all outputs."""
        return max(difference.max_abs for difference in self.outputs.values())

    @property
    def decisions(self) -> dict[str, OutputDifference]:
        """Differences of all outputs but the embedding."""
        return {name: difference for name, difference in self.outputs.items() if name != EMBEDDING}

    def __str__(self) -> str:
        """Return the numbers on one line."""
        parts = [f"{name} max |d| {d.max_abs:.3g}" for name, d in self.outputs.items()]
        if self.median_cosine is not None:
            gated = "" if self.gated_cosine == self.min_cosine else f" (gated {self.gated_cosine:.5f})"
            parts.append(f"centred cosine min {self.min_cosine:.5f}{gated} median {self.median_cosine:.5f}")
        return f"{', '.join(parts)} over {self.windows} windows"


def compare(reference: Outputs, candidate: Outputs) -> Comparison:
    """Compare two sets of outputs for the same windows, each (B,) or (B, size).

    Raises
    ------
    EngineError
        If the names or shapes differ.
    """
    if list(reference) != list(candidate):
        raise EngineError(f"outputs differ: reference has {list(reference)}, candidate has {list(candidate)}")
    differences: dict[str, OutputDifference] = {}
    for name, expected in reference.items():
        found = candidate[name]
        if found.shape != expected.shape:
            raise EngineError(f"output {name} has shape {found.shape}, the reference {expected.shape}")
        differences[name] = OutputDifference(
            float(np.abs(found - expected).max()), float(np.abs(expected).max())
        )
    cosines = centred_cosine(reference[EMBEDDING], candidate[EMBEDDING]) if EMBEDDING in reference else None
    return Comparison(
        differences,
        None if cosines is None else float(cosines.min()),
        None if cosines is None else float(floored_cosine(reference[EMBEDDING], candidate[EMBEDDING]).min()),
        None if cosines is None else float(np.median(cosines)),
        len(next(iter(reference.values()))),
    )


def centred_cosine(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, both sides minus the mean row of the reference.

    The reference's mean is subtracted from both: an offset common to all candidates is damage, too.
    """
    mean = reference.mean(axis=0, dtype=np.float64)
    a, b = reference - mean, candidate - mean
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.maximum(norms, np.finfo(np.float64).tiny))


def floored_cosine(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the centred cosines, but 1 - |error|^2 / (2 floor^2) for rows shorter than the floor.

    The floor is NEAR_MEAN of the root mean square length; the form is the cosine's own for small errors.
    """
    centred = reference - reference.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1)
    floor = NEAR_MEAN * float(np.sqrt(np.mean(length**2)))
    error = np.linalg.norm(candidate.astype(np.float64) - reference, axis=1)
    judged = 1.0 - error**2 / max(2.0 * floor**2, np.finfo(np.float64).tiny)
    return np.where(length < floor, judged, centred_cosine(reference, candidate))


def require_exact(comparison: Comparison, *, variant: str, gate: float = FP32_GATE) -> None:
    """Refuse a float file whose outputs differ from torch by more than rounding.

    Raises
    ------
    EngineError
        With the numbers.
    """
    for name, difference in comparison.outputs.items():
        if not difference.relative <= gate:
            raise EngineError(
                f"{variant}: ONNX Runtime and torch differ by {difference.max_abs:.3g} in {name} (largest value "
                f"{difference.scale:.3g}), allowed is {gate:g} of it: the export changed the network, do not "
                f"ship it. All: {comparison}"
            )


def missed_limits(comparison: Comparison, gate: Int8Gate) -> list[str]:
    """Return the limits that a file of lower precision misses, in words; empty if it keeps them all."""
    # Written so that a number that is none fails as well.
    missed = [
        f"{name} differs by {difference.relative:.3g}, allowed is {gate.max_abs:g}"
        for name, difference in comparison.decisions.items()
        if not difference.relative <= gate.max_abs
    ]
    for which, value, least in (
        ("median", comparison.median_cosine, gate.min_median_cosine),
        ("smallest", comparison.gated_cosine, gate.min_cosine),
    ):
        if value is not None and not value >= least:
            missed.append(f"the {which} centred cosine is {value:.4f}, the least is {least:g}")
    return missed


def require_close(comparison: Comparison, *, variant: str, gate: Int8Gate | None = None) -> None:
    """Refuse a file of lower precision that has turned the embedding, or moved another output too far.

    Raises
    ------
    QuantizationError
        With the numbers and what to do.
    """
    if missed := missed_limits(comparison, gate or Int8Gate()):
        precision = variant.rpartition("/")[2]
        raise QuantizationError(
            f"{variant}: quantization changed the answers: {'; '.join(missed)} ({comparison}). Train longer "
            "(a lead set that the network has not learnt quantizes badly), give more "
            f"calibration windows, or leave {precision} out for this lead set"
        )
