"""The child process of rtx.py: `python -m ecgedge_export.engines.rtx_worker FOLDER SM86,SM89 1,8,64`.

Reads FOLDER/model.onnx, writes FOLDER/model.engine and FOLDER/report.json. Exit code 0 means that the report was
written, not that the engine is good.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as trt

BAD = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING)


class Collector(trt.ILogger):  # type: ignore[misc]  # untyped bindings
    """Keeps every warning and error."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Receive a message of the native library."""
        if severity in BAD:
            self.messages.append(f"{severity.name}: {msg.strip()}")


def build(onnx_bytes: bytes, *, capabilities: list[str], batch: list[int], logger: Collector) -> bytes | None:
    """Return the serialized engine, or None; what went wrong is in `logger.messages`."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes):
        logger.messages += [f"parser: {parser.get_error(i).desc()}" for i in range(parser.num_errors)]
        return None
    config = builder.create_builder_config()
    # TF32 rounds the factors of an fp32 product to 10 bits: fp32 must mean fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    _set_capabilities(config, capabilities)
    config.add_optimization_profile(_profile(builder, network, batch))
    engine = builder.build_serialized_network(network, config)
    return None if engine is None else bytes(engine)


def _set_capabilities(config: Any, capabilities: list[str]) -> None:
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        if not config.set_compute_capability(trt.ComputeCapability.__members__[name], index):
            raise SystemExit(f"compute capability {name} was refused")


def _profile(builder: Any, network: Any, batch: list[int]) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shapes = [(size, *tuple(tensor.shape)[1:]) for size in batch]
        profile.set_shape(tensor.name, *shapes)
    return profile


def main(folder: Path, capabilities: list[str], batch: list[int]) -> None:
    """Build and leave engine and report in `folder`."""
    unknown = sorted(set(capabilities) - set(trt.ComputeCapability.__members__))
    if unknown:
        raise SystemExit(
            f"{', '.join(unknown)}: TensorRT-RTX knows {', '.join(trt.ComputeCapability.__members__)}"
        )
    logger = Collector()
    engine = build(
        (folder / "model.onnx").read_bytes(), capabilities=capabilities, batch=batch, logger=logger
    )
    if engine is not None:
        (folder / "model.engine").write_bytes(engine)
    report = {"runtime_version": trt.__version__, "messages": logger.messages}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), [int(size) for size in sys.argv[3].split(",")])
    # The bindings' tear-down at interpreter exit has been seen to crash; everything is on disk by now.
    os._exit(0)
