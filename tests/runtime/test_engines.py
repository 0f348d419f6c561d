"""What an engine's record must agree with before the engine may serve."""

from dataclasses import replace

import pytest

from ecgedge.bundle import EngineRecord
from ecgedge.runtime.engines import Here, mismatch
from ecgedge.runtime.trt.cuda import Gpu

ORIN = Gpu("Orin", "SM87", "CUDA 12.6")
JETSON = Here("tensorrt", "10.3.0", ORIN)
DESKTOP = Here("tensorrt_rtx", "1.7.1.116", Gpu("NVIDIA GeForce RTX 4070", "SM89", "CUDA 13.0"))
BUILT = EngineRecord(
    engine_file="model.engine",
    engine_sha256="e" * 64,
    onnx_file="variants/I_II/int8/model.onnx",
    onnx_sha256="a" * 64,
    runtime="tensorrt",
    runtime_version="10.3.0",
    gpu="Orin",
    note="",
    compute_capabilities=("SM87",),
    driver="CUDA 12.6",
)
AHEAD = replace(
    BUILT,
    runtime="tensorrt_rtx",
    runtime_version="1.7.1.116",
    gpu="SM86,SM89",
    compute_capabilities=("SM86", "SM89"),
    driver="",
)


@pytest.mark.parametrize(("record", "here"), [(BUILT, JETSON), (AHEAD, DESKTOP)])
def test_an_engine_for_this_machine_and_model(record, here):
    assert mismatch(record, onnx_sha256="a" * 64, here=here) is None


def test_another_driver_is_no_reason():
    newer = replace(JETSON, gpu=replace(ORIN, driver="CUDA 12.9"))
    assert mismatch(BUILT, onnx_sha256="a" * 64, here=newer) is None


@pytest.mark.parametrize(
    ("record", "here", "onnx", "reason"),
    [
        (BUILT, JETSON, "b" * 64, "built from another variants/I_II/int8/model.onnx"),
        (BUILT, replace(JETSON, runtime_version="11.4.1"), "a" * 64, "tensorrt 10.3.0, here is tensorrt 11.4.1"),
        (BUILT, replace(JETSON, runtime="tensorrt_rtx"), "a" * 64, "tensorrt 10.3.0, here is tensorrt_rtx 10.3.0"),
        (BUILT, replace(JETSON, gpu=Gpu("Thor", "SM110", "")), "a" * 64, "built for SM87, here is Thor (SM110)"),
        (BUILT, replace(JETSON, gpu=replace(ORIN, name="Orin NX")), "a" * 64, "built on Orin, here is Orin NX"),
        (AHEAD, replace(DESKTOP, gpu=Gpu("RTX 5090", "SM120", "")), "a" * 64, "built for SM86, SM89, here is RTX"),
        (replace(AHEAD, compute_capabilities=()), DESKTOP, "a" * 64, "no GPU that its record names"),
    ],
)  # fmt: skip
def test_a_foreign_engine_is_refused_with_its_reason(record, here, onnx, reason):
    assert reason in mismatch(record, onnx_sha256=onnx, here=here)
