"""Which layer suffers most from 8 bits: one layer at a time is quantized, all others stay float.

The table says what a layer costs by itself, on real windows, against the float file. The layers at its head are the
ones to leave in float: a network with one layer less in 8 bits is still nearly as fast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.leads import format_lead_set, standard_rows
from ecgedge.runtime.ort import OrtRunner
from ecgedge.schema import to_plain
from ecgedge_export.calibration import Ranges
from ecgedge_export.compare import Outputs, compare
from ecgedge_export.quant_plan import Flavour, make_plan, quantizable_layers
from ecgedge_export.quantize import quantized_file


@dataclass(frozen=True)
class LayerDamage:
    """What quantizing one layer alone does.

    Attributes
    ----------
    min_cosine, median_cosine
        Centred cosines of the embeddings over the windows; 1 is no damage.
    max_shift
        Largest absolute change by output.
    """

    layer: str
    min_cosine: float
    median_cosine: float
    max_shift: dict[str, float]


@dataclass(frozen=True)
class Sensitivity:
    """One lead set's layers, the worst first; research use only, like all that is measured here."""

    leads: str
    flavour: Flavour
    windows: int
    layers: tuple[LayerDamage, ...]


def measure_sensitivity(
    model: onnx.ModelProto,
    ranges: Ranges,
    ecg_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    flavour: Flavour,
) -> Sensitivity:
    """Quantize each layer alone and hold it against the float file.

    Parameters
    ----------
    model
        Float, from `export_onnx`.
    ranges
        From `tensor_ranges`.
    ecg_mv
        (N, 12, T) float32 millivolts: the windows to measure on.
    leads
        The variant's measured leads.
    """
    windows = ecg_mv[:, standard_rows(leads)]
    layers = quantizable_layers(model, flavour=flavour)
    reference = _run(model, windows, leads)
    rows = []
    for layer in layers:
        others = [name for name in layers if name != layer]
        alone = make_plan(model, ranges, flavour=flavour, float_layers=others, only_layers=True)
        found = compare(reference, _run(quantized_file(model, alone), windows, leads))
        shifts = {name: difference.max_abs for name, difference in found.outputs.items()}
        rows.append(LayerDamage(layer, found.min_cosine or 0.0, found.median_cosine or 0.0, shifts))
    rows.sort(key=lambda row: row.min_cosine)
    return Sensitivity(format_lead_set(tuple(leads)), flavour, len(windows), tuple(rows))


def _run(model: onnx.ModelProto, windows: NDArray[np.float32], leads: Sequence[str]) -> Outputs:
    with OrtRunner(model.SerializeToString(), leads=tuple(leads), precision="int8") as runner:
        return runner.run(windows)


def sensitivity_table(report: Sensitivity) -> str:
    """Return the report as text, one line a layer."""
    lines = [
        f"leads {report.leads}, {report.flavour} flavour: each layer alone in 8 bits, {report.windows} windows",
        f"{'layer':<28} {'min cosine':>10} {'median':>8} {'largest shift of an output':>28}",
    ]
    for row in report.layers:
        name, shift = max(row.max_shift.items(), key=lambda item: item[1])
        shifted = f"{name} {shift:.3g}"
        lines.append(f"{row.layer:<28} {row.min_cosine:>10.5f} {row.median_cosine:>8.5f} {shifted:>28}")
    return "\n".join(lines)


def write_sensitivity(path: Path, reports: Sequence[Sensitivity]) -> None:
    """Write the reports as JSON."""
    plain: list[Any] = [to_plain(report) for report in reports]
    path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
