"""INT8 of a streaming form, by ONNX Runtime's own quantizer: a joint of a layer's past and its chunk is 8 bits too.

The window form has a plan of its own (`qdq.py`), which does not know states. Here the first convolution and what
follows the pooling stay float, and so do the states at the boundary.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

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
from ecgedge_export.calibration import check_windows
from ecgedge_export.onnx_file import INPUT_NAME, strip_notes
from ecgedge_export.qdq import Flavour

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
        If there are too few windows, windows of another shape, or a flavour that streams are not written in.
    """
    if flavour not in _FLAVOURS:
        raise EngineError(f"a streaming form has no INT8 of the flavour {flavour}; export it in fp32")
    check_windows(calibration_mv)
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
