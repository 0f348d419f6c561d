"""What a bed that starts does not load: each of these cost a tenth of the time until its first answer, or more."""

import subprocess
import sys

FIRST_ANSWER = """
import sys
import numpy as np
from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
bundle = load_bundle("embedded")
with open_runner(bundle, bundle.manifest.variants[0]) as runner:
    runner.run(np.zeros((1, 12, 2500), np.float32))
print(*sys.modules, sep="\\n")
"""


def test_a_first_answer_loads_nothing_that_it_does_not_need():
    done = subprocess.run([sys.executable, "-c", FIRST_ANSWER], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "onnxruntime", "ecgedge.runtime.selftest"} <= loaded
    heavy = {"torch", "onnx", "scipy", "cryptography", "typer", "importlib.metadata", "importlib.resources"}
    small = {
        "tomllib",
        "difflib",
        "tempfile",
        "ecgedge.target",
        "ecgedge.runtime.engines",
        "ecgedge.runtime.trt",
    }
    assert not loaded & (heavy | small)
