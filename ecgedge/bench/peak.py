"""What one core can do at best: a large matrix product, in a process of its own.

The share of this peak says how much of the machine a model leaves unused, whatever the machine. numpy's BLAS and
ONNX Runtime's own kernels are both tried and the better one counts: numpy's may have been built or set up for an
older processor. The process is a child because a BLAS reads its number of threads once, when it is loaded.

    python -m ecgedge.bench.peak      one line of JSON
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecgedge.bench.gemm_model import gemm_model

SIZE = 2048
REPEATS = 3
"""The best of so many counts. CPU time, here as for the models that are held against it: a product lasts long
enough to be interrupted on a busy machine, a small model does not."""


@dataclass(frozen=True)
class Peak:
    """Billions of operations a second, a multiplication and an addition counting as two.

    `int8_gops` is None where no engine for it is installed.
    """

    fp32_gflops: float
    fp32_by: str
    int8_gops: float | None
    int8_by: str | None


def measure_peak(size: int = SIZE) -> Peak:
    """Measure in this process, whose BLAS must have one thread."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    fp32 = {f"numpy {np.__version__}": _rate(lambda: a @ b, size)}
    int8: dict[str, float] = {}
    ort = _onnxruntime()
    if ort is not None:
        name = f"onnxruntime {ort.__version__}"
        fp32[name] = _rate(_product(ort, gemm_model(size), a, b), size)
        u8 = rng.integers(0, 256, (size, size)).astype(np.uint8)
        s8 = rng.integers(-128, 128, (size, size)).astype(np.int8)
        int8[name] = _rate(_product(ort, gemm_model(size, int8=True), u8, s8), size)
    best = max(fp32, key=lambda name: fp32[name])
    best_int8 = max(int8, key=lambda name: int8[name]) if int8 else None
    return Peak(fp32[best], best, int8[best_int8] if best_int8 else None, best_int8)


def _rate(product: Callable[[], object], size: int) -> float:
    product()
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        product()
        times.append(time.process_time() - began)
    return 2.0 * size**3 / min(times) / 1e9


def _product(ort: Any, model: bytes, a: Any, b: Any) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a, "b": b})


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        return None
    return onnxruntime


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_peak().__dict__) + "\n")
