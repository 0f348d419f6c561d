"""A Recording refuses what no ECG can be."""

import numpy as np
import pytest

from ecgedge.ecg import Recording, require_gapless
from ecgedge.errors import RecordError


def _recording(**changes):
    given = {"samples_mv": np.zeros((2, 500), np.float32), "rate_hz": 250.0, "leads": ("I", "II")}
    return Recording(**{**given, **changes})


def test_duration():
    assert _recording().duration_s == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_mv": np.zeros((3, 500), np.float32)}, "2 leads are named"),
        ({"samples_mv": np.zeros(500, np.float32)}, "expected .n_leads, n_samples"),
        ({"samples_mv": np.zeros((2, 500))}, "float64, expected float32"),
        ({"samples_mv": np.zeros((2, 0), np.float32)}, "holds no samples"),
        ({"rate_hz": -250.0}, "-250 Hz is not usable"),
        ({"rate_hz": float("nan")}, "not usable"),
        ({"leads": ("II", "I")}, "standard order"),
        ({"leads": ("I", "Q")}, "standard leads"),
        ({"samples_mv": np.full((2, 500), np.inf, np.float32)}, "infinite"),
        ({"samples_mv": np.full((2, 500), 2000.0, np.float32)}, "microvolts"),
    ],
)
def test_impossible_recordings_are_refused(changes, message):
    with pytest.raises(RecordError, match=message):
        _recording(**changes)


def test_a_gap_is_found_and_placed():
    samples_mv = np.zeros((2, 500), np.float32)
    samples_mv[1, 250:260] = np.nan
    with pytest.raises(RecordError, match=r"10 samples are missing .* lead II at 1\.000 s"):
        require_gapless(_recording(samples_mv=samples_mv))
    whole = _recording()
    assert require_gapless(whole) is whole
