"""Biases that take back what rounding the weights adds to a layer's output on average.

A rounded weight is off by a constant, so a layer whose inputs have means other than 0 gets an offset, the same for all
windows (Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2;
here with the means of real windows). Centred cosines see it most where embeddings lie close together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ecgedge.leads import standard_rows
from ecgedge.runtime.ort import open_session
from ecgedge_export.onnx_file import INPUT_NAME
from ecgedge_export.quant_plan import WEIGHTED_OPS, QuantPlan, layer_name
from ecgedge_export.quant_weights import rounded_weights

_MEAN_WINDOWS = 256
"""So many at most give the means."""
_BATCH = 16


def corrected_biases(
    model: onnx.ModelProto, plan: QuantPlan, ecg_mv: NDArray[np.float32], *, leads: Sequence[str]
) -> onnx.ModelProto:
    """Return a float graph with such biases in the plan's layers; a layer without a bias stays as it is.

    Parameters
    ----------
    model
        Float, from `export_onnx`.
    plan
        From `make_plan` for this graph.
    ecg_mv
        (N, 12, T) float32 millivolts of the training split.
    leads
        The variant's measured leads.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    layers = [node for node in corrected.graph.node if _has_bias(node, plan)]
    few = -(-len(ecg_mv) // _MEAN_WINDOWS)
    means = _means(model, {node.input[0] for node in layers}, ecg_mv[::few, standard_rows(leads)])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in layers:
        weight, bias = (constants[name] for name in node.input[1:])
        error = weight - rounded_weights(node, weight, bias, plan).values
        offset = _product(error, means[node.input[0]])
        # Under a name of its own: equal biases share one tensor in a torch export.
        node.input[2] = f"{node.output[0]}_bias"
        corrected.graph.initializer.append(
            numpy_helper.from_array((bias + offset).astype(np.float32), node.input[2])
        )
    return corrected


def _has_bias(node: onnx.NodeProto, plan: QuantPlan) -> bool:
    """Whether a node is a layer of the plan, and has a bias."""
    return node.op_type in WEIGHTED_OPS and len(node.input) > 2 and layer_name(node) in plan.layers


def _product(error: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what an error of the weights makes of a constant input, (n_out,)."""
    by_channel = error.reshape(*error.shape[:2], -1).sum(axis=2, dtype=np.float64)
    groups = len(mean) // by_channel.shape[1]
    return np.concatenate(
        [rows @ part for rows, part in zip(np.split(by_channel, groups), np.split(mean, groups), strict=True)]
    )


def _means(
    model: onnx.ModelProto, tensors: set[str], ecg_mv: NDArray[np.float32]
) -> Mapping[str, NDArray[np.float64]]:
    """Return each tensor's mean by channel, over windows and time."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    names = sorted(tensors - {INPUT_NAME})
    present = {value.name for value in opened.graph.output}
    opened.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in present
    )
    session = open_session(opened.SerializeToString(), threads=1, name="bias correction")
    sums: dict[str, NDArray[np.float64]] = {}
    batches = np.array_split(ecg_mv, -(-len(ecg_mv) // _BATCH))
    for batch in batches:
        feed = np.ascontiguousarray(batch[:, :, None])
        for name, value in zip(
            (INPUT_NAME, *names), (feed, *session.run(names, {INPUT_NAME: feed})), strict=True
        ):
            by_channel = value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64).sum(axis=0)
            sums[name] = sums.get(name, 0.0) + by_channel / len(ecg_mv)
    return sums
