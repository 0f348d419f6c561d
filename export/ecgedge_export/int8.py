"""The way to an INT8 file that passes its gate: the cheapest step that is enough is taken, and written down.

1. Quantization after training (PTQ), as asked for: whole range by default, named layers in float.
2. PTQ with the worst layers left in float, one after the other (by `sensitivity.py`, on the calibration windows).
3. PTQ whose ranges leave out the largest 0.001 % of the values.
4. Fine-tuning (QAT) of step 1, from ranges that hold the windows at twice their size too; left out for a graph with
   operators that `torch_graph.py` does not know.

What was done stands in the variant's results, hence on the card: `calibration_percentile` (or
`calibration_entropy_bins`), `float_layer NAME`, `fine_tuning_steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge_export.calibration import Calibration, tensor_ranges
from ecgedge_export.qat import FineTune, fine_tune
from ecgedge_export.qdq import Flavour, make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.sensitivity import measure_sensitivity
from ecgedge_export.torch_graph import unknown_operators

FALLBACK = Calibration("percentile", percentile=99.999)
_SENSITIVITY_WINDOWS = 64


@dataclass(frozen=True)
class Int8Options:
    """How INT8 is made.

    Attributes
    ----------
    calibration
        How ranges are taken.
    float_layers
        Layers that stay in float in any case, by the names of the sensitivity report.
    max_float_layers
        How many more may be left in float to pass the gate.
    fine_tuning
        The last resort; None to do without.
    """

    calibration: Calibration = field(default_factory=Calibration)
    float_layers: tuple[str, ...] = ()
    max_float_layers: int = 2
    fine_tuning: FineTune | None = field(default_factory=FineTune)


@dataclass(frozen=True)
class Candidate:
    """A file of lower precision, and what was done for it, as numbers for the variant's results."""

    model: onnx.ModelProto
    notes: dict[str, float]


def int8_candidates(
    exact: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    flavour: Flavour,
    options: Int8Options | None = None,
) -> Iterator[Candidate]:
    """Yield INT8 files of a float variant, the cheapest first; each is made when it is asked for.

    Parameters
    ----------
    exact
        Float, from `export_onnx`.
    calibration_mv
        (N, 12, T) float32 millivolts of the training split.
    leads
        The variant's measured leads.

    Raises
    ------
    EngineError
        If a named layer does not exist.
    """
    chosen = options or Int8Options()
    ranges = tensor_ranges(exact, calibration_mv, leads=leads, calibration=chosen.calibration)
    plan = make_plan(exact, ranges, flavour=flavour, float_layers=chosen.float_layers)
    yield Candidate(quantized_file(exact, plan), calibration_notes(chosen.calibration, chosen.float_layers))
    if chosen.max_float_layers:
        some = calibration_mv[:: max(1, len(calibration_mv) // _SENSITIVITY_WINDOWS)]
        report = measure_sensitivity(exact, ranges, some, leads=leads, flavour=flavour)
        worst = [row.layer for row in report.layers if row.layer not in chosen.float_layers]
        for count in range(1, min(chosen.max_float_layers, len(worst) - 1) + 1):
            floats = (*chosen.float_layers, *worst[:count])
            fewer = make_plan(exact, ranges, flavour=flavour, float_layers=floats)
            yield Candidate(quantized_file(exact, fewer), calibration_notes(chosen.calibration, floats))
    if chosen.calibration.method == "minmax":
        narrow = tensor_ranges(exact, calibration_mv, leads=leads, calibration=FALLBACK)
        clipped = make_plan(exact, narrow, flavour=flavour, float_layers=chosen.float_layers)
        yield Candidate(quantized_file(exact, clipped), calibration_notes(FALLBACK, chosen.float_layers))
    if chosen.fine_tuning is not None and not unknown_operators(exact):
        wide = tensor_ranges(exact, _with_larger(calibration_mv), leads=leads, calibration=chosen.calibration)
        start = make_plan(exact, wide, flavour=flavour, float_layers=chosen.float_layers)
        tuned, tuned_plan = fine_tune(exact, start, calibration_mv, leads=leads, how=chosen.fine_tuning)
        notes = calibration_notes(chosen.calibration, chosen.float_layers)
        steps = float(chosen.fine_tuning.steps)
        yield Candidate(quantized_file(tuned, tuned_plan), {**notes, "fine_tuning_steps": steps})


def _with_larger(ecg_mv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the windows, and every other one at twice its size: room for what calibration has not seen."""
    return np.concatenate([ecg_mv, 2.0 * ecg_mv[::2]])


def calibration_notes(calibration: Calibration, float_layers: Sequence[str] = ()) -> dict[str, float]:
    """Return what was done for a file, as numbers for the variant's results."""
    kept = {f"float_layer {name}": 1.0 for name in float_layers}
    if calibration.share_percent is not None:
        return {"calibration_percentile": calibration.share_percent, **kept}
    return {"calibration_entropy_bins": float(calibration.bins), **kept}
