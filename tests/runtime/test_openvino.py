"""What is OpenVINO's own: the answers of ONNX Runtime on a real network, its settings, and no word to anybody."""

import subprocess
import sys

import numpy as np
from hand_made import mean_model

from ecgedge.bundle import load_bundle
from ecgedge.runtime import OpenVinoRunner, OrtRunner, open_runner
from ecgedge.runtime.openvino import _openvino

LEADS = ("I", "II")


def test_agrees_with_onnx_runtime_on_the_embedded_bundle():
    """Windows of any kind, not only those of the self-test; fp32 on both sides, so only rounding differs."""
    bundle = load_bundle("embedded")
    rng = np.random.default_rng(1)
    for variant in bundle.manifest.variants:
        ecg = rng.normal(0.0, 0.3, (3, len(variant.leads), 2500)).astype(np.float32)
        with (
            open_runner(bundle, variant, runtime="openvino") as ours,
            open_runner(bundle, variant, runtime="ort") as theirs,
        ):
            assert isinstance(ours, OpenVinoRunner)
            assert isinstance(theirs, OrtRunner)
            found, expected = ours.run(ecg), theirs.run(ecg)
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def test_settings_are_taken():
    """One thread, one stream, the file's own precision: as OpenVINO says, not as we asked."""
    with OpenVinoRunner(mean_model(), leads=LEADS, precision="fp32") as runner:
        compiled = runner._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("NUM_STREAMS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == _openvino().Type.f32
        assert compiled.get_property("ENABLE_CPU_PINNING") is False


QUIET = """
import sys
from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
bundle = load_bundle("embedded")
open_runner(bundle, bundle.manifest.variants[-1], runtime="openvino").close()
print([name for name in sys.modules if "telemetry" in name or name.startswith("openvino.tools")])
"""


def test_nothing_that_reports_home_is_imported():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
