"""INT8 after training (PTQ): ranges from real windows, a plan, a file. `qdq.py` says what the file looks like.

What stays float unless the file is for integer C ("mcu", "mcu16"): all that follows the pooling (embedding, heads,
probe). It is a small part of the work, and a pressure in mmHg does not fit 256 steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge_export.calibration import Calibration, tensor_ranges
from ecgedge_export.qdq import write_qdq
from ecgedge_export.quant_plan import Flavour, QuantPlan, make_plan

__all__ = ["Flavour", "quantize", "quantized_file"]


def quantize(
    model: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    flavour: Flavour,
    calibration: Calibration | None = None,
    float_layers: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return the INT8 QDQ form of a float variant.

    Parameters
    ----------
    model
        From `export_onnx`; left as it is.
    calibration_mv
        (N, 12, T) float32 millivolts: real windows through the front end, of patients that the gate does not use.
    leads
        The variant's measured leads.
    flavour
        "cpu", "rtx", "mcu" or "mcu16", see `qdq.py`.
    calibration
        How ranges are taken; the whole range by default.
    float_layers
        Layers that stay in float, by the names of `qdq.layer_name`.

    Raises
    ------
    EngineError
        If there are too few windows, windows of another shape, or no such layer.
    """
    ranges = tensor_ranges(model, calibration_mv, leads=leads, calibration=calibration)
    return quantized_file(model, make_plan(model, ranges, flavour=flavour, float_layers=float_layers))


def quantized_file(model: onnx.ModelProto, plan: QuantPlan) -> onnx.ModelProto:
    """Return the checked file of a plan, its metadata saying int8."""
    quantized = write_qdq(model, plan)
    for item in quantized.metadata_props:
        if item.key == "precision":
            item.value = "int8"
    onnx.checker.check_model(quantized, full_check=True)
    return quantized
