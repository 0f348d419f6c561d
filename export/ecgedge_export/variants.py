"""One lead set as files: fp32, fp16 and INT8 ONNX, each past its gate, each with its self-test numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.bundle import Precision, StreamSpec, VariantSpec
from ecgedge.embedding import fit_envelope
from ecgedge.leads import format_lead_set, standard_rows
from ecgedge.runtime.ort import OrtRunner
from ecgedge.runtime.selftest import Expected
from ecgedge_export.compare import (
    FP16_MIN_COSINE,
    Comparison,
    Int8Gate,
    Outputs,
    QuantizationError,
    compare,
    require_close,
    require_exact,
)
from ecgedge_export.fold import fold_lead_set, masked_outputs
from ecgedge_export.half import to_fp16
from ecgedge_export.int8 import Candidate, Int8Options, int8_candidates
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.quant_plan import Flavour
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.model import EcgModel

_TOLERANCES: dict[Precision, tuple[float, float]] = {
    # Another CPU adds in another order: ten times the difference seen here, and at least 1e-4 of the output's size.
    "fp32": (10.0, 1e-4),
    # A GPU adds in 16 bits where a CPU adds in 32: 11 bits of mantissa, many times over.
    "fp16": (4.0, 5e-3),
    # Integer products are exact everywhere, but a rounding at a requantization can tip over and spread.
    "int8": (2.0, 1e-2),
}
"""Of the self-test: margin over the difference seen at export, and floor as a share of the output's size."""


EMBEDDED_WINDOWS = 2048
"""So many training windows at most say where a variant's embeddings lie."""


@dataclass(frozen=True)
class Windows:
    """Real windows, int16 counts (n, 12, T): to calibrate INT8, to gate (other patients), to ship as self-test."""

    calibration: NDArray[np.int16]
    gate: NDArray[np.int16]
    self_test: NDArray[np.int16]
    lsb_mv: float
    clip_mv: float

    def to_mv(self, counts: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return counts as float32 millivolts, exactly."""
        ecg_mv: NDArray[np.float32] = counts.astype(np.float32) * np.float32(self.lsb_mv)
        return ecg_mv


@dataclass(frozen=True)
class Source:
    """What a variant is made from: the trained model, and what belongs to one lead set."""

    model: EcgModel
    calibration: LeadSetCalibration | None
    probe: LinearProbe | None
    rate_hz: float

    def metadata(self, leads: Sequence[str]) -> dict[str, str]:
        """Return what every file of a lead set says of itself."""
        return {
            "leads": format_lead_set(leads),
            "precision": "fp32",
            "rate_hz": f"{self.rate_hz:g}",
            "unit": "mV",
        }


@dataclass(frozen=True)
class BuiltVariant:
    """A variant's specification, its file, and what the self-test expects of it."""

    spec: VariantSpec
    onnx_bytes: bytes
    expected: Expected


def export_exact(source: Source, leads: tuple[str, ...], *, window_samples: int) -> onnx.ModelProto:
    """Return the float file of one lead set, from which all others are made."""
    network = fold_lead_set(source.model, leads, source.calibration, probe=source.probe)
    return export_onnx(
        network,
        n_leads=len(leads),
        window_samples=window_samples,
        output_names=network.output_names,
        metadata=source.metadata(leads),
    )


def build_variants(
    source: Source,
    leads: tuple[str, ...],
    *,
    precisions: Sequence[Precision],
    flavour: Flavour,
    windows: Windows,
    int8_gate: Int8Gate,
    int8_options: Int8Options | None = None,
) -> list[BuiltVariant]:
    """Export one lead set in each precision and hold it against the network.

    Raises
    ------
    EngineError
        If the float file differs from torch by more than rounding, or a file of lower precision turns the embedding
        and the gate does not say to leave it out.
    """
    exact = export_exact(source, leads, window_samples=windows.gate.shape[2])
    held = _HeldWindows(source, leads, _Reference.of(source, leads, windows))
    candidates = int8_candidates(
        exact,
        windows.to_mv(windows.calibration),
        leads=leads,
        flavour=flavour,
        clip_mv=windows.clip_mv,
        lsb_mv=windows.lsb_mv,
        options=int8_options,
    )
    return against_network(held, exact, candidates, precisions=precisions, gate=int8_gate)


class Held(Protocol):
    """One lead set in one form, ready to hold files against the network's answers."""

    @property
    def source(self) -> Source:
        """The trained model, and what belongs to the lead set."""
        ...

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads."""
        ...

    @property
    def stream(self) -> StreamSpec | None:
        """How the streaming form is fed; None for the window form."""
        ...

    @property
    def gate(self) -> Outputs:
        """The network's answers to the gate's input."""
        ...

    @property
    def self_test(self) -> Outputs:
        """The network's answers to the self-test's input."""
        ...

    def answers(self, onnx_bytes: bytes, spec: VariantSpec) -> tuple[Outputs, Outputs]:
        """Return what a file says to the gate's input, and to the self-test's."""
        ...

    def more_results(self) -> dict[str, float]:
        """Return what else the bundle should tell of this form."""
        ...


def against_network(
    held: Held,
    exact: onnx.ModelProto,
    candidates: Iterable[Candidate],
    *,
    precisions: Sequence[Precision],
    gate: Int8Gate,
) -> list[BuiltVariant]:
    """Return the variants of a float file, and of the files of lower precision made of it, that pass their gates.

    `candidates` are INT8 files, the fastest first, each made when it is asked for. The first that also reaches the
    cosine that the gate wants is taken; where none does, the first that passes.

    Raises
    ------
    EngineError
        See `build_variants`.
    """
    built = [_vetted(held, exact, "fp32")]
    if "fp16" in precisions:
        of_fp16 = replace(gate, min_cosine=FP16_MIN_COSINE, min_median_cosine=FP16_MIN_COSINE)
        built += _fastest_that_passes([Candidate(lambda: to_fp16(exact), {})], held, "fp16", of_fp16)
    if "int8" in precisions:
        built += _fastest_that_passes(candidates, held, "int8", gate)
    return [variant for variant in built if variant.spec.precision in precisions]


def _fastest_that_passes(
    candidates: Iterable[Candidate], held: Held, precision: Precision, gate: Int8Gate
) -> list[BuiltVariant]:
    """Return the first file that passes the gate and reaches the wanted cosine, else the first that passes.

    None where no file passes and the gate says to leave it out.
    """
    refused: QuantizationError | None = None
    passed: BuiltVariant | None = None
    n_refused = 0
    for candidate in candidates:
        if candidate.last_resort and passed is not None:
            break
        try:
            built = _vetted(held, candidate.make(), precision, gate=gate)
        except QuantizationError as error:
            refused, n_refused = error, n_refused + 1
            continue
        results = {**built.spec.results, **candidate.notes, "forms_refused_before": float(n_refused)}
        built = replace(built, spec=replace(built.spec, results=results))
        if built.spec.results.get("centred_cosine_gated", 1.0) >= gate.wanted_cosine:
            return [built]
        passed = passed or built
    if passed is not None:
        return [passed]
    if refused is not None and gate.otherwise == "refuse":
        raise refused
    return []


def with_embedding(variant: BuiltVariant, windows: Windows) -> BuiltVariant:
    """Say in a window form's specification where its own embeddings lie, of training and of tune windows.

    A streaming form, or one whose embeddings are too few or too alike to say, stays as it is.
    """
    spec = variant.spec
    if spec.stream is not None:
        return variant
    rows = standard_rows(spec.leads)
    with OrtRunner(variant.onnx_bytes, leads=spec.leads, precision=spec.precision) as runner:
        training, unseen = (
            _embeddings(runner, windows.to_mv(counts[:, rows]))
            for counts in (windows.calibration[:EMBEDDED_WINDOWS], windows.gate)
        )
    try:
        return replace(variant, spec=replace(spec, embedding=fit_envelope(training, unseen)))
    except ValueError:
        return variant


def _embeddings(runner: OrtRunner, ecg_mv: NDArray[np.float32]) -> NDArray[np.float32]:
    batches = np.array_split(ecg_mv, max(1, len(ecg_mv) // 64))
    return np.concatenate([runner.run(np.ascontiguousarray(batch))["embedding"] for batch in batches])


@dataclass(frozen=True)
class _Reference:
    """Windows of one lead set as (n, K, T) millivolts, and the network's answers to them."""

    gate_mv: NDArray[np.float32]
    gate: Outputs
    self_test_mv: NDArray[np.float32]
    self_test: Outputs

    @classmethod
    def of(cls, source: Source, leads: tuple[str, ...], windows: Windows) -> _Reference:
        rows = standard_rows(leads)
        gate, self_test = windows.to_mv(windows.gate), windows.to_mv(windows.self_test)
        model, calibration, probe = source.model, source.calibration, source.probe
        return cls(
            gate[:, rows],
            masked_outputs(model, gate, leads, calibration, probe=probe),
            self_test[:, rows],
            masked_outputs(model, self_test, leads, calibration, probe=probe),
        )


@dataclass(frozen=True)
class _HeldWindows:
    """A lead set's window form."""

    source: Source
    leads: tuple[str, ...]
    reference: _Reference
    stream: StreamSpec | None = None

    @property
    def gate(self) -> Outputs:
        return self.reference.gate

    @property
    def self_test(self) -> Outputs:
        return self.reference.self_test

    def answers(self, onnx_bytes: bytes, spec: VariantSpec) -> tuple[Outputs, Outputs]:
        with OrtRunner(onnx_bytes, leads=self.leads, precision=spec.precision) as runner:
            return runner.run(self.reference.gate_mv), runner.run(self.reference.self_test_mv)

    def more_results(self) -> dict[str, float]:
        return {}


def _vetted(
    held: Held, model: onnx.ModelProto, precision: Precision, *, gate: Int8Gate | None = None
) -> BuiltVariant:
    """Return the variant of a file that passes its gate."""
    onnx_bytes = model.SerializeToString(deterministic=True)
    cost, calibration = graph_cost(model), held.source.calibration
    form = precision if held.stream is None else f"{precision}/stream"
    spec = VariantSpec(
        leads=held.leads,
        precision=precision,
        file=f"variants/{format_lead_set(held.leads).replace(',', '_')}/{form}/model.onnx",
        parameters=cost.parameters,
        macs=cost.macs,
        tolerance=0.0,
        interval_halfwidth_mmhg=None if calibration is None else calibration.interval_halfwidth_mmhg,
        interval_coverage=None if calibration is None else calibration.interval_coverage,
        stream=held.stream,
    )
    on_gate, on_self_test = held.answers(onnx_bytes, spec)
    comparison = compare(held.gate, on_gate)
    if precision == "fp32":
        require_exact(comparison, variant=spec.name)
    else:
        require_close(comparison, variant=spec.name, gate=gate)
    tolerance = _tolerances(compare(held.self_test, on_self_test), precision)
    results = {**_results(comparison), **held.more_results()}
    spec = replace(spec, tolerance=max(tolerance.values()), results=results)
    return BuiltVariant(spec, onnx_bytes, Expected(held.self_test, tolerance))


def _tolerances(comparison: Comparison, precision: Precision) -> dict[str, float]:
    margin, floor = _TOLERANCES[precision]
    return {
        name: max(margin * difference.max_abs, floor * max(1.0, difference.scale))
        for name, difference in comparison.outputs.items()
    }


def _results(comparison: Comparison) -> dict[str, float]:
    results = {f"max_abs_difference_{name}": d.max_abs for name, d in comparison.outputs.items()}
    cosines = {
        "centred_cosine_median": comparison.median_cosine,
        "centred_cosine_min": comparison.min_cosine,
        "centred_cosine_gated": comparison.gated_cosine,
    }
    known = {name: value for name, value in cosines.items() if value is not None}
    return {**results, **known, "windows": float(comparison.windows)}
