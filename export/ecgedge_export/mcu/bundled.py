"""C beside the INT8 files of a bundle: held against the trained network, and run on an emulated Cortex-M4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge.leads import standard_rows
from ecgedge_export.compare import Comparison, Int8Gate, compare, require_close
from ecgedge_export.fold import masked_outputs
from ecgedge_export.mcu.measure import CLOCK_HZ, FLAGS, McuRun, can_measure, run_on_cortex_m4
from ecgedge_export.mcu.program import VectorOutput
from ecgedge_export.mcu.source import McuSource
from ecgedge_export.variants import BuiltVariant, Source, Windows

CHECKED_WINDOWS = 100
"""Of the gate: so many at most are held against the network, and run on the emulated processor."""


@dataclass(frozen=True)
class McuVariant:
    """The C of a variant, and how it was found.

    Attributes
    ----------
    name
        Of the variant.
    folder
        In the bundle.
    files
        Content by name.
    comparison
        What the C says, in the outputs' units, against the trained network.
    run
        On the emulated processor; None where compiler or emulator were missing.
    """

    name: str
    folder: str
    source: McuSource
    files: dict[str, bytes]
    window_s: float
    comparison: Comparison
    run: McuRun | None


def make_mcu_variant(
    variant: BuiltVariant, source: Source, windows: Windows, *, gate: Int8Gate | None = None
) -> McuVariant:
    """Return the C of an INT8 variant.

    `gate` is what the C itself must reach, as the INT8 file had to.

    Raises
    ------
    EngineError
        If the file holds what C cannot be made of, the C is too far from the network, or it gives another integer than
        the reference on the emulated processor.
    """
    model, leads = onnx.load_from_string(variant.onnx_bytes), variant.spec.leads
    rows = standard_rows(leads)
    code = McuSource.of(model, lsb_mv=windows.lsb_mv)
    counts = _by_sample(windows.gate[:CHECKED_WINDOWS], rows)
    expected = code.expected(counts)
    network = masked_outputs(
        source.model,
        windows.to_mv(windows.gate[:CHECKED_WINDOWS]),
        leads,
        source.calibration,
        probe=source.probe,
    )
    comparison = compare(network, as_values(code, expected))
    require_close(comparison, variant=f"{variant.spec.name} in C", gate=gate)
    run = _checked_run(code, counts, expected, name=variant.spec.name) if can_measure() else None
    window_s = code.program.counts.samples / code.program.rate_hz
    code = McuSource.of(model, lsb_mv=windows.lsb_mv, notes=figures(code, run, window_s))
    files = code.files(_by_sample(windows.self_test, rows))
    return McuVariant(
        name=variant.spec.name,
        folder=f"{variant.spec.file.removesuffix('model.onnx')}c",
        source=code,
        files={name: text.encode() for name, text in files.items()},
        window_s=window_s,
        comparison=comparison,
        run=run,
    )


def _by_sample(counts: NDArray[np.int16], rows: Sequence[int]) -> NDArray[np.int16]:
    """Return (n, 12, T) counts as the C reads them, (n, T, K)."""
    return np.ascontiguousarray(counts[:, rows].transpose(0, 2, 1))


def _checked_run(
    code: McuSource, counts: NDArray[np.int16], expected: NDArray[np.void], *, name: str
) -> McuRun:
    run = run_on_cortex_m4(code, counts)
    different = int((run.outputs != expected).sum())
    if different:
        raise EngineError(
            f"{name}: the C gives other integers than its reference in {different} of {len(counts)} windows, built "
            f"with {run.compiler}; do not use this compiler, and report it"
        )
    return run


def as_values(code: McuSource, outputs: NDArray[np.void]) -> dict[str, NDArray[np.float32]]:
    """Return integers of the C in the units of the network's outputs."""
    values = {}
    for output in code.program.outputs:
        numbers = outputs[output.name].astype(np.float64)
        if isinstance(output, VectorOutput):
            affine = output.tensor.affine
            values[output.name] = ((numbers - affine.zero_point) * affine.scale).astype(np.float32)
        else:
            values[output.name] = (numbers / output.per_unit).astype(np.float32)
    return values


def figures(code: McuSource, run: McuRun | None, window_s: float) -> tuple[str, ...]:
    """Return what a run was found to take, as lines for the header."""
    if run is None:
        return ("Not measured: compiler or emulator were missing when this was exported.",)
    most = max(run.instructions)
    return (
        f"Text {run.text_bytes} bytes, {most} instructions a window at most ({most / code.program.macs:.2f} a",
        f"multiplication), counted under {run.emulator}, built with {run.compiler} {' '.join(FLAGS)}.",
        f"Computed from that, not measured: {run.real_time_factor(window_s):.2%} of the time at "
        f"{CLOCK_HZ // 10**6} MHz and one instruction a cycle.",
    )
