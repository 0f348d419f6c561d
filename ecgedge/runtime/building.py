"""Engines for a bundle: on the device for the GPU that is there, or ahead of time for GPUs that are named.

`build_engines` is what `ecgedge bundle build` does. It never touches what the bundle's id covers, writes one engine
at a time, whole or not at all, and leaves an engine alone that fits already: it may run before every start of a bed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ecgedge.bundle import (
    Bundle,
    EngineRecord,
    PackedEngine,
    Precision,
    VariantSpec,
    load_bundle,
    sha256,
    write_engine,
)
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime.engines import Here, engine_folder, find_engine, mismatch, open_tested
from ecgedge.runtime.trt.api import TensorRt, find_tensorrt
from ecgedge.runtime.trt.build import (
    CACHE_FILE,
    DEFAULT_TIMEOUT_S,
    ENGINE_FILE,
    REPORT_FILE,
    BuildJob,
    Built,
    build_engine,
)
from ecgedge.runtime.trt.cuda import Cuda, Gpu
from ecgedge.runtime.trt.report import convolutions_in_int8
from ecgedge.target import TARGET_FILE, BatchProfile, TargetProfile, parse_target

NEVER_RUN = "built without GPU, never run here"


@dataclass(frozen=True)
class Maker:
    """What engines are made with: a TensorRT, and the GPU of this machine or, without one, named capabilities."""

    tensorrt: TensorRt
    gpu: Gpu | None
    compute_capabilities: tuple[str, ...]

    @classmethod
    def on_this_gpu(cls, profile: TargetProfile) -> Maker:
        """Find the GPU and the TensorRT that are here; the target's own kind first.

        Raises
        ------
        UsageError
            If there is no GPU or no TensorRT; the message says what to do.
        """
        try:
            gpu = Cuda().gpu()
        except EngineError as error:
            raise UsageError(
                f"no GPU to build an engine for: {error}. Run this on the device itself; or name the GPUs of a "
                "TensorRT-RTX engine, which needs none to be built: --for SM86,SM89"
            ) from error
        return cls(_find(profile), gpu, (gpu.compute_capability,))

    @classmethod
    def ahead_of_time(cls, compute_capabilities: Sequence[str]) -> Maker:
        """Use TensorRT-RTX for GPUs that are not here.

        Raises
        ------
        UsageError
            If TensorRT-RTX is not installed, or no GPU is named.
        """
        if not compute_capabilities:
            raise UsageError("no compute capability is named; give some, for example SM86,SM89,SM120")
        return cls(find_tensorrt("tensorrt_rtx"), None, tuple(compute_capabilities))


def _find(profile: TargetProfile) -> TensorRt:
    if profile.engine is not None:
        try:
            return find_tensorrt(profile.engine.runtime)
        except UsageError:
            pass  # the other kind, or the error that names both
    return find_tensorrt()


@dataclass(frozen=True)
class Outcome:
    """What became of one variant's engine."""

    variant: str
    state: Literal["built", "fits", "left out", "failed"]
    text: str


def make_engine(
    onnx_bytes: bytes,
    *,
    onnx_file: str,
    maker: Maker,
    batch: BatchProfile,
    timing_cache: bytes = b"",
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> PackedEngine:
    """Build one engine, with its record and its layer report; it has not been run yet.

    Parameters
    ----------
    onnx_bytes, onnx_file
        The model, and its path inside the bundle.
    timing_cache
        Of an earlier build with the same TensorRT on the same GPU.

    Raises
    ------
    EngineError
        On any warning or error of the builder, a crash or a time-out.
    """
    job = BuildJob(maker.tensorrt.runtime, maker.compute_capabilities, batch)
    built = build_engine(onnx_bytes, job, name=onnx_file, timing_cache=timing_cache, timeout_s=timeout_s)
    files = {REPORT_FILE: built.report_json}
    if built.timing_cache:
        files[CACHE_FILE] = built.timing_cache
    record = EngineRecord(
        engine_file=ENGINE_FILE,
        engine_sha256=sha256(built.engine),
        onnx_file=onnx_file,
        onnx_sha256=sha256(onnx_bytes),
        runtime=built.report.runtime,
        runtime_version=built.report.runtime_version,
        gpu=maker.gpu.name if maker.gpu else ",".join(maker.compute_capabilities),
        note=_note(built, maker, batch),
        compute_capabilities=maker.compute_capabilities,
        driver=maker.gpu.driver if maker.gpu else "",
        batch=batch.sizes,
        files={name: sha256(data) for name, data in files.items()},
    )
    return PackedEngine(record, built.engine, files)


def _note(built: Built, maker: Maker, batch: BatchProfile) -> str:
    parts = [] if maker.gpu else [NEVER_RUN]
    parts += [f"{len(built.engine)} bytes", "strongly typed"]
    parts.append(f"batch {batch.smallest} to {batch.largest}, best {batch.best}")
    if built.report.layers is not None:
        in_int8, others = convolutions_in_int8(built.report.layers)
        parts.append(f"{len(in_int8)} of {len(in_int8) + len(others)} convolutions in INT8")
    return "; ".join(parts)


def bundle_profile(bundle: Bundle) -> TargetProfile:
    """Return the target profile that a bundle was exported with.

    Raises
    ------
    UsageError
        If there is none, or it is damaged.
    """
    if TARGET_FILE not in bundle.contents:
        raise UsageError(f"{bundle.source} holds no {TARGET_FILE}, which says what to build; export it again")
    text = bundle.contents[TARGET_FILE].decode(errors="replace")
    return parse_target(text, place=f"{bundle.source}: {TARGET_FILE}")


def build_engines(
    place: Path,
    maker: Maker,
    *,
    precisions: Sequence[Precision] | None = None,
    only_needed: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Iterator[Outcome]:
    """Build an engine for every variant of a bundle directory; yields what became of each, one by one.

    An engine is written only once it has reproduced the bundle's self-test on this GPU. Without a GPU it is written
    and its record says that it was never run; a device tests it before it serves.

    Parameters
    ----------
    place
        Bundle directory.
    maker
        See `Maker`.
    precisions
        Only these.
    only_needed
        Leave engines alone that match already.

    Raises
    ------
    BundleError
        If the bundle is damaged, or not a directory.
    """
    bundle = load_bundle(place)
    if not place.is_dir():
        raise BundleError(
            f"{place} is a file; engines can be put into a directory only. Unpack it first: ecgedge bundle unpack"
        )
    work = _Work(place, bundle, bundle_profile(bundle), maker, timeout_s)
    timing_cache = work.earlier_cache()
    for variant in bundle.manifest.variants:
        if precisions is not None and variant.precision not in precisions:
            continue
        reason = work.reason_to_leave_out(variant)
        if reason is not None:
            yield Outcome(variant.name, "left out", reason)
        elif only_needed and work.fits(variant):
            yield Outcome(variant.name, "fits", "its engine is for this GPU, this runtime and this model")
        else:
            try:
                packed = work.build(variant, timing_cache)
            except EngineError as error:
                yield Outcome(variant.name, "failed", str(error))
                continue
            timing_cache = packed.files.get(CACHE_FILE, timing_cache)
            yield Outcome(variant.name, "built", f"{packed.record.note}; self-test {packed.record.self_test}")


@dataclass(frozen=True)
class _Work:
    """One bundle directory and one maker of engines."""

    place: Path
    bundle: Bundle
    profile: TargetProfile
    maker: Maker
    timeout_s: float

    def reason_to_leave_out(self, variant: VariantSpec) -> str | None:
        """Return why no engine is built of this file, or None."""
        if variant.stream is not None:
            return "a streaming form, which is served by ONNX Runtime"
        if variant.precision == "int8" and self.profile.flavour != "rtx":
            return (
                f"the INT8 of the target {self.profile.name} has zero points, which TensorRT refuses; "
                "export for a GPU target, or serve it with ONNX Runtime"
            )
        return None

    def build(self, variant: VariantSpec, timing_cache: bytes) -> PackedEngine:
        """Build the variant's engine, run the self-test on it if there is a GPU, and put it into the bundle."""
        packed = make_engine(
            self.bundle.read_bytes(variant.file),
            onnx_file=variant.file,
            maker=self.maker,
            batch=self.profile.engine.batch if self.profile.engine else BatchProfile(),
            timing_cache=timing_cache,
            timeout_s=self.timeout_s,
        )
        if self.maker.gpu is not None:
            open_tested(self.bundle, variant, packed.engine, packed.record.batch, self.maker.tensorrt).close()
            packed = replace(packed, record=replace(packed.record, self_test="passed"))
        write_engine(self.place, engine_folder(variant), packed)
        return packed

    def fits(self, variant: VariantSpec) -> bool:
        """Tell whether the variant's engine may stay: it matches, and passes the self-test where a GPU can run it."""
        found = find_engine(self.bundle, variant)
        if found is None:
            return False
        record, tensorrt, gpu = found.record, self.maker.tensorrt, self.maker.gpu
        if gpu is None:
            same = (record.runtime, record.runtime_version) == (tensorrt.runtime, tensorrt.version)
            return same and record.compute_capabilities == self.maker.compute_capabilities
        onnx_sha256 = self.bundle.manifest.files[variant.file]
        if mismatch(record, onnx_sha256=onnx_sha256, here=Here.of(tensorrt, gpu)) is not None:
            return False
        try:
            open_tested(self.bundle, variant, found.engine, record.batch, tensorrt).close()
        except EngineError:
            return False
        return True

    def earlier_cache(self) -> bytes:
        """Return a timing cache that this TensorRT wrote on this GPU under this driver, or nothing.

        TensorRT refuses any other, and says so with a warning, which would fail the build.
        """
        tensorrt, gpu = self.maker.tensorrt, self.maker.gpu
        for variant in self.bundle.manifest.variants:
            found = find_engine(self.bundle, variant)
            if gpu is None or found is None or CACHE_FILE not in found.record.files:
                continue
            record = found.record
            written_by = (record.runtime_version, record.gpu, record.driver)
            if written_by == (tensorrt.version, gpu.name, gpu.driver):
                return self.bundle.contents[f"engines/{found.folder}/{CACHE_FILE}"]
        return b""
