"""One lead set of a trained causal model as streaming forms: fp32 and INT8, each past its gate.

A stream of real ECG is longer than a data set's windows, so the gate and the self-test join them end to end: a joint is
no heart beat, but both sides see the same one. The reference is the full-window network over that stream, with real
samples before each window; how far the plain window form is from it, which sees zeros there, goes into the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.bundle import Precision, StreamSpec, VariantSpec
from ecgedge.leads import format_lead_set, standard_rows
from ecgedge.runtime.selftest import joined_stream, stream_outputs
from ecgedge.runtime.step import StepRunner
from ecgedge_export.calibration import HEADROOM, Calibration, Ranges, headroom_ranges, tensor_ranges
from ecgedge_export.compare import Int8Gate, Outputs, centred_cosine, compare
from ecgedge_export.fold import masked_outputs, named_outputs
from ecgedge_export.int8 import FALLBACK, Candidate, Int8Options, calibration_notes
from ecgedge_export.onnx_file import export_step_onnx
from ecgedge_export.quant_plan import Flavour, make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.step_network import causal_encoder, step_network
from ecgedge_export.variants import BuiltVariant, Source, Windows, against_network
from ecgedge_train.heads import TrainingHead
from ecgedge_train.masking import fixed_lead_set
from ecgedge_train.model import EcgModel

GATE_WINDOWS = 24
"""Joined for the gate: four minutes."""
PLAIN_WINDOWS = 48
"""Windows at most that are held against the plain window form."""


def build_stream_variants(
    source: Source,
    leads: tuple[str, ...],
    *,
    precisions: Sequence[Precision],
    flavour: Flavour,
    windows: Windows,
    int8_gate: Int8Gate,
    int8_options: Int8Options | None = None,
) -> list[BuiltVariant]:
    """Export one lead set's streaming form in each precision and hold it against the network.

    Of `int8_options` the calibration applies alone: `export_run` refuses layers in float, and a step is not fine-tuned.

    Raises
    ------
    EngineError
        If the encoder is not causal; else as `build_variants`.
    """
    network = step_network(
        source.model,
        leads,
        source.calibration,
        window_samples=windows.gate.shape[2],
        probe=source.probe,
    )
    exact = export_step_onnx(network, metadata=source.metadata(leads))
    candidates = _candidates(
        exact,
        windows.to_mv(windows.calibration),
        leads=leads,
        spec=network.spec,
        flavour=flavour,
        clip_mv=windows.clip_mv,
        first=(int8_options or Int8Options()).calibration,
    )
    held = _HeldStream.of(source, leads, network.spec, windows)
    return against_network(held, exact, candidates, precisions=precisions, gate=int8_gate)


def _candidates(
    exact: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    spec: StreamSpec,
    flavour: Flavour,
    clip_mv: float,
    first: Calibration,
) -> Iterator[Candidate]:
    """Yield the INT8 form; one with headroom; one whose ranges leave out the largest 0.001 % of the values."""

    def form(ranges: Callable[..., Ranges], calibration: Calibration) -> onnx.ModelProto:
        found = ranges(exact, calibration_mv, leads=leads, calibration=calibration, stream=spec)
        return quantized_file(exact, make_plan(exact, found, flavour=flavour))

    larger = partial(headroom_ranges, clip_mv=clip_mv)
    yield Candidate(partial(form, tensor_ranges, first), calibration_notes(first))
    yield Candidate(partial(form, larger, first), calibration_notes(first, headroom=HEADROOM))
    if first != FALLBACK:
        yield Candidate(partial(form, tensor_ranges, FALLBACK), calibration_notes(FALLBACK))


@torch.inference_mode()
def full_window_outputs(
    source: Source, leads: Sequence[str], stream_mv: NDArray[np.float32], spec: StreamSpec
) -> dict[str, NDArray[np.float32]]:
    """Return what the full-window network says at the end of each chunk, given the real samples before each window.

    Through the unfolded 12-lead network, with no step and no state.

    Parameters
    ----------
    stream_mv
        (12, N) float32 millivolts; leads outside `leads` are masked here.

    Returns
    -------
    dict
        Outputs by name, (answers,) or (answers, size): one a chunk from `exact_after_samples` on.
    """
    model, encoder = source.model, causal_encoder(source.model.encoder)
    was_training = model.training
    model.eval()
    # Feature i ends at sample 32 i; 31 samples less at the beginning, and the last one ends with the stream.
    batch = torch.from_numpy(stream_mv[None, :, spec.frame_samples - 1 :])
    ecg_mv, presence = fixed_lead_set(batch, format_lead_set(leads))
    y = encoder.stem(ecg_mv.unsqueeze(2))
    if encoder.presence is not None:
        y = y + encoder.presence(presence)[:, :, None, None]
    features = encoder.time_features(y)
    ends = range(spec.exact_after_samples, stream_mv.shape[1] + 1, spec.chunk_samples)
    last = [end // spec.frame_samples for end in ends]
    pooled = [features[..., frame - spec.window_frames : frame] for frame in last]
    raw = _raw(model, torch.cat([encoder.from_features(window) for window in pooled]))
    model.train(was_training)
    return named_outputs(raw, model, source.calibration, probe=source.probe)


def _raw(model: EcgModel, embedding: Tensor) -> dict[str, NDArray[np.float32]]:
    raw: dict[str, Tensor] = {"embedding": embedding}
    for head in model.heads.values():
        if not isinstance(head, TrainingHead):
            raw.update(head(embedding))
    return {name: values.numpy() for name, values in raw.items()}


def window_form_difference(
    source: Source, leads: Sequence[str], stream_mv: NDArray[np.float32], reference: Outputs, spec: StreamSpec
) -> dict[str, float]:
    """Measure how far the plain window form, with zeros before each window, is from the reference.

    Returns
    -------
    dict
        `window_form_max_abs_difference_NAME` for each output, and the embedding's centred cosine, median and smallest.
    """
    n_answers = len(next(iter(reference.values())))
    chosen = np.unique(np.linspace(0, n_answers - 1, min(n_answers, PLAIN_WINDOWS)).astype(np.int64))
    # From the first frame's sample to the last's: the window form's own last samples, if any, are in no frame.
    length = spec.frame_samples * (spec.window_frames - 1) + 1
    ends = spec.exact_after_samples + chosen * spec.chunk_samples
    plain_mv = np.stack([stream_mv[:, end - length : end] for end in ends])
    plain = masked_outputs(source.model, plain_mv, leads, source.calibration, probe=source.probe)
    kept = {name: values[chosen] for name, values in reference.items()}
    cosine = centred_cosine(kept["embedding"], plain["embedding"])
    differences = compare(kept, plain).outputs
    return {
        **{f"window_form_max_abs_difference_{name}": d.max_abs for name, d in differences.items()},
        "window_form_centred_cosine_median": float(np.median(cosine)),
        "window_form_centred_cosine_min": float(cosine.min()),
    }


@dataclass(frozen=True)
class _HeldStream:
    """A lead set's streaming form, with the streams (K, N) that it is held on."""

    source: Source
    leads: tuple[str, ...]
    stream: StreamSpec
    gate: Outputs
    self_test: Outputs
    gate_mv: NDArray[np.float32]
    self_test_mv: NDArray[np.float32]
    to_window_form: dict[str, float]

    @classmethod
    def of(cls, source: Source, leads: tuple[str, ...], spec: StreamSpec, windows: Windows) -> _HeldStream:
        rows = standard_rows(leads)
        gate_mv = windows.to_mv(joined_stream(windows.gate[:GATE_WINDOWS], spec))
        self_test_mv = windows.to_mv(joined_stream(windows.self_test, spec))
        gate = full_window_outputs(source, leads, gate_mv, spec)
        return cls(
            source,
            leads,
            spec,
            gate,
            full_window_outputs(source, leads, self_test_mv, spec),
            gate_mv[rows],
            self_test_mv[rows],
            window_form_difference(source, leads, gate_mv, gate, spec),
        )

    def answers(self, onnx_bytes: bytes, spec: VariantSpec) -> tuple[Outputs, Outputs]:
        with StepRunner(onnx_bytes, spec, beds=1) as runner:
            on_gate = stream_outputs(runner, self.gate_mv, beds=[0])
            on_self_test = stream_outputs(runner, self.self_test_mv, beds=[0])
        return of_first_bed(on_gate), of_first_bed(on_self_test)

    def more_results(self) -> dict[str, float]:
        return self.to_window_form


def of_first_bed(outputs: Outputs) -> Outputs:
    """Return what `stream_outputs` gives of the first bed."""
    return {name: values[:, 0] for name, values in outputs.items()}
