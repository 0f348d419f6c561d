"""The ONNX file of a folded variant: opset 17, rank 4, batch norms folded, nothing of the machine left in it.

torch's exporter writes opset 18 and nothing lower; `opset.py` brings it down. TensorRT 10 reads 9 to 20 and ONNX
Runtime 17 from 1.12 on. `tests/export` checks every file against torch in ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx
import torch
from torch import nn

from ecgedge.errors import EngineError
from ecgedge.schema import to_plain
from ecgedge_export.opset import EXPORTED_OPSET, lower_opset
from ecgedge_export.pooling import pool_by_operator
from ecgedge_export.step_network import StepNetwork

INPUT_NAME = "ecg_mv"
BATCH = "batch"
# torch 2.13 logs on every export that torchvision is absent, and calls a pytree helper that it deprecates.
_NOISY_LOGGER = "torch.onnx._internal.exporter._registration"
_FLOAT_OPS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class GraphCost:
    """Numbers of one window: learnt parameters, and multiply-accumulates of convolutions and products."""

    parameters: int
    macs: int


def export_onnx(
    network: nn.Module,
    *,
    n_leads: int,
    window_samples: int,
    output_names: Sequence[str],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Export a folded network to a checked ONNX model with a dynamic batch.

    Parameters
    ----------
    network
        Takes (B, n_leads, 1, window_samples) float32 and returns a tuple, in eval mode.
    output_names
        One for each element of the tuple.
    metadata
        Key to text, stored in the model's metadata (leads, precision, rate).

    Raises
    ------
    EngineError
        If the exported graph is not what a bundle may hold.
    """
    example = torch.zeros(2, n_leads, 1, window_samples)
    return _exported(
        network,
        (example,),
        inputs=[INPUT_NAME],
        outputs=output_names,
        batches=({0: torch.export.Dim(BATCH)},),
        metadata=metadata,
    )


def export_step_onnx(network: StepNetwork, *, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Export a streaming form to a checked ONNX model: the states are inputs `state_00`... and outputs `next_00`...

    The metadata gets the lengths, and the names and shapes of the states, too.

    Raises
    ------
    EngineError
        If the exported graph is not what a bundle may hold.
    """
    spec, batch = network.spec, torch.export.Dim(BATCH)
    states = tuple(torch.zeros(1, channels, 2, n) for channels, n in spec.state_shapes)
    lengths = {name: str(value) for name, value in to_plain(spec).items() if not name.startswith("state_")}
    shapes = zip(spec.state_names, spec.state_shapes, strict=True)
    model = _exported(
        network,
        (torch.zeros(2, network.n_leads, 1, spec.chunk_samples), *states),
        inputs=[INPUT_NAME, *spec.state_names],
        outputs=[*network.output_names, *spec.next_names],
        batches=({0: batch}, ({2: batch},) * len(states)),
        metadata={
            **metadata,
            **lengths,
            "states": json.dumps({name: [1, c, BATCH, n] for name, (c, n) in shapes}),
        },
    )
    return _name_rows(model)


def _name_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """Note, in place, that the rows of all features are the beds.

    A convolution may change the number of rows, so nothing else tells ONNX Runtime that the two sides of a residual sum
    are of one shape; and only if they are, it adds up inside the convolution.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in inferred.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and dims[0].dim_value == 1 and not dims[2].HasField("dim_value"):
            dims[2].dim_param = BATCH
            model.graph.value_info.append(value)
    check_onnx(model)
    return model


def _exported(
    network: nn.Module,
    example: tuple[torch.Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    batches: tuple[object, ...],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    network.eval()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            opset_version=EXPORTED_OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=batches,
            verbose=False,
        )
    if program is None:
        raise EngineError("torch exported nothing; install torch 2.6 or later")
    model = lower_opset(pool_by_operator(strip_notes(program.model_proto)))
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    check_onnx(model)
    return model


def check_onnx(model: onnx.ModelProto) -> None:
    """Refuse a model that is invalid, not rank 4, or still holds a batch norm that could have been folded.

    Raises
    ------
    EngineError
        With the reason.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(f"the exported ONNX is not valid: {error}") from error
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions:
        weight = weights.get(node.input[1])
        if weight is not None and len(weight.dims) != 4:
            raise EngineError(
                f"{node.name or 'a Conv'} has a weight of shape {list(weight.dims)}; write the encoder with Conv2d of "
                "height 1, which every engine lays out well"
            )
    produced = {name for node in convolutions for name in node.output}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and node.input[0] in produced:
            raise EngineError(
                f"{node.name} stands behind a Conv and was not folded into it; export in eval mode"
            )


def graph_cost(model: onnx.ModelProto) -> GraphCost:
    """Count parameters and multiply-accumulates of one window, from inferred shapes.

    QDQ files give the same numbers as the float file that they were made from.
    """
    inferred = onnx.shape_inference.infer_shapes(_one_window(model)).graph
    shapes = {i.name: tuple(i.dims) for i in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    macs = parameters = 0
    for node in inferred.node:
        if node.op_type in _FLOAT_OPS:
            weight, out = shapes[node.input[1]], shapes[node.output[0]]
            depth = prod(weight[1:]) if node.op_type == "Conv" else prod(weight) // out[-1]
            macs += prod(out) * depth
            parameters += prod(weight) + (prod(shapes[node.input[2]]) if len(node.input) > 2 else 0)
    return GraphCost(parameters=parameters, macs=macs)


def _one_window(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with batch 1 and without stored shapes, so that inference starts afresh."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in (*fixed.graph.input, *fixed.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    return fixed


def strip_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop, in place, what a tool notes of its own run: stack traces hold the paths of the machine it ran on."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "ecgedge"
    values = (*model.graph.input, *model.graph.output, *model.graph.initializer)
    for item in (*model.graph.node, *values):
        del item.metadata_props[:]
        item.doc_string = ""
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger(_NOISY_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*deprecated", category=FutureWarning)
            # One batch for all inputs is what is meant.
            warnings.filterwarnings("ignore", message=r".*axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(before)
