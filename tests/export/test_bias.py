"""Biases that take back the mean error of rounded weights."""

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from ecgedge_export.bias import corrected_biases
from ecgedge_export.calibration import tensor_ranges
from ecgedge_export.quant_plan import make_plan
from ecgedge_export.quant_weights import rounded_weights

from .helpers import float_file

LEADS = ("I", "II")


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_the_mean_of_each_channel_is_as_before(run_dir, ecg_mv):
    """By hand, of a dense layer: with rounded weights and the new bias the mean result is the float layer's."""
    exact = float_file(run_dir)
    plan = make_plan(exact, tensor_ranges(exact, ecg_mv[:32], leads=LEADS), flavour="mcu16")
    corrected = corrected_biases(exact, plan, ecg_mv[:32], leads=LEADS)
    before, after = constants(exact), constants(corrected)
    node, now = (
        next(n for n in model.graph.node if n.op_type == "Gemm" and "embedding" in n.output)
        for model in (exact, corrected)
    )
    opened = onnx.ModelProto()
    opened.CopyFrom(exact)
    opened.graph.output.append(
        onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(opened.SerializeToString())
    [x] = session.run([node.input[0]], {"ecg_mv": np.ascontiguousarray(ecg_mv[:32, :2, None])})
    weight, bias = (before[name] for name in node.input[1:])
    rounded = rounded_weights(node, weight, bias, plan).values
    there = (x @ weight.T + bias).mean(axis=0)
    plain = (x @ rounded.T + bias).mean(axis=0)
    here = (x @ rounded.T + after[now.input[2]]).mean(axis=0)
    assert np.abs(plain - there).max() > 1e-3
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert all((after[name] == before[name]).all() for name in before), "what layers share stays"
    named = [n.input[2] for n in corrected.graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) > 2]
    assert len(set(named)) == len(named)
