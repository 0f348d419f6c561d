"""The self-test: before a runner may serve, it must reproduce the reference outputs in its bundle.

`selftest.npz` holds `counts` (n, 12, T) int16 front-end counts, and for every variant and output
`reference/VARIANT/OUTPUT` (n,) or (n, size) float32, the trained network's own answer, and
`tolerance/VARIANT/OUTPUT`, the largest absolute difference allowed. It catches what hashes cannot: an engine
or a CPU that computes something else (8-bit products that saturate, a miscompiled kernel, a wrong layout).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle
from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime.base import Runner

SELF_TEST_FILE = "selftest.npz"


@dataclass(frozen=True)
class Expected:
    """What one variant must answer: reference and largest absolute difference, by output name."""

    reference: Mapping[str, NDArray[np.float32]]
    tolerance: Mapping[str, float]


@dataclass(frozen=True)
class SelfTest:
    """Input windows as counts (n, 12, T) int16, and what each variant must answer."""

    counts: NDArray[np.int16]
    variants: Mapping[str, Expected]


def write_self_test(test: SelfTest) -> bytes:
    """Return the self-test as the bytes of `selftest.npz`; equal tests give equal bytes."""
    arrays: dict[str, Any] = {"counts": test.counts}
    for variant, expected in test.variants.items():
        for output, reference in expected.reference.items():
            arrays[f"reference/{variant}/{output}"] = reference
            arrays[f"tolerance/{variant}/{output}"] = np.float64(expected.tolerance[output])[None]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_self_test(data: bytes) -> SelfTest:
    """Read the bytes of `selftest.npz`.

    Raises
    ------
    EngineError
        If the file is damaged or holds something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        counts = arrays["counts"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(f"{SELF_TEST_FILE} cannot be read ({error}); export the bundle again") from error
    variants: dict[str, Expected] = {}
    for name, values in arrays.items():
        kind, _, rest = name.partition("/")
        variant, _, output = rest.rpartition("/")
        if kind == "reference":
            tolerance = float(arrays[f"tolerance/{rest}"][0])
            known = variants.get(variant, Expected({}, {}))
            variants[variant] = Expected(
                {**known.reference, output: values}, {**known.tolerance, output: tolerance}
            )
    return SelfTest(counts, variants)


def self_test(runner: Runner, bundle: Bundle) -> None:
    """Compare a runner with the reference in its bundle.

    Raises
    ------
    EngineError
        If an output is missing or differs by more than its tolerance; the message gives the numbers.
    """
    test = read_self_test(bundle.read_bytes(SELF_TEST_FILE))
    if runner.name not in test.variants:
        raise EngineError(
            f"{bundle.source}: {SELF_TEST_FILE} has no reference for {runner.name}; export the bundle again"
        )
    rows = [STANDARD_LEADS.index(lead) for lead in runner.leads]
    ecg_mv = test.counts[:, rows].astype(np.float32) * np.float32(bundle.manifest.front_end.lsb_mv)
    outputs = runner.run(ecg_mv)
    expected = test.variants[runner.name]
    for name, reference in expected.reference.items():
        _check_output(outputs.get(name), reference, expected.tolerance[name], place=f"{runner.name}: {name}")


def _check_output(
    values: NDArray[np.float32] | None, reference: NDArray[np.float32], tolerance: float, *, place: str
) -> None:
    if values is None or values.shape != reference.shape:
        seen = "is missing" if values is None else f"has shape {values.shape}, not {reference.shape}"
        raise EngineError(f"self-test of {place} {seen}; export the bundle again")
    difference = float(np.abs(values - reference).max())
    if not difference <= tolerance:
        raise EngineError(
            f"self-test of {place} differs from its reference by {difference:.3g}, allowed is {tolerance:.3g}; "
            "this engine does not compute this model correctly here: do not use it, choose the fp32 variant "
            "or another engine"
        )
