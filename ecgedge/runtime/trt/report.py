"""What an engine really computes, layer by layer: the one proof that a precision was kept.

Two sources say the same: on a GPU the EngineInspector's JSON, and everywhere the plan that the builder prints to a
verbose log under ProfilingVerbosity.DETAILED (TensorRT-RTX without a GPU has only that). TensorRT 10 writes a tensor's
"Format/Datatype" as a sentence, TensorRT 11 splits it into "Format" and "Datatype" (NVIDIA: "Migrating IEngineInspector
Usage from TensorRT 10.x to 11.x").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ecgedge.errors import EngineError

_LOG_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<weights>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName: (?P<rest>.*)$",
    re.MULTILINE,
)
_LOG_TYPE = re.compile(r"Datatype: (\w+)")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
# In the order of the search: "Int8" stands inside "UInt8".
_TYPES = (
    ("uint8", "uint8"), ("int8", "int8"), ("int32", "int32"), ("int64", "int64"), ("bf16", "bf16"), ("bfloat", "bf16"),
    ("fp16", "fp16"), ("half", "fp16"), ("fp8", "fp8"), ("fp32", "fp32"), ("float", "fp32"), ("bool", "bool"),
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One kernel of an engine: data types of its tensors, and the ONNX nodes that it stands for."""

    name: str
    type: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    onnx_nodes: tuple[str, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution: CaskConvolution and the like, "correlation" in RTX."""
        return "conv" in self.type.lower() or self.type == "correlation"

    @property
    def in_int8(self) -> bool:
        """Whether it multiplies 8-bit integers."""
        return self.inputs[:1] == ("int8",) and self.weights[:1] == ("int8",)


@dataclass(frozen=True)
class LayerReport:
    """All layers of an engine, in the order of execution."""

    source: Literal["inspector", "build log"]
    layers: tuple[Layer, ...]

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The convolutions."""
        return tuple(layer for layer in self.layers if layer.is_convolution)


def convolutions_in_int8(report: LayerReport) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Return the convolutions that multiply 8-bit integers, and the others."""
    convolutions = report.convolutions
    return tuple(c for c in convolutions if c.in_int8), tuple(c for c in convolutions if not c.in_int8)


def report_from_log(messages: Iterable[str]) -> LayerReport | None:
    """Read the plan out of a builder's verbose messages; None if it is not there."""
    for message in messages:
        layers = tuple(_layer_of_line(match) for match in _LOG_LINE.finditer(message))
        if layers:
            return LayerReport("build log", layers)
    return None


def report_from_inspector(text: str) -> LayerReport:
    """Read the JSON of `EngineInspector.get_engine_information`.

    Raises
    ------
    EngineError
        If it is no such JSON, or was made without ProfilingVerbosity.DETAILED.
    """
    try:
        layers = json.loads(text)["Layers"]
        return LayerReport("inspector", tuple(_layer_of_json(layer) for layer in layers))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the engine inspector's answer cannot be read ({error}); build the engine with detailed profiling"
        ) from error


def _layer_of_line(match: re.Match[str]) -> Layer:
    return Layer(
        name=match["name"],
        type=match["type"],
        inputs=_types_of_line(match["inputs"]),
        weights=_types_of_line(match["weights"]),
        outputs=_types_of_line(match["outputs"]),
        onnx_nodes=tuple(_ONNX_NODE.findall(match["rest"])),
    )


def _types_of_line(text: str) -> tuple[str, ...]:
    return tuple(data_type(name) for name in _LOG_TYPE.findall(text))


def _layer_of_json(layer: Mapping[str, Any]) -> Layer:
    weights = layer.get("Weights")
    constants = [weights["Type"]] if weights else [_stated_type(c) for c in layer.get("Constants", ())]
    kind = layer["LayerType"]
    return Layer(
        name=layer["Name"],
        # A convolution may hide behind a general name: then its parameters say what it is.
        type="Convolution" if layer.get("ParameterType") == "Convolution" and "onv" not in kind else kind,
        inputs=tuple(data_type(_stated_type(tensor)) for tensor in layer.get("Inputs", ())),
        weights=tuple(data_type(name) for name in constants),
        outputs=tuple(data_type(_stated_type(tensor)) for tensor in layer.get("Outputs", ())),
        onnx_nodes=tuple(_ONNX_NODE.findall(layer.get("Metadata", ""))),
    )


def _stated_type(tensor: Mapping[str, Any]) -> str:
    stated = tensor.get("Datatype") or tensor.get("DataType") or tensor["Format/Datatype"]
    return str(stated)


def data_type(text: str) -> str:
    """Return "int8", "fp16", "fp32", ... out of "Int8", "Half", or "Thirty-two wide channel ... Int8 format"."""
    lower = text.lower()
    return next((name for word, name in _TYPES if word in lower), lower)
