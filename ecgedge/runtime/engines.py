"""Which engine of a bundle may serve here.

An engine belongs to one kind of GPU, one TensorRT and one ONNX file; its record says which. One that does not match,
does not load or does not reproduce the self-test is refused with its reason, and ONNX Runtime serves from the ONNX
file: an upgrade of the device's software costs speed until `ecgedge bundle build` has run, never the bed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgedge.bundle import Bundle, EngineRecord, VariantSpec, sha256
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime.selftest import tested
from ecgedge.runtime.trt.api import RuntimeName, TensorRt, find_tensorrt
from ecgedge.runtime.trt.cuda import Cuda, Gpu
from ecgedge.runtime.trt.runner import TrtRunner
from ecgedge.target import BatchProfile

REBUILD = "build it again: ecgedge bundle build"


@dataclass(frozen=True)
class Here:
    """What an engine must have been built for: the TensorRT and the GPU of this machine."""

    runtime: RuntimeName
    runtime_version: str
    gpu: Gpu

    @classmethod
    def of(cls, tensorrt: TensorRt, gpu: Gpu) -> Here:
        """Put the two together."""
        return cls(tensorrt.runtime, tensorrt.version, gpu)


@dataclass(frozen=True)
class FoundEngine:
    """An engine in a bundle, whose bytes match its record."""

    record: EngineRecord
    engine: bytes
    folder: str


def engine_folder(variant: VariantSpec) -> str:
    """Return the folder below engines/ of a variant: "I_II/int8" for variants/I_II/int8/model.onnx."""
    return variant.file.removeprefix("variants/").removesuffix("/model.onnx")


def find_engine(bundle: Bundle, variant: VariantSpec) -> FoundEngine | None:
    """Return the variant's engine out of a bundle."""
    folder = engine_folder(variant)
    for record in bundle.engines:
        engine = bundle.contents.get(f"engines/{folder}/{record.engine_file}")
        if record.onnx_file == variant.file and engine and sha256(engine) == record.engine_sha256:
            return FoundEngine(record, engine, folder)
    return None


def mismatch(record: EngineRecord, *, onnx_sha256: str, here: Here) -> str | None:
    """Return why an engine is not for this machine or this model, or None if it is.

    A TensorRT engine runs on the GPU model that it was built on; a TensorRT-RTX engine on every GPU of a compute
    capability that it was compiled for. Neither survives another version of its runtime.
    """
    if record.onnx_sha256 != onnx_sha256:
        return f"it was built from another {record.onnx_file}"
    built_with, runs = f"{record.runtime} {record.runtime_version}", f"{here.runtime} {here.runtime_version}"
    if built_with != runs:
        return f"it was built by {built_with}, here is {runs}"
    capability = here.gpu.compute_capability
    if capability not in record.compute_capabilities:
        known = ", ".join(record.compute_capabilities) or "no GPU that its record names"
        return f"it was built for {known}, here is {here.gpu.name} ({capability})"
    if record.runtime == "tensorrt" and record.gpu != here.gpu.name:
        return f"it was built on {record.gpu}, here is {here.gpu.name}"
    return None


def open_engine(bundle: Bundle, variant: VariantSpec) -> TrtRunner:
    """Open the variant's engine, once it matches this machine and reproduces the bundle's self-test.

    Raises
    ------
    UsageError
        If the bundle holds no engine of this variant: nothing is wrong, and nothing to say.
    EngineError
        If it holds one that cannot serve here; the message says why and what to do.
    """
    found = find_engine(bundle, variant)
    if found is None:
        raise UsageError(f"{bundle.source}: no engine of {variant.name}; build one: ecgedge bundle build")
    try:
        return _open_found(bundle, variant, found)
    except (EngineError, UsageError) as error:
        raise EngineError(f"the engine of {variant.name} does not serve: {error}") from error


def _open_found(bundle: Bundle, variant: VariantSpec, found: FoundEngine) -> TrtRunner:
    gpu = Cuda().gpu()
    tensorrt = find_tensorrt("tensorrt_rtx" if found.record.runtime == "tensorrt_rtx" else "tensorrt")
    onnx_sha256 = bundle.manifest.files[variant.file]
    reason = mismatch(found.record, onnx_sha256=onnx_sha256, here=Here.of(tensorrt, gpu))
    if reason is not None:
        raise EngineError(f"{reason}; {REBUILD}")
    return open_tested(bundle, variant, found.engine, found.record.batch, tensorrt)


def open_tested(
    bundle: Bundle, variant: VariantSpec, engine: bytes, batch: tuple[int, int, int], tensorrt: TensorRt
) -> TrtRunner:
    """Open an engine and run the bundle's self-test on it.

    Raises
    ------
    EngineError
        If it does not load, an output is outside the tolerance, or `batch` is out of order.
    """
    try:
        profile = BatchProfile(*batch)
    except ValueError as error:
        raise EngineError(f"its record is wrong: {error}; {REBUILD}") from error
    return tested(TrtRunner(engine, variant=variant, here=tensorrt, batch=profile), bundle)
