"""The child process of build.py: `python -m ecgedge.runtime.trt.worker FOLDER`.

Reads FOLDER/job.json, model.onnx and perhaps timing.cache; writes model.engine, report.json and perhaps timing.cache.
Exit code 0 means that the report was written, not that the engine is good.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ecgedge.errors import EcgedgeError
from ecgedge.runtime.trt.api import (
    TensorRt,
    collecting_logger,
    dims,
    find_tensorrt,
    set_compute_capabilities,
    strongly_typed_network,
    timing_cache,
    use_timing_cache,
)
from ecgedge.runtime.trt.build import (
    CACHE_FILE,
    ENGINE_FILE,
    JOB_FILE,
    MODEL_FILE,
    REPORT_FILE,
    BuildJob,
    BuildReport,
)
from ecgedge.runtime.trt.report import LayerReport, report_from_inspector, report_from_log
from ecgedge.schema import from_plain, to_plain

if TYPE_CHECKING:
    import tensorrt as trt

    from ecgedge.runtime.trt.api import CollectingLogger


def main(place: Path) -> None:
    """Build and leave engine and report in `place`."""
    job = from_plain(BuildJob, json.loads((place / JOB_FILE).read_text("utf-8")))
    here = find_tensorrt(job.runtime)
    logger = collecting_logger(here.api)
    engine = _build(here, logger, job, place)
    layers = None
    if engine is not None:
        (place / ENGINE_FILE).write_bytes(engine)
        layers = _layers(here, logger, job, engine)
    report = BuildReport(here.runtime, here.version, logger.complaints, layers)
    (place / REPORT_FILE).write_text(json.dumps(to_plain(report)), encoding="utf-8")


def _build(here: TensorRt, logger: CollectingLogger, job: BuildJob, place: Path) -> bytes | None:
    """Return the serialized engine, or None; what went wrong is in the logger's lines."""
    builder = here.api.Builder(logger)
    if here.is_rtx:
        builder.max_threads = 1  # two threads number the internal names by who comes first
    network = strongly_typed_network(here.api, builder)
    parser = here.api.OnnxParser(network, logger)
    if not parser.parse((place / MODEL_FILE).read_bytes()):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        logger.lines += [("ERROR", f"parser: {text}") for text in errors]
        return None
    config = builder.create_builder_config()
    config.clear_flag(here.api.BuilderFlag.TF32)  # fp32 must mean fp32
    config.profiling_verbosity = here.api.ProfilingVerbosity.DETAILED
    set_compute_capabilities(here, config, job.compute_capabilities)
    cache = place / CACHE_FILE
    use_timing_cache(here, config, cache.read_bytes() if cache.is_file() else b"")
    config.add_optimization_profile(_profile(builder, network, job.batch.sizes))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return None
    if measured := timing_cache(here, config):
        cache.write_bytes(measured)
    return bytes(engine)


def _profile(
    builder: trt.Builder, network: trt.INetworkDefinition, sizes: tuple[int, int, int]
) -> trt.IOptimizationProfile:
    """Return a profile that gives the first axis of every input, the batch of a window form, the same three sizes."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        smallest, best, largest = (_shape(tensor, size) for size in sizes)
        profile.set_shape(tensor.name, smallest, best, largest)
    return profile


def _shape(tensor: trt.ITensor, batch: int) -> trt.Dims:
    # A tuple converts to Dims; the stubs do not know.
    return cast("trt.Dims", (batch, *dims(tensor.shape)[1:]))


def _layers(here: TensorRt, logger: CollectingLogger, job: BuildJob, engine: bytes) -> LayerReport | None:
    """Return the layer report: from the builder's plan, else from the inspector, which needs a GPU."""
    report = report_from_log(text for _, text in logger.lines)
    if report is not None or here.is_rtx:
        return report
    loaded = here.api.Runtime(logger).deserialize_cuda_engine(engine)
    inspector = loaded.create_engine_inspector()
    context = loaded.create_execution_context()
    for index in range(loaded.num_io_tensors):
        name = loaded.get_tensor_name(index)
        if loaded.get_tensor_mode(name) == here.api.TensorIOMode.INPUT:
            # Without shapes TensorRT 10 writes "N/A due to dynamic shapes" for the data types.
            context.set_input_shape(name, (job.batch.best, *dims(loaded.get_tensor_shape(name))[1:]))
    inspector.execution_context = context
    return report_from_inspector(inspector.get_engine_information(here.api.LayerInformationFormat.JSON))


if __name__ == "__main__":
    try:
        # A thread of its own has a heap of its own: what Python has allocated before moves no address of the builder's.
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(main, Path(sys.argv[1])).result()
    except EcgedgeError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    # The bindings' tear-down at interpreter exit has been seen to crash; everything is on disk by now.
    os._exit(0)
