"""INT8 as explicit QDQ: what the file says is what every engine does.

Two flavours, since no one file suits both engines:

- "cpu": unsigned asymmetric activations, signed weights per channel. On x86 with VNNI, ONNX Runtime runs it faster
  than signed activations. TensorRT refuses it (zero points other than 0).
- "rtx": everything signed and symmetric, biases in float: TensorRT has no int32 DequantizeLinear.

Calibration takes the whole range (percentile 100) by default: calibrators that clip hard cut the QRS peaks, which
are rare but carry the information. A percentile of 99.999 helps where a few artefacts have stretched the range.

Two ends stay float. The first convolution: 8 bits over +-5 mV are steps of 39 uV, a third of a P wave, and a large
artefact would saturate before any filter has seen it. What follows the pooling (embedding, heads, probe): it is
under 1 % of the work, and a pressure in mmHg does not fit 256 steps.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from ecgedge.bundle import StreamSpec
from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime.ort import open_session
from ecgedge_export.onnx_file import INPUT_NAME, strip_notes

Flavour = Literal["cpu", "rtx"]
MIN_CALIBRATION_WINDOWS = 16
_STREAM_BATCH = 16
WHOLE_RANGE = 100.0
# Concat: a streaming form's layer joins its past and its chunk; in 8 bits that is 1.3 times as fast.
QUANTIZED_OPS = ("Conv", "Add", "MaxPool", "Relu", "Concat")
_FLAVOURS: dict[str, dict[str, Any]] = {
    "cpu": {
        "activation_type": QuantType.QUInt8,
        "extra_options": {"ActivationSymmetric": False, "WeightSymmetric": True},
    },
    "rtx": {
        "activation_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    },
}


def quantize(
    model: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    flavour: Flavour,
    percentile: float = WHOLE_RANGE,
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
        "cpu" or "rtx", see the head of this file.
    percentile
        Share of the activations' values, in per cent, that must fit into the 8-bit range.

    Raises
    ------
    EngineError
        If there are too few windows, or windows of another shape.
    """
    _check_windows(calibration_mv)
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    return _quantized(model, _Windows(calibration_mv[:, rows]), flavour=flavour, percentile=percentile)


def quantize_step(
    model: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    spec: StreamSpec,
    flavour: Flavour,
    percentile: float = WHOLE_RANGE,
) -> onnx.ModelProto:
    """Return the INT8 QDQ form of a streaming form; the states stay float at its boundary.

    Each calibration window is streamed from a reset on, chunk by chunk, with the states that the float form gives: so
    the ranges are those of a stream. The other arguments are those of `quantize`.

    Raises
    ------
    EngineError
        If there are too few windows, or windows of another shape.
    """
    _check_windows(calibration_mv)
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    feeds = _Streams(model, calibration_mv[:, rows], spec)
    return _quantized(model, feeds, flavour=flavour, percentile=percentile)


def _quantized(
    model: onnx.ModelProto, feeds: CalibrationDataReader, *, flavour: Flavour, percentile: float
) -> onnx.ModelProto:
    float_nodes = _stay_float(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            target,
            feeds,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=float_nodes,
            per_channel=True,
            weight_type=QuantType.QInt8,
            **_options(flavour, percentile),
        )
        quantized: onnx.ModelProto = onnx.load(target)
    metadata = {item.key: item.value for item in model.metadata_props} | {"precision": "int8"}
    strip_notes(quantized)
    for key, value in sorted(metadata.items()):
        quantized.metadata_props.add(key=key, value=value)
    return quantized


def _stay_float(model: onnx.ModelProto) -> list[str]:
    """Return the names of the first convolution and of all joints but those of a later layer with its past."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    read = {
        node.input[0]
        for node in model.graph.node
        if node.op_type in ("Conv", "MaxPool") and node is not first
    }
    joints = [node for node in model.graph.node if node.op_type == "Concat"]
    return [first.name, *(node.name for node in joints if node.output[0] not in read)]


def _options(flavour: Flavour, percentile: float) -> dict[str, Any]:
    options = _FLAVOURS[flavour]
    if percentile == WHOLE_RANGE:
        return {**options, "calibrate_method": CalibrationMethod.MinMax}
    return {
        **options,
        "calibrate_method": CalibrationMethod.Percentile,
        "extra_options": {**options["extra_options"], "CalibPercentile": percentile},
    }


class _Windows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """One window at a time: the (N, K, T) calibration windows."""

    def __init__(self, ecg_mv: NDArray[np.float32]) -> None:
        self._windows = iter(ecg_mv)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next window as (1, K, 1, T), or None at the end."""
        window = next(self._windows, None)
        return None if window is None else {INPUT_NAME: np.ascontiguousarray(window[None, :, None, :])}


class _Streams(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """One step of one batch of windows at a time, with the states that the float model gave at the step before."""

    def __init__(self, model: onnx.ModelProto, ecg_mv: NDArray[np.float32], spec: StreamSpec) -> None:
        self._session = open_session(model.SerializeToString(), threads=1, name="calibration")
        self._spec = spec
        self._feeds = self._steps(ecg_mv)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the inputs of the next step, or None at the end."""
        return next(self._feeds, None)

    def _steps(self, ecg_mv: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
        chunk = self._spec.chunk_samples
        for start in range(0, len(ecg_mv), _STREAM_BATCH):
            windows = ecg_mv[start : start + _STREAM_BATCH]
            states = [np.zeros((1, c, len(windows), n), np.float32) for c, n in self._spec.state_shapes]
            for end in range(chunk, windows.shape[2] + 1, chunk):
                samples = np.ascontiguousarray(windows[:, :, None, end - chunk : end])
                feed = {INPUT_NAME: samples, **dict(zip(self._spec.state_names, states, strict=True))}
                yield feed
                states = self._session.run(list(self._spec.next_names), feed)


def _check_windows(ecg_mv: NDArray[np.float32]) -> None:
    if ecg_mv.ndim != 3 or ecg_mv.shape[1] != len(STANDARD_LEADS) or ecg_mv.dtype != np.float32:
        raise EngineError(
            f"calibration windows are {ecg_mv.dtype} {ecg_mv.shape}; give float32 (N, 12, samples)"
        )
    if len(ecg_mv) < MIN_CALIBRATION_WINDOWS:
        raise EngineError(
            f"{len(ecg_mv)} calibration windows are too few for the range of an ECG; give at least "
            f"{MIN_CALIBRATION_WINDOWS}, better 256"
        )
    if not np.isfinite(ecg_mv).all():
        raise EngineError("a calibration window holds NaN or infinity; take windows without gaps")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime: its advice to pre-process (the exporter has folded what it would fold), its prints."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addFilter(keep)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(keep)
