"""Ranges of activations: what each calibrator sees, and what it cuts."""

import numpy as np
import pytest
from torch import nn

from ecgedge.errors import EngineError, UsageError
from ecgedge_export.calibration import (
    HEADROOM,
    MAX_HISTOGRAM_WINDOWS,
    Calibration,
    headroom_ranges,
    tensor_ranges,
)
from ecgedge_export.onnx_file import export_onnx


class Doubled(nn.Module):
    """A convolution that doubles its input, so that its range is known."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, (1, 1), bias=False)
        nn.init.constant_(self.conv.weight, 2.0)

    def forward(self, x):
        return (self.conv(x).mean(dim=(2, 3)),)


@pytest.fixture(scope="module")
def doubled():
    return export_onnx(Doubled(), n_leads=1, window_samples=500, output_names=["embedding"], metadata={})


@pytest.fixture(scope="module")
def windows():
    """Noise of 0.1 mV, and one spike of 4 mV in 8,000 samples."""
    made = np.random.default_rng(0).normal(0, 0.1, (16, 12, 500)).astype(np.float32)
    made[3, 0, 100] = 4.0
    return made


def reach(model, windows, calibration):
    ranges = tensor_ranges(model, windows, leads=("I",), calibration=calibration)
    [convolution] = [node for node in model.graph.node if node.op_type == "Conv"]
    return ranges[convolution.output[0]]


def test_the_whole_range(doubled, windows):
    low, high = reach(doubled, windows, None)
    assert (low, high) == (pytest.approx(2 * windows[:, 0].min()), pytest.approx(8.0))
    assert tensor_ranges(doubled, windows, leads=("I",))["ecg_mv"][1] == pytest.approx(4.0)


def test_headroom_ends_where_the_front_end_clips(doubled, windows):
    ranges = headroom_ranges(doubled, windows, leads=("I",), clip_mv=5.0)
    low, high = ranges["ecg_mv"]
    assert (low, high) == (pytest.approx(HEADROOM * windows[:, 0].min()), 5.0)
    [convolution] = [node for node in doubled.graph.node if node.op_type == "Conv"]
    assert ranges[convolution.output[0]] == (pytest.approx(2 * low), 10.0)


def test_headroom_never_narrows(doubled, windows):
    """Windows that were clipped elsewhere, at 4 mV, keep their own range."""
    assert headroom_ranges(doubled, windows, leads=("I",), clip_mv=1.0)["ecg_mv"][1] == pytest.approx(4.0)


def test_histograms_look_at_some_of_the_windows(doubled, windows):
    """Every third of 600 here: the spike of the window between them is not seen."""
    many = np.concatenate([windows[:1]] * 600)
    many[1, 0, 100] = 4.0
    assert len(many) > 2 * MAX_HISTOGRAM_WINDOWS
    assert reach(doubled, many, Calibration("percentile", percentile=100.0))[1] < 1.2
    assert reach(doubled, many, None)[1] == pytest.approx(8.0)


def test_a_percentile_cuts_the_spike(doubled, windows):
    low, high = reach(doubled, windows, Calibration("percentile", percentile=99.9))
    assert 0.4 < high < 1.2
    assert -1.2 < low < -0.4


def test_entropy_cuts_the_spike_too(doubled, windows):
    """The trap: it searches many bins, and a QRS is as rare as this spike."""
    _, high = reach(doubled, windows, Calibration("entropy"))
    assert high < 4.0


def test_zero_is_always_inside(doubled, windows):
    low, high = reach(doubled, np.abs(windows) + np.float32(1), None)
    assert low == 0.0
    assert high > 2.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minmax", Calibration()),
        ("percentile:99.99", Calibration("percentile", percentile=99.99)),
        ("percentile", Calibration("percentile", percentile=99.999)),
        ("entropy", Calibration("entropy", bins=2048)),
        ("entropy:512", Calibration("entropy", bins=512)),
    ],
)
def test_parse(text, expected):
    assert Calibration.parse(text) == expected
    assert Calibration.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean", "unknown calibration 'mean'; expected minmax"),
        ("minmax:3", "unknown calibration"),
        ("percentile:many", "could not convert"),
        ("percentile:3", "more than 50"),
        ("entropy:128", "128 bins for 128 levels search nothing"),
    ],
)
def test_not_a_calibration(text, message):
    with pytest.raises(UsageError, match=message):
        Calibration.parse(text)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros((3, 12, 500), np.float32), "3 calibration windows are too few"),
        (np.zeros((20, 2, 500), np.float32), r"float32 \(20, 2, 500\)"),
        (np.zeros((20, 12, 500)), "float64"),
        (np.full((20, 12, 500), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_windows(doubled, windows, message):
    with pytest.raises(EngineError, match=message):
        tensor_ranges(doubled, windows, leads=("I",))
