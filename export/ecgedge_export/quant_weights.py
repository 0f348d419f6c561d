"""The weights of a quantized layer as integers, and the scale of each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge_export.quant_plan import QuantPlan, layer_name

WEIGHT_LIMIT = 127
_SUM_LIMIT = 2.0**31 - 1


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """A layer's weights as integers, the scale of each output channel, and that of its bias."""

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias_scale: NDArray[np.float32]

    @property
    def values(self) -> NDArray[np.float32]:
        """What the integers are worth."""
        shape = (-1, *[1] * (self.integers.ndim - 1))
        return self.integers * self.scale.reshape(shape)


def rounded_weights(
    node: onnx.NodeProto, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, plan: QuantPlan
) -> RoundedWeights:
    """Round a layer's weights as a plan says.

    Raises
    ------
    EngineError
        If the plan leaves the layer's input in float.
    """
    step = plan.step(node.input[0])
    if step is None:
        raise EngineError(f"the plan quantizes {layer_name(node)}, but not its input {node.input[0]}")
    scale = weight_scale(weight, bias, step, largest_input=plan.largest(node.input[0]))
    integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return RoundedWeights(
        np.clip(integers, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8),
        scale,
        (np.float32(step) * scale).astype(np.float32),
    )


def weight_scale(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    input_scale: float,
    *,
    largest_input: int = 0,
) -> NDArray[np.float32]:
    """Return the scale of each output channel, (n_out,) float32.

    A channel of zeros gets 1. Where the bias would not fit 32 bits at input scale times weight scale (a channel that
    has almost died), or a sum of inputs as far off zero as `largest_input` would not, the scale is as large as they
    need.
    """
    rows = np.abs(weight.reshape(len(weight), -1))
    reach = rows.max(axis=1) / np.float32(WEIGHT_LIMIT)
    sums = rows.sum(axis=1, dtype=np.float64) * largest_input
    if bias is not None:
        reach = np.maximum(reach, np.abs(bias) / np.float32(input_scale * _SUM_LIMIT * 0.5))
        sums += np.abs(bias) / input_scale
    if largest_input:
        # A tenth is left for what rounding adds to the weights.
        reach = np.maximum(reach, sums / (0.9 * _SUM_LIMIT))
    return np.where(reach > 0, reach, 1.0).astype(np.float32)
