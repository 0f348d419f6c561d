"""The way to an INT8 file that passes its gate: the fastest form that is enough is taken, and written down.

Forms differ in two things, and are tried the faster first:

1. What stays in float at the input's end: nothing; the first layer; the layers up to the first residual sum; up to the
   second one. The first tensors are what 8 bits cost most: a QRS of 1 mV, its ST segment of 0.05 mV and an artefact
   of 5 mV have to share 256 steps, and what is lost there is lost for all layers behind. Not for the flavour "mcu".
2. The ranges: those of the training split's windows, then those of the same windows 1.5 times as large
   (`calibration.headroom_ranges`). A record beyond the range saturates in layer after layer; a wider range costs all
   other records resolution, which the later layers have to spare.

If none passes, the last form is fine-tuned (QAT); left out for a graph with operators that `torch_graph.py` does not
know. Which forms pass is for the caller to say, see `variants.against_network`.

What was done stands in the variant's results, hence in the manifest and on the card: `calibration_percentile` (or
`calibration_entropy_bins`), `calibration_headroom` (1 without), `float_layer NAME`, `fine_tuning_steps`. For how fast
the forms are, see benchmarks/results/int8_forms.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge_export.calibration import HEADROOM, Calibration, Ranges, headroom_ranges, tensor_ranges
from ecgedge_export.qat import FineTune, fine_tune
from ecgedge_export.qdq import Flavour, QuantPlan, leading_layers, make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.torch_graph import unknown_operators

FALLBACK = Calibration("percentile", percentile=99.999)
"""Of streaming forms, whose layers are all quantized or none."""
_FEW_LEADS = 4
"""ONNX Runtime computes a first layer of so few input channels as fast in float as in 8 bits, or faster: there the
input need not be rounded. Measured on x86 with VNNI, and for the flavour that runs there alone."""


@dataclass(frozen=True)
class Int8Options:
    """How INT8 is made.

    Attributes
    ----------
    calibration
        How ranges are taken.
    float_layers
        Layers that stay in float in any case, by the names of the sensitivity report.
    max_float_stages
        How far layers may be left in float from the input on to pass the gate; 0 for not at all, 1 for the first
        layer, 2 up to the first residual sum, ...
    fine_tuning
        The last resort; None to do without.
    """

    calibration: Calibration = field(default_factory=Calibration)
    float_layers: tuple[str, ...] = ()
    max_float_stages: int = 3
    fine_tuning: FineTune | None = field(default_factory=FineTune)


@dataclass(frozen=True)
class Candidate:
    """A file of lower precision, made when it is asked for; what was done for it, as numbers for the results.

    `last_resort` is for one that takes minutes: it is asked for if no other passes.
    """

    make: Callable[[], onnx.ModelProto]
    notes: dict[str, float]
    last_resort: bool = False


def int8_candidates(
    exact: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    flavour: Flavour,
    clip_mv: float,
    lsb_mv: float = FrontEndSpec.lsb_mv,
    options: Int8Options | None = None,
) -> Iterator[Candidate]:
    """Yield INT8 files of a float variant, the fastest first.

    Parameters
    ----------
    exact
        Float, from `export_onnx`.
    calibration_mv
        (N, 12, T) float32 millivolts of the training split.
    leads
        The variant's measured leads.
    clip_mv, lsb_mv
        Where the front end clips, and what its count is worth.

    Raises
    ------
    EngineError
        If a named layer does not exist.
    """
    chosen = options or Int8Options()
    calibration = chosen.calibration
    seen = partial(tensor_ranges, exact, calibration_mv, leads=leads, calibration=calibration)
    larger = partial(
        headroom_ranges, exact, calibration_mv, leads=leads, clip_mv=clip_mv, calibration=calibration
    )
    ranges: dict[float, Callable[[], Ranges]] = {1.0: cache(seen), HEADROOM: cache(larger)}

    def plan(floats: tuple[str, ...], headroom: float) -> QuantPlan:
        return make_plan(exact, ranges[headroom](), flavour=flavour, float_layers=floats, lsb_mv=lsb_mv)

    def form(floats: tuple[str, ...], headroom: float) -> onnx.ModelProto:
        return quantized_file(exact, plan(floats, headroom))

    floats: tuple[str, ...] = chosen.float_layers
    for floats in _float_layers(exact, leads, flavour, chosen):
        for headroom in ranges:
            yield Candidate(
                partial(form, floats, headroom), calibration_notes(calibration, floats, headroom=headroom)
            )
    if chosen.fine_tuning is None or unknown_operators(exact):
        return
    how = chosen.fine_tuning

    def tuned() -> onnx.ModelProto:
        start = plan(floats, HEADROOM)
        return quantized_file(*fine_tune(exact, start, calibration_mv, leads=leads, clip_mv=clip_mv, how=how))

    notes = calibration_notes(calibration, floats, headroom=HEADROOM)
    yield Candidate(tuned, {**notes, "fine_tuning_steps": float(how.steps)}, last_resort=True)


def _float_layers(
    exact: onnx.ModelProto, leads: Sequence[str], flavour: Flavour, options: Int8Options
) -> list[tuple[str, ...]]:
    """Return what stays in float, the fastest form first."""
    stages: list[tuple[str, ...]] = [()]
    if flavour != "mcu":  # integer C has no float layers, unless the caller names them
        stages += leading_layers(exact, flavour=flavour)[: options.max_float_stages]
    if flavour == "cpu" and len(leads) <= _FEW_LEADS and len(stages) > 1:
        stages = stages[1:]
    named = options.float_layers
    return list(
        dict.fromkeys((*named, *(layer for layer in stage if layer not in named)) for stage in stages)
    )


def calibration_notes(
    calibration: Calibration, float_layers: Sequence[str] = (), *, headroom: float = 1.0
) -> dict[str, float]:
    """Return what was done for a file, as numbers for the variant's results."""
    done = {"calibration_headroom": headroom, **{f"float_layer {name}": 1.0 for name in float_layers}}
    if calibration.share_percent is not None:
        return {"calibration_percentile": calibration.share_percent, **done}
    return {"calibration_entropy_bins": float(calibration.bins), **done}
