"""The way to an INT8 file that passes its gate: the fastest form that is enough is taken, and written down.

Forms differ in two things, and are tried the faster first:

1. What stays in float at the input's end: nothing; the first layer; the layers up to the first residual sum; up to the
   second one. The first tensors are what 8 bits cost most: a QRS of 1 mV, its ST segment of 0.05 mV and an artefact
   of 5 mV have to share 256 steps, and what is lost there is lost for all layers behind. Integer C, the flavour "mcu",
   has no layers in float: its biases are corrected (`bias.py`), and if 8 bits do not pass, its tensors get 16
   ("mcu16"), whose headroom is in their steps.
2. The ranges: those of the training split's windows, then those of the same windows 1.5 times as large
   (`calibration.headroom_ranges`). A record beyond the range saturates in layer after layer; a wider range costs all
   other records resolution, which the later layers have to spare.

If none passes, the last form is fine-tuned (QAT); left out for a graph with operators that `torch_graph.py` does not
know. Which forms pass is for the caller to say, see `variants.against_network`.

What was done stands in the variant's results, hence in the manifest and on the card: `calibration_percentile` (or
`calibration_entropy_bins`), `calibration_headroom` (1 without), `activation_bits` (of integer C), `float_layer NAME`,
`fine_tuning_steps`. For how fast the forms are, see benchmarks/results/int8_forms.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge_export.bias import corrected_biases
from ecgedge_export.calibration import HEADROOM, Calibration, Ranges, headroom_ranges, tensor_ranges
from ecgedge_export.qat import FineTune, fine_tune
from ecgedge_export.quant_plan import INTEGER_TYPES, Flavour, QuantPlan, leading_layers, make_plan
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

    def plan(form: _Form) -> QuantPlan:
        return make_plan(
            exact, ranges[form.headroom](), flavour=form.flavour, float_layers=form.floats, lsb_mv=lsb_mv
        )

    def file(form: _Form) -> onnx.ModelProto:
        numbers = plan(form)
        source = corrected_biases(exact, numbers, calibration_mv, leads=leads) if whole else exact
        return quantized_file(source, numbers)

    whole, forms = INTEGER_TYPES[flavour].whole, _forms(exact, leads, flavour, chosen)
    for form in forms:
        yield Candidate(partial(file, form), form.notes(calibration))
    if chosen.fine_tuning is None or unknown_operators(exact):
        return
    how, last = chosen.fine_tuning, forms[-1]

    def tuned() -> onnx.ModelProto:
        found = fine_tune(exact, plan(last), calibration_mv, leads=leads, clip_mv=clip_mv, how=how)
        return quantized_file(*found)

    notes = {**last.notes(calibration), "fine_tuning_steps": float(how.steps)}
    yield Candidate(tuned, notes, last_resort=True)


@dataclass(frozen=True)
class _Form:
    """What stays in float, how much larger than the windows the ranges are, and what activations are made of."""

    flavour: Flavour
    floats: tuple[str, ...]
    headroom: float

    def notes(self, calibration: Calibration) -> dict[str, float]:
        """Return what is done, as numbers for the results."""
        integers = INTEGER_TYPES[self.flavour]
        bits = {"activation_bits": 8.0 * np.dtype(integers.dtype).itemsize} if integers.whole else {}
        return {**calibration_notes(calibration, self.floats, headroom=self.headroom), **bits}


def _forms(
    exact: onnx.ModelProto, leads: Sequence[str], flavour: Flavour, options: Int8Options
) -> list[_Form]:
    """Return all forms, the fastest first."""
    stages = _float_layers(exact, leads, flavour, options)
    forms = [_Form(flavour, floats, headroom) for floats in stages for headroom in (1.0, HEADROOM)]
    if flavour == "mcu":
        forms.append(_Form("mcu16", options.float_layers, 1.0))
    return forms


def _float_layers(
    exact: onnx.ModelProto, leads: Sequence[str], flavour: Flavour, options: Int8Options
) -> list[tuple[str, ...]]:
    """Return what stays in float, the fastest form first."""
    stages: list[tuple[str, ...]] = [()]
    if not INTEGER_TYPES[flavour].whole:  # integer C has no float layers, unless the caller names them
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
