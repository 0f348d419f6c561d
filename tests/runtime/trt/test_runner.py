"""What can be known of the runner without a GPU: the buckets, the padding, the memory, and how it gives up."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime.trt.cuda import Cuda, memory_at
from ecgedge.runtime.trt.runner import padded, split_batch

BUCKETS = st.sets(st.integers(1, 64), min_size=1, max_size=4).map(lambda sizes: tuple(sorted(sizes)))


@given(st.integers(1, 300), BUCKETS)
def test_a_batch_goes_through_whole_and_in_order(rows, buckets):
    pieces = split_batch(rows, buckets)
    assert [piece.start for piece in pieces] == [sum(p.count for p in pieces[:i]) for i in range(len(pieces))]
    assert sum(piece.count for piece in pieces) == rows
    for piece in pieces:
        assert piece.bucket in buckets
        assert 1 <= piece.count <= piece.bucket
        # No smaller bucket would have done.
        assert all(size < piece.count for size in buckets if size < piece.bucket)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [(0, 1, 1)]),
        (2, [(0, 2, 8)]),
        (8, [(0, 8, 8)]),
        (9, [(0, 9, 64)]),
        (65, [(0, 64, 64), (64, 1, 1)]),
        (130, [(0, 64, 64), (64, 64, 64), (128, 2, 8)]),
    ],
)
def test_the_buckets_of_the_profile(rows, expected):
    pieces = split_batch(rows, (1, 8, 64))
    assert [(piece.start, piece.count, piece.bucket) for piece in pieces] == expected


def test_padding_repeats_the_last_row():
    out = np.full((8, 2, 1, 3), np.nan, np.float32)
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 1, 3)
    padded(rows, out)
    np.testing.assert_array_equal(out[:2], rows)
    np.testing.assert_array_equal(out[2:], np.broadcast_to(rows[1], (6, 2, 1, 3)))


def test_memory_of_an_address_is_the_memory_itself():
    owner = (ctypes.c_float * 6)(*range(6))
    view = np.ndarray((2, 3), np.float32, buffer=memory_at(ctypes.addressof(owner), 24))
    np.testing.assert_array_equal(view, [[0, 1, 2], [3, 4, 5]])
    view[1, 2] = 7.0
    assert owner[5] == 7.0


@pytest.fixture
def cuda():
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs cuda-bindings: pip install 'ecgedge[tensorrt]'")
    return Cuda()


def test_the_gpu_or_the_drivers_reason(cuda):
    """On a machine with a GPU its name as nvidia-smi gives it; on any other, CUDA's own status."""
    if shutil.which("nvidia-smi") is None:
        with pytest.raises(EngineError, match="cudaGetDeviceProperties failed: cudaError"):
            cuda.gpu()
        return
    gpu = cuda.gpu()
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[0]
    name, capability = listed.split(", ")
    assert (gpu.name, gpu.compute_capability) == (name, f"SM{capability.replace('.', '')}")


def test_a_status_becomes_an_error_with_its_name(cuda):
    with pytest.raises(EngineError, match="cudaMalloc failed: cudaError"):
        cuda.call("cudaMalloc", 1 << 60)


def test_without_cuda_bindings(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UsageError, match=r"'cuda-bindings'.*pip install 'ecgedge\[tensorrt\]'"):
        Cuda()
