"""The GPU kernel without a GPU: its numbers under triton's interpreter, its machine code from the compiler."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton comes with PyTorch's CUDA builds")

# triton decides between interpreter and compiler when it is imported, so each runs in a process of its own.
COMPARE = """
import json, sys
import numpy as np
import torch
from ecgedge_train.distances.dtw import dtw_matrix
from ecgedge_train.distances.dtw_triton import dtw_matrix_cuda

device = "cuda" if torch.cuda.is_available() else "cpu"
worst = {}
for case in json.loads(sys.argv[1]):
    batch, leads, samples, masked, kwargs = case
    rng = np.random.default_rng(samples)
    windows = rng.normal(size=(batch, leads, samples)).astype(np.float32)
    presence = (rng.random((batch, leads)) < 0.7).astype(np.float32) if masked else None
    on_device = None if presence is None else torch.from_numpy(presence).to(device)
    found = dtw_matrix_cuda(torch.from_numpy(windows).to(device), on_device, **kwargs).cpu().numpy()
    expected = dtw_matrix(windows, presence, **kwargs)
    assert expected.max() > 1
    worst[str(case)] = float(np.abs(found - expected).max() / expected.max())
print(json.dumps(worst))
"""
CASES = [
    [3, 3, 31, False, {"band_fraction": 0.13, "paa": 1}],  # radius 4: the corner is on a wide anti-diagonal
    [3, 2, 30, True, {"band_fraction": 0.1, "paa": 1}],  # radius 3: on a narrow one
    [3, 2, 50, False, {"band_fraction": 1.0, "paa": 4}],  # no band, a last group of 2
    [2, 1, 12, False, {"band_fraction": 0.0, "paa": 1}],
    [2, 2, 40, False, {"band_fraction": 0.9, "paa": 1}],  # 64 places, two of them a lane
]

COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ecgedge_train.distances.dtw_triton import _kernel

kinds = {"LEADS": "constexpr", "WIDTH": "constexpr", "MASKED": "constexpr", "pairs": "*i32"}
kinds |= dict.fromkeys(("frames", "measured", "squared"), "*fp32")
signature = {name: kinds.get(name, "i32") for name in _kernel.arg_names}
source = ASTSource(fn=_kernel, signature=signature, constexprs={"LEADS": 12, "WIDTH": 32, "MASKED": True})
options = {"num_warps": 1, "enable_fp_fusion": True}
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
print(json.dumps({"shared": made.metadata.shared, "ptx": made.asm["ptx"]}))
"""


def run(code, *arguments, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_kernel_gives_the_cpus_numbers():
    import torch

    interpreter = "0" if torch.cuda.is_available() else "1"
    worst = run(COMPARE, json.dumps(CASES), TRITON_INTERPRET=interpreter)
    assert len(worst) == len(CASES)
    assert all(error < 1e-6 for error in worst.values()), worst


def test_the_default_is_one_warp_without_barriers_or_spills(tmp_path):
    """What the module says of compute capability 9.0: a shuffle in the loop, no shared memory, no local memory."""
    made = run(COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert made["shared"] == 0
    assert "shfl.sync.idx" in made["ptx"]
    assert "bar.sync" not in made["ptx"]
    assert ".local" not in made["ptx"]
