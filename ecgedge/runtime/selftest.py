"""The self-test: before a runner may serve, it must reproduce the reference outputs in its bundle.

`selftest.npz` holds `counts` (n, 12, T) int16 front-end counts, and for every variant and output
`reference/VARIANT/OUTPUT` (n,) or (n, size) float32, the trained network's own answer, and
`tolerance/VARIANT/OUTPUT`, the largest absolute difference allowed. It catches what hashes cannot: an engine
or a CPU that computes something else (8-bit products that saturate, a miscompiled kernel, a wrong layout).

A streaming form is given the same windows joined into one stream (`joined_stream`), chunk by chunk. Its reference is
what the full-window network says at the end of each chunk from the first on at which both must agree.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, StreamSpec
from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS, standard_rows
from ecgedge.npy import DAMAGED
from ecgedge.runtime.base import Runner, Stepper, closed_on_error

SELF_TEST_FILE = "selftest.npz"
MIN_STREAM_ANSWERS = 8

R = TypeVar("R", bound=Runner)


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


def read_self_test(data: bytes, *, only: str | None = None) -> SelfTest:
    """Read the bytes of `selftest.npz`.

    Parameters
    ----------
    only
        Unpack what this variant must answer, and no other's.

    Raises
    ------
    EngineError
        If the file is damaged or holds something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            names = [name for name in archive.files if only is None or _variant(name) in ("", only)]
            return _from_arrays({name: archive[name] for name in names})
    except DAMAGED as error:
        raise EngineError(f"{SELF_TEST_FILE} cannot be read ({error}); export the bundle again") from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> SelfTest:
    counts = arrays["counts"]
    if (
        counts.dtype != np.int16
        or counts.ndim != 3
        or counts.shape[1] != len(STANDARD_LEADS)
        or not counts.size
    ):
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, not int16 (n, {len(STANDARD_LEADS)}, T)")
    variants: dict[str, Expected] = {}
    for name, values in arrays.items():
        kind, _, rest = name.partition("/")
        output = rest.rpartition("/")[2]
        variant = _variant(name)
        if kind == "reference":
            tolerance = float(arrays[f"tolerance/{rest}"][0])
            known = variants.get(variant, Expected({}, {}))
            variants[variant] = Expected(
                {**known.reference, output: values}, {**known.tolerance, output: tolerance}
            )
    return SelfTest(counts, variants)


def _variant(name: str) -> str:
    """Return the variant that an array is of: "I,II/int8" for reference/I,II/int8/p_mi, "" for counts."""
    return name.partition("/")[2].rpartition("/")[0]


def self_test(runner: Runner, bundle: Bundle) -> None:
    """Compare a runner with the reference in its bundle.

    Raises
    ------
    EngineError
        If an output is missing or differs by more than its tolerance; the message gives the numbers.
    """
    test, expected = _read(runner, bundle)
    outputs = runner.run(_to_mv(test.counts, runner, bundle))
    for name, reference in expected.reference.items():
        _check_output(outputs.get(name), reference, expected.tolerance[name], place=f"{runner.name}: {name}")


def tested(runner: R, bundle: Bundle) -> R:
    """Return the runner once it has passed the bundle's self-test; close it if it does not.

    Raises
    ------
    EngineError
        As `self_test`.
    """
    with closed_on_error(runner):
        self_test(runner, bundle)
    return runner


def stream_self_test(stepper: Stepper, bundle: Bundle) -> None:
    """Stream the bundle's windows in every batch size and compare with the reference; all beds are reset after it.

    Raises
    ------
    EngineError
        If an output is missing or differs by more than its tolerance; the message gives the numbers.
    """
    test, expected = _read(stepper, bundle)
    stream_mv = _to_mv(joined_stream(test.counts, stepper.spec)[None], stepper, bundle)[0]
    first = stepper.spec.exact_after_samples
    for size in stepper.batch_sizes:
        beds = range(min(size, stepper.beds))
        # The whole stream once; then each batch size as far as its first answer.
        found = stream_outputs(stepper, stream_mv if size == 1 else stream_mv[:, :first], beds=beds)
        for name, reference in expected.reference.items():
            values = found.get(name)
            for bed in beds:
                _check_output(
                    None if values is None else values[:, bed],
                    reference if size == 1 else reference[:1],
                    expected.tolerance[name],
                    place=f"{stepper.name}: {name}",
                )


def joined_stream(counts: NDArray[np.int16], spec: StreamSpec) -> NDArray[np.int16]:
    """Return windows (n, 12, T) end to end as a stream (12, N) of whole chunks, repeated until it is long enough."""
    joined = counts.transpose(1, 0, 2).reshape(counts.shape[1], -1)
    needed = spec.exact_after_samples + MIN_STREAM_ANSWERS * spec.chunk_samples
    repeated = np.tile(joined, (1, -(-needed // joined.shape[1])))
    return repeated[:, : repeated.shape[1] // spec.chunk_samples * spec.chunk_samples]


def stream_outputs(
    stepper: Stepper, stream_mv: NDArray[np.float32], *, beds: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    """Give some beds the same stream (K, N) from a reset on, and reset them after it.

    Returns
    -------
    dict
        Outputs by name, (answers, beds) or (answers, beds, size): one answer a chunk from `exact_after_samples` on.
    """
    chunk, answers = stepper.spec.chunk_samples, []
    for bed in beds:
        stepper.reset(bed)
    for end in range(chunk, stream_mv.shape[1] + 1, chunk):
        samples = np.broadcast_to(stream_mv[:, end - chunk : end], (len(beds), len(stream_mv), chunk))
        outputs = stepper.step(beds, samples)
        if end >= stepper.spec.exact_after_samples:
            answers.append(outputs)
    for bed in beds:
        stepper.reset(bed)
    return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}


def _read(runner: Runner | Stepper, bundle: Bundle) -> tuple[SelfTest, Expected]:
    test = read_self_test(bundle.read_bytes(SELF_TEST_FILE), only=runner.name)
    if runner.name not in test.variants:
        raise EngineError(
            f"{bundle.source}: {SELF_TEST_FILE} has no reference for {runner.name}; export the bundle again"
        )
    return test, test.variants[runner.name]


def _to_mv(counts: NDArray[np.int16], runner: Runner | Stepper, bundle: Bundle) -> NDArray[np.float32]:
    """Return the runner's leads of (n, 12, T) counts as millivolts."""
    rows = standard_rows(runner.leads)
    ecg_mv: NDArray[np.float32] = counts[:, rows].astype(np.float32) * np.float32(
        bundle.manifest.front_end.lsb_mv
    )
    return ecg_mv


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
