"""The public surface: these names, nothing that costs anything until it is used, and the example in the docs."""

import subprocess
import sys

import numpy as np
import pytest

import ecgedge

NAMES = ["Bed", "Recording", "load_bundle", "predict", "read"]
HEAVY = ["numpy", "scipy", "onnxruntime", "torch", "wfdb", "pydicom", "typer", "aiohttp", "ecgedge_train"]


def test_the_names_are_these_and_no_others():
    assert sorted(ecgedge.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_documented(name):
    assert getattr(ecgedge, name).__doc__


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'Beds'.*load_bundle"):
        _ = ecgedge.Beds


def _python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_import_alone_is_cheap():
    code = f"import sys, ecgedge; print([name for name in {HEAVY} if name in sys.modules])"
    assert _python(code) == "[]\n"


def test_star_import_gives_the_names():
    code = f"from ecgedge import *; print(all(name in globals() for name in {NAMES}))"
    assert _python(code) == "True\n"


def test_the_device_side_loads_no_training_package():
    code = (
        "import sys, ecgedge; ecgedge.Bed(ecgedge.load_bundle('embedded'), leads=('I', 'II'), rate_hz=500.0)\n"
        "print([name for name in ('torch', 'onnx', 'wfdb', 'ecgedge_train') if name in sys.modules])"
    )
    assert _python(code) == "[]\n"


def test_the_example_of_the_documentation(ecg_data):
    bundle = ecgedge.load_bundle("embedded")
    recording = ecgedge.read(ecg_data / "ludb" / "data" / "1.hea")
    (row,) = ecgedge.predict(bundle, [recording])
    bed = ecgedge.Bed(bundle, leads=recording.leads, rate_hz=recording.rate_hz)
    said = [e for e in bed.push(recording.samples_mv, t_s=0.0) if e.type == "estimate"]
    assert said == [row.estimate]
    two = ecgedge.Bed(bundle, leads=("I", "II"), rate_hz=500.0)
    (estimate,) = [e for e in two.push(recording.samples_mv[:2], t_s=0.0) if e.type == "estimate"]
    assert estimate.leads == ("I", "II")


def test_a_recording_can_be_made_from_an_array():
    samples_mv = np.random.default_rng(0).normal(0.0, 0.2, (2, 6000)).astype(np.float32)
    recording = ecgedge.Recording(samples_mv, 500.0, ("I", "II"))
    rows = ecgedge.predict(ecgedge.load_bundle("embedded"), [recording])
    assert [row.estimate.t_s for row in rows] == [10.0]
