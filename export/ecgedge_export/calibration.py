"""The range of every activation, seen on real windows: what INT8 scales are made from.

"minmax" takes the whole range and is the default: calibrators that clip cut the QRS peaks, which are rare but carry
the information.

- "percentile": what share of the values must fit; 99.999 helps where a few artefacts have stretched the range.
- "entropy": the range whose 128 levels keep the histogram best, after TensorRT. ONNX Runtime's own default is as many
  bins as levels, which searches nothing and gives minmax; a search needs many bins, and many bins are what cuts the
  QRS. So entropy always searches here, over `bins` bins, and is there to compare with, not to ship.

These two keep all values of a window set in memory, and look at MAX_HISTOGRAM_WINDOWS of the windows.

What moves a single record's answer is a value beyond the range, of an artefact most of all: it saturates in layer after
layer. So ranges want many windows, and `headroom_ranges` adds what the same windows give when they are larger.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from ecgedge.bundle import StreamSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.leads import STANDARD_LEADS, standard_rows
from ecgedge.runtime.ort import open_session
from ecgedge_export.onnx_file import INPUT_NAME

MIN_CALIBRATION_WINDOWS = 16
MAX_HISTOGRAM_WINDOWS = 256
HEADROOM = 1.5
"""How much larger. Twice costs the ordinary record more resolution than it saves the odd one."""
_STREAM_BATCH = 16
ENTROPY_LEVELS = 128
_HELP = "minmax, percentile:99.99 or entropy (entropy:2048 names the bins)"

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Lowest and highest value by tensor name; 0 is always inside."""


@dataclass(frozen=True)
class Calibration:
    """How ranges are taken; see the head of this file.

    Attributes
    ----------
    percentile
        Share of the values, in per cent, that must fit; for "percentile" only.
    bins
        Of the histogram that is searched; for "entropy" only.
    """

    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = 99.999
    bins: int = 2048

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(f"percentile {self.percentile:g}: expected more than 50, at most 100")
        if self.bins <= ENTROPY_LEVELS:
            raise ValueError(
                f"{self.bins} bins for {ENTROPY_LEVELS} levels search nothing; take minmax, or more bins"
            )

    @classmethod
    def parse(cls, text: str) -> Calibration:
        """Read "minmax", "percentile:99.99", "entropy" or "entropy:2048".

        Raises
        ------
        UsageError
            If the text is something else.
        """
        method, _, number = text.partition(":")
        try:
            if method == "minmax" and not number:
                return cls()
            if method == "percentile":
                return cls("percentile", percentile=float(number)) if number else cls("percentile")
            if method == "entropy":
                return cls("entropy", bins=int(number)) if number else cls("entropy")
        except ValueError as error:
            raise UsageError(f"calibration {text!r}: {error}; expected {_HELP}") from error
        raise UsageError(f"unknown calibration {text!r}; expected {_HELP}")

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.method == "percentile":
            return f"percentile:{self.percentile:g}"
        return f"entropy:{self.bins}" if self.method == "entropy" else "minmax"

    @property
    def share_percent(self) -> float | None:
        """Share of the values that must fit, in per cent; None where the method does not say."""
        return {"minmax": 100.0, "percentile": self.percentile}.get(self.method)


def tensor_ranges(
    model: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    calibration: Calibration | None = None,
    stream: StreamSpec | None = None,
) -> Ranges:
    """Return the range of every float activation of a float variant.

    Parameters
    ----------
    model
        From `export_onnx`.
    calibration_mv
        (N, 12, T) float32 millivolts: real windows through the front end, of patients that the gate does not use.
    leads
        The variant's measured leads.
    stream
        Of a streaming form: each window is fed from a reset on, chunk by chunk, with the states that the file gives, so
        the ranges are those of a stream.

    Raises
    ------
    EngineError
        If there are too few windows, or windows of another shape.
    """
    chosen = calibration or Calibration()
    check_windows(calibration_mv)
    rows = standard_rows(leads)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # it prints its progress
        source = Path(folder) / "float.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        calibrator = create_calibrator(
            source, augmented_model_path=str(Path(folder) / "augmented.onnx"), **_options(chosen)
        )
        few = 1 if chosen.method == "minmax" else -(-len(calibration_mv) // MAX_HISTOGRAM_WINDOWS)
        ecg_mv = calibration_mv[::few, rows]
        feeds = _windows(ecg_mv) if stream is None else _streams(model, ecg_mv, stream)
        calibrator.collect_data(_Feeds(feeds))
        found = calibrator.compute_data()
    return {
        name: (min(0.0, _number(data.lowest)), max(0.0, _number(data.highest)))
        for name, data in found.items()
    }


def headroom_ranges(
    model: onnx.ModelProto,
    calibration_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    clip_mv: float,
    calibration: Calibration | None = None,
    stream: StreamSpec | None = None,
) -> Ranges:
    """Return ranges that hold the windows, and the windows HEADROOM times as large, clipped where the front end clips.

    Parameters
    ----------
    clip_mv
        No sample that the device sees is larger.
    model, calibration_mv, leads, calibration, stream
        As for `tensor_ranges`.
    """
    larger_mv = np.clip(np.float32(HEADROOM) * calibration_mv, -clip_mv, clip_mv).astype(np.float32)
    seen, larger = (
        tensor_ranges(model, ecg_mv, leads=leads, calibration=calibration, stream=stream)
        for ecg_mv in (calibration_mv, larger_mv)
    )
    return {
        name: (min(low, larger[name][0]), max(high, larger[name][1])) for name, (low, high) in seen.items()
    }


def _number(value: Any) -> float:
    return float(np.asarray(value).item())


def _options(calibration: Calibration) -> dict[str, Any]:
    if calibration.method == "minmax":
        return {"calibrate_method": CalibrationMethod.MinMax}
    if calibration.method == "percentile":
        extra: dict[str, Any] = {"percentile": calibration.percentile, "symmetric": False}
        return {"calibrate_method": CalibrationMethod.Percentile, "extra_options": extra}
    extra = {"num_bins": calibration.bins, "num_quantized_bins": ENTROPY_LEVELS, "symmetric": False}
    return {"calibrate_method": CalibrationMethod.Entropy, "extra_options": extra}


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Inputs by name, one run after the other."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[np.float32]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the inputs of the next run, or None at the end."""
        return next(self._feeds, None)


def _windows(ecg_mv: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield each of the (N, K, T) windows as (1, K, 1, T)."""
    for window in ecg_mv:
        yield {INPUT_NAME: np.ascontiguousarray(window[None, :, None, :])}


def _streams(
    model: onnx.ModelProto, ecg_mv: NDArray[np.float32], spec: StreamSpec
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield one step of some windows at a time, with the states that the float model gave at the step before."""
    session = open_session(model.SerializeToString(), threads=1, name="calibration")
    chunk = spec.chunk_samples
    for start in range(0, len(ecg_mv), _STREAM_BATCH):
        # The last batch reaches back to be as large as the others: histograms want all of one size.
        windows = ecg_mv[max(0, min(start, len(ecg_mv) - _STREAM_BATCH)) : start + _STREAM_BATCH]
        states = [np.zeros((1, c, len(windows), n), np.float32) for c, n in spec.state_shapes]
        for end in range(chunk, windows.shape[2] + 1, chunk):
            samples = np.ascontiguousarray(windows[:, :, None, end - chunk : end])
            feed = {INPUT_NAME: samples, **dict(zip(spec.state_names, states, strict=True))}
            yield feed
            states = session.run(list(spec.next_names), feed)


def check_windows(ecg_mv: NDArray[np.float32]) -> None:
    """Refuse windows that calibration cannot use.

    Raises
    ------
    EngineError
        If they are no float32 (N, 12, samples) of finite numbers, or too few.
    """
    if ecg_mv.ndim != 3 or ecg_mv.shape[1] != len(STANDARD_LEADS) or ecg_mv.dtype != np.float32:
        raise EngineError(
            f"calibration windows are {ecg_mv.dtype} {ecg_mv.shape}; give float32 (N, 12, samples)"
        )
    if len(ecg_mv) < MIN_CALIBRATION_WINDOWS:
        raise EngineError(
            f"{len(ecg_mv)} calibration windows are too few for the range of an ECG; give at least "
            f"{MIN_CALIBRATION_WINDOWS}, better 1,000"
        )
    if not np.isfinite(ecg_mv).all():
        raise EngineError("a calibration window holds NaN or infinity; take windows without gaps")
