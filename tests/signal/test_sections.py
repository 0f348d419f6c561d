"""The filters without scipy.signal: the same numbers, the same bits, and no import of it while serving."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import sosfilt

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import sections
from ecgedge.signal.front_end import FrontEnd

SPEC = FrontEndSpec()


def test_the_written_design_is_that_of_scipy():
    written, steady = sections.design(SPEC)
    made, made_steady = sections.design_with_scipy(SPEC)
    # Another LAPACK may round a root otherwise; nothing more.
    np.testing.assert_allclose(written, made, rtol=1e-14, atol=0)
    np.testing.assert_allclose(steady, made_steady, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_hz": 500.0},
        {"highpass_hz": 0.05},
        {"notch_hz": (50.0,)},
        {"notch_q": 20.0},
        {"lowpass_hz": 100.0},
    ],
)
def test_another_front_end_has_another_design(change):
    spec = replace(SPEC, **change)
    np.testing.assert_array_equal(sections.design(spec)[0], sections.design_with_scipy(spec)[0])
    assert not np.array_equal(sections.design(spec)[0], sections.design(SPEC)[0])


def test_what_is_no_filter_does_not_change_the_design():
    spec = replace(SPEC, clip_mv=2.0, settle_s=1.0, lsb_mv=2.0**-13)
    np.testing.assert_array_equal(sections.design(spec)[0], sections.design(SPEC)[0])


def test_the_loop_gives_the_bits_of_scipy():
    rng = np.random.default_rng(0)
    coefficients, _ = sections.design(SPEC)
    samples, state = rng.normal(size=(12, 777)), rng.normal(size=(12, len(coefficients), 2))
    expected, left = sosfilt(coefficients, samples, zi=np.moveaxis(state, 1, 0))
    sections.filter_in_place(coefficients, samples, state)
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(state, np.moveaxis(left, 0, 1))


def _counts():
    samples_mv = np.random.default_rng(1).normal(0.0, 1.0, (3, 4000)).astype(np.float32)
    samples_mv[1, 1000:1900] = np.nan
    front_end = FrontEnd(SPEC, n_leads=3, rate_hz=500.0)
    return np.concatenate(
        [front_end.push(samples_mv[:, i : i + 37]).counts for i in range(0, 4000, 37)], axis=1
    )


class _Empty:
    pass


class _Moved:
    """What `sys.modules` would hold if scipy called its loop otherwise."""

    def __init__(self, loop):
        self._sosfilt = loop


def _takes_two(coefficients, samples):
    raise AssertionError("never called: there are three arguments")


def _does_nothing(coefficients, samples, state):
    return None


@pytest.mark.parametrize(
    "extension",
    [_Empty(), _Moved(_takes_two), _Moved(_does_nothing)],
    ids=["gone", "other arguments", "other result"],
)
def test_another_scipy_serves_through_its_public_function(monkeypatch, extension):
    expected = _counts()
    sections._loop.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy.signal._sosfilt", extension)
    try:
        assert sections._loop() is sections._through_the_public_door
        monkeypatch.undo()  # scipy.signal itself needs its loop
        np.testing.assert_array_equal(_counts(), expected)
    finally:
        sections._loop.cache_clear()


def test_this_scipy_serves_through_its_loop():
    assert sections._loop() is not sections._through_the_public_door


SERVE = """
import sys
import numpy as np
import ecgedge
bed = ecgedge.Bed(ecgedge.load_bundle("embedded"), leads=("I", "II"), rate_hz=500.0)
events = bed.push(np.random.default_rng(0).normal(0, 0.2, (2, 5500)).astype(np.float32), t_s=0.0)
assert [e for e in events if e.__class__.__name__ == "Estimate"], events
assert "scipy.signal" not in sys.modules
import scipy.signal
print(scipy.signal.sosfilt([[1, 0, 0, 1, 0, 0]], [3.0])[0])
"""


def test_serving_does_not_import_scipy_signal_and_leaves_it_usable():
    done = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3.0\n"
